//! [`BlkQueue`]: one queue of a virtio block device.

use std::any::Any;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::config::BlkConfig;
use super::memory::QueueMemory;
use super::ring::{Buffer, Lie, Ring, Used};
use super::spec::{SECTOR_BYTES, request, status};
use crate::error::Errno;
use crate::limits::Limits;
use crate::queue::{Queue, QueueDead};
use crate::request::{Completion, Operation, Outcome, Request};
use crate::slots::Slots;
use crate::sys::eventfd::EventFd;
use crate::sys::poll;

/// Most completions of one `reap`, so that a fast device does not keep its worker from everything else.
const REAP_BOUND: usize = 256;

/// How long a queue that is dropped waits for what is with the device.
const LONGEST_FAREWELL: Duration = Duration::from_secs(10);

/// What the queues of a device share.
#[derive(Debug)]
pub(crate) struct Device {
    /// What messages call it.
    pub(crate) name: String,
    pub(crate) config: BlkConfig,
    pub(crate) limits: Limits,
    /// What the device calls the beginning of the payload memory.
    pub(crate) payload_address: u64,
    dead: AtomicBool,
    reason: Mutex<String>,
}

impl Device {
    pub(crate) fn new(name: String, config: BlkConfig, limits: Limits, payload_address: u64) -> Device {
        let (dead, reason) = (AtomicBool::new(false), Mutex::new(String::new()));
        Device { name, config, limits, payload_address, dead, reason }
    }

    /// The device is gone: every queue fails what it holds, when it is woken.
    pub(crate) fn die(&self, reason: &str) {
        reason.clone_into(&mut self.reason.lock().unwrap_or_else(PoisonError::into_inner));
        self.dead.store(true, Ordering::Release);
    }

    /// Whether it is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Why it is gone.
    pub(crate) fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a queue is made of. Made where the device is, used on the thread of the queue.
pub(crate) struct Parts {
    pub(crate) ring: Box<dyn Ring + Send>,
    pub(crate) memory: QueueMemory,
    /// Tells the device of new chains.
    pub(crate) kick: Arc<EventFd>,
    /// The device tells of used chains.
    pub(crate) call: Arc<EventFd>,
    /// Used chains are looked for; the device never calls.
    pub(crate) polled: bool,
}

/// One queue.
pub(crate) struct BlkQueue {
    device: Arc<Device>,
    parts: Parts,
    slots: Slots<Request>,
    /// Finished without the device; fetched by the next `reap`.
    ready: Vec<Completion>,
    /// Memory for the chain of one request.
    chain: Vec<Buffer>,
    armed: bool,
    dead: Option<QueueDead>,
    told_unanswered: bool,
    /// What keeps the device in service.
    _link: Arc<dyn Any + Send + Sync>,
}

impl BlkQueue {
    pub(crate) fn new(device: Arc<Device>, parts: Parts, link: Arc<dyn Any + Send + Sync>) -> BlkQueue {
        let slots = Slots::new(parts.ring.slots().into());
        BlkQueue {
            device,
            parts,
            slots,
            ready: Vec::new(),
            chain: Vec::new(),
            armed: false,
            dead: None,
            told_unanswered: false,
            _link: link,
        }
    }

    /// Takes a request that has been checked. There is a slot for it.
    fn start(&mut self, request: Request) {
        let flush_is_nothing =
            matches!(request.operation, Operation::Flush) && !self.device.config.can_flush();
        let is_empty = request.len == 0 && !matches!(request.operation, Operation::Flush);
        if flush_is_nothing || is_empty {
            return self.ready.push(request.complete(Ok(Outcome::Done)));
        }
        let Ok(key) = self.slots.insert(request) else { return };
        // There are no more slots than a `u16` counts.
        let slot = key.index() as u16;
        let Some(request) = self.slots.get_mut(key) else { return };
        self.chain.clear();
        build(&mut self.chain, &self.parts.memory, slot, request, &self.device);
        self.parts.ring.add(slot, &self.chain);
    }

    /// Judges a chain that the device has used.
    fn ended(&mut self, used: Used) -> Option<Completion> {
        let key = self.slots.key_at(used.slot.into())?;
        let request = self.slots.remove(key)?;
        let result = match self.parts.memory.load_status(used.slot) {
            // A device that has written less left somebody else's data in the lease.
            status::OK if is_short(&request, used.written) => {
                self.tell_unanswered("says that a read succeeded, but has not written all of it");
                Err(Errno::IO)
            }
            status::OK => Ok(Outcome::Done),
            status::UNSUPPORTED => Err(Errno::NOT_SUPPORTED),
            status::UNANSWERED => {
                self.tell_unanswered("ended a request without a status");
                Err(Errno::IO)
            }
            _ => Err(Errno::IO),
        };
        Some(request.complete(result))
    }

    fn tell_unanswered(&mut self, what: &str) {
        if !std::mem::replace(&mut self.told_unanswered, true) {
            tracing::warn!("{} {what}; such requests end with input/output errors", self.device.name);
        }
    }

    /// Ends everything. The device may still write to the memory it was lent, which is therefore given up.
    fn fail(&mut self, reason: String) {
        for request in self.slots.drain() {
            self.ready.push(request.abandon_lease().complete(Err(Errno::IO)));
        }
        self.dead = Some(QueueDead { reason });
    }

    fn fail_if_gone(&mut self) {
        if self.dead.is_none() && self.device.is_dead() {
            self.fail(self.device.reason());
        }
    }

    fn fail_for(&mut self, lie: &Lie) {
        tracing::error!("{} is not to be trusted: {lie}", self.device.name);
        self.fail(format!("{} broke the rules of the ring: {lie}", self.device.name));
    }
}

/// Whether a read has less than its data.
fn is_short(request: &Request, written: u32) -> bool {
    matches!(request.operation, Operation::Read(_)) && u64::from(written) < request.len
}

/// Writes header, status and range of a request into its slot, and lists the buffers of its chain.
fn build(chain: &mut Vec<Buffer>, memory: &QueueMemory, slot: u16, request: &Request, device: &Device) {
    let sector = request.offset / SECTOR_BYTES;
    let kind = match request.operation {
        Operation::Read(_) => request::IN,
        Operation::Write(_) => request::OUT,
        Operation::Discard => request::DISCARD,
        Operation::WriteZeroes => request::WRITE_ZEROES,
        Operation::Flush | Operation::BlockStatus => request::FLUSH,
    };
    let is_range = matches!(request.operation, Operation::Discard | Operation::WriteZeroes);
    memory.store_header(slot, kind, if is_range { 0 } else { sector });
    memory.store_status(slot, status::UNANSWERED);
    chain.push(Buffer { address: memory.header_address(slot), len: request::HEADER_BYTES, writable: false });
    match &request.operation {
        Operation::Read(lease) | Operation::Write(lease) => {
            let writable = matches!(request.operation, Operation::Read(_));
            let start = device.payload_address + lease.region_offset() as u64;
            // A lease is far shorter than 4 GiB, and `Request::check` bounded the length by the lease.
            push_data(chain, start, request.len as u32, device.config.segment_bytes(), writable);
        }
        Operation::Discard | Operation::WriteZeroes => {
            let unmap = matches!(request.operation, Operation::WriteZeroes)
                && !request.flags.no_unmap
                && device.config.may_unmap();
            let flags = if unmap { request::FLAG_UNMAP } else { 0 };
            // The limits keep the number of sectors below 2^32.
            memory.store_range(slot, sector, (request.len / SECTOR_BYTES) as u32, flags);
            let address = memory.range_address(slot);
            chain.push(Buffer { address, len: request::RANGE_BYTES, writable: false });
        }
        Operation::Flush | Operation::BlockStatus => {}
    }
    chain.push(Buffer { address: memory.status_address(slot), len: 1, writable: true });
}

/// Lists payload in pieces that the device takes; `most` 0 means of any length.
fn push_data(chain: &mut Vec<Buffer>, start: u64, len: u32, most: u32, writable: bool) {
    let most = if most == 0 { len } else { most };
    let mut done = 0;
    while done < len {
        let piece = (len - done).min(most);
        chain.push(Buffer { address: start + u64::from(done), len: piece, writable });
        done += piece;
    }
}

impl Queue for BlkQueue {
    fn submit(&mut self, todo: &mut VecDeque<Request>) -> Result<(), QueueDead> {
        self.fail_if_gone();
        if let Some(dead) = &self.dead {
            return Err(dead.clone());
        }
        while !self.slots.is_full()
            && let Some(request) = todo.pop_front()
        {
            match request.check(&self.device.limits) {
                Ok(()) => self.start(request),
                Err(errno) => self.ready.push(request.complete(Err(errno))),
            }
        }
        if self.parts.ring.publish() {
            self.parts.kick.signal();
        }
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        if std::mem::replace(&mut self.armed, false) {
            self.parts.ring.disarm();
        }
        done.append(&mut self.ready);
        if self.dead.is_none() {
            for _ in 0..REAP_BOUND {
                match self.parts.ring.next_used() {
                    Ok(Some(used)) => done.extend(self.ended(used)),
                    Ok(None) => break,
                    Err(lie) => {
                        self.fail_for(&lie);
                        break;
                    }
                }
            }
        }
        // What the device had used before it went is taken first.
        self.fail_if_gone();
        done.append(&mut self.ready);
    }

    fn in_flight(&self) -> usize {
        self.slots.len() + self.ready.len()
    }

    fn is_dead(&self) -> bool {
        self.dead.is_some()
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        if self.parts.polled { None } else { Some(self.parts.call.as_fd()) }
    }

    fn arm(&mut self) -> bool {
        if self.parts.polled {
            return self.in_flight() > 0;
        }
        // First the event, then the look: what comes between the two signals again.
        self.parts.call.reset();
        if !self.ready.is_empty() || (self.dead.is_none() && self.device.is_dead()) {
            return true;
        }
        self.armed = true;
        self.parts.ring.arm()
    }
}

impl Drop for BlkQueue {
    /// Waits for what is with the device, so that no lease is given back while the device may still use it.
    fn drop(&mut self) {
        let started = Instant::now();
        let mut done = Vec::new();
        while self.slots.len() > 0 && self.dead.is_none() && started.elapsed() < LONGEST_FAREWELL {
            self.reap(&mut done);
            done.clear();
            if self.slots.len() > 0 && self.dead.is_none() && !self.arm() {
                // A failure to wait means: look again, and judge by the clock.
                let _ = poll::readable(self.parts.call.as_fd(), 100);
            }
        }
        if self.slots.len() > 0 {
            tracing::error!(
                "{} did not end {} requests; their memory is given up",
                self.device.name,
                self.slots.len()
            );
            self.fail("the queue was closed".into());
        }
    }
}
