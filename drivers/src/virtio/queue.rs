//! [`BlkQueue`]: one queue of a virtio block device.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::device::{Device, Facts, Parts, Step};
use super::memory::QueueMemory;
use super::ring::{Buffer, Lie, Used};
use super::spec::{SECTOR_BYTES, request, status};
use crate::error::Errno;
use crate::mem::Lease;
use crate::queue::{Queue, QueueDead};
use crate::request::{Completion, Operation, Outcome, Request};
use crate::slots::{Key, Slots};
use crate::sys::mmap::MemoryFile;
use crate::sys::poll;

/// Most completions of one `reap`, so that a fast device does not keep its worker from everything else.
const REAP_BOUND: usize = 256;

/// How long a queue that is dropped waits for what is with the device.
const LONGEST_FAREWELL: Duration = Duration::from_secs(10);

/// A request that the queue holds.
#[derive(Debug)]
struct Entry {
    request: Request,
    stage: Stage,
}

/// What of a request is with the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What it asks for.
    Itself,
    /// A flush, which ends this epoch: the request is one, or a write with FUA whose data the device has already.
    Flush(u64),
}

/// What the queue and its device said to each other.
#[derive(Debug, Default)]
struct Counts {
    /// Chains that the device has used.
    chains: u64,
    /// How often the device was told of new ones.
    kicks: u64,
    /// How often it told of used ones.
    calls: u64,
}

/// How the queue reaches the device.
enum Tie {
    Running(Parts),
    /// Requests wait until there is a device again.
    Suspended,
    Dead(QueueDead),
}

/// One queue.
pub(crate) struct BlkQueue {
    device: Arc<Device>,
    index: usize,
    tie: Tie,
    bell: Bell,
    /// The version of the device that the queue has followed, and notices of versions that it has taken.
    seen: u64,
    noticed: u64,
    /// For [`Durability::wrote`](super::durability::Durability::wrote).
    connection: u64,
    slots: Slots<Entry>,
    /// Finished without the device; fetched by the next `reap`.
    ready: Vec<Completion>,
    /// Memory of requests that ended although the device may still write there.
    withheld: Vec<Lease>,
    /// Memory for the chain of one request.
    chain: Vec<Buffer>,
    armed: bool,
    /// When the device last ended a request, or was given one while it had none; kept where that has a bound.
    progress: Option<Instant>,
    told_unanswered: bool,
    counts: Counts,
    /// What keeps the device in service.
    _link: Arc<dyn Any + Send + Sync>,
}

impl BlkQueue {
    /// Queue `index` of the device, which nobody else has.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new(
        device: Arc<Device>,
        index: usize,
        link: Arc<dyn Any + Send + Sync>,
    ) -> io::Result<BlkQueue> {
        let mut queue = BlkQueue {
            index,
            tie: Tie::Suspended,
            bell: Bell::new(device.notice(index))?,
            seen: 0,
            noticed: 1,
            connection: 0,
            slots: Slots::new(device.slots.into()),
            ready: Vec::new(),
            withheld: Vec::new(),
            chain: Vec::new(),
            armed: false,
            progress: None,
            told_unanswered: false,
            counts: Counts::default(),
            _link: link,
            device,
        };
        queue.follow();
        Ok(queue)
    }

    /// Takes a request that has been checked. There is a slot for it.
    fn start(&mut self, request: Request) {
        let is_flush = matches!(request.operation, Operation::Flush);
        let flush_is_nothing = is_flush && !self.device.facts.config.can_flush();
        let is_empty = request.len == 0 && !is_flush;
        if flush_is_nothing || is_empty {
            return self.ready.push(request.complete(Ok(Outcome::Done)));
        }
        let stage = first_stage(&request, &self.device);
        if let Ok(key) = self.slots.insert(Entry { request, stage }) {
            self.send(key);
        }
    }

    /// Puts the chain for what a slot holds into the ring, if there is one.
    fn send(&mut self, key: Key) {
        let (Tie::Running(parts), Some(entry)) = (&mut self.tie, self.slots.get_mut(key)) else { return };
        // There are no more slots than a `u16` counts.
        let slot = key.index() as u16;
        self.chain.clear();
        build(&mut self.chain, &parts.memory, slot, entry, &self.device.facts);
        parts.ring.add(slot, &self.chain);
    }

    /// Shows the device what was added.
    fn publish(&mut self) {
        if let Tie::Running(parts) = &mut self.tie
            && parts.ring.publish()
        {
            parts.kick.signal();
            self.counts.kicks += 1;
        }
    }

    /// Takes what the device has used, up to a bound.
    ///
    /// # Errors
    /// What the device says is impossible.
    fn take_used(&mut self, done: &mut Vec<Completion>) -> Result<(), Lie> {
        for _ in 0..REAP_BOUND {
            let Tie::Running(parts) = &mut self.tie else { break };
            let Some(used) = parts.ring.next_used()? else { break };
            let status = parts.memory.load_status(used.slot);
            self.counts.chains += 1;
            done.extend(self.ended(used, status));
        }
        self.publish();
        Ok(())
    }

    /// Judges a chain that the device has used. Nothing comes of it when the request has another stage.
    fn ended(&mut self, used: Used, status: u8) -> Option<Completion> {
        let key = self.slots.key_at(used.slot.into())?;
        let entry = self.slots.get_mut(key)?;
        let result = match status {
            // A device that has written less left somebody else's data in the lease.
            status::OK if is_short(entry, used.written) => {
                self.tell_unanswered("says that a read succeeded, but has not written all of it");
                Err(Errno::IO)
            }
            status::OK => match next_stage(entry, &self.device, self.connection) {
                Some(stage) => {
                    entry.stage = stage;
                    self.send(key);
                    return None;
                }
                None => Ok(Outcome::Done),
            },
            status::UNSUPPORTED => Err(Errno::NOT_SUPPORTED),
            status::UNANSWERED => {
                self.tell_unanswered("ended a request without a status");
                Err(Errno::IO)
            }
            _ => Err(Errno::IO),
        };
        Some(self.slots.remove(key)?.request.complete(result))
    }

    /// Gives a device up that has ended nothing for too long.
    fn watch_progress(&mut self, has_ended: bool) {
        let Some(most) = self.device.facts.request_timeout else { return };
        match self.progress {
            _ if self.slots.len() == 0 || !matches!(self.tie, Tie::Running(_)) => self.progress = None,
            Some(since) if !has_ended && since.elapsed() > most => {
                let (name, seconds) = (&self.device.facts.name, most.as_secs());
                self.device.die(&format!("{name} has ended no request for {seconds} s"));
            }
            Some(_) if !has_ended => {}
            Some(_) | None => self.progress = Some(Instant::now()),
        }
    }

    fn tell_unanswered(&mut self, what: &str) {
        if !std::mem::replace(&mut self.told_unanswered, true) {
            tracing::warn!("{} {what}; such requests end with input/output errors", self.device.facts.name);
        }
    }

    /// Does what the device's changes ask for.
    fn follow(&mut self) {
        if self.device.version() == self.seen {
            return;
        }
        // What the device had used before it went is taken first. If that is not as it should be, it is sent again.
        let mut done = Vec::new();
        let _ = self.take_used(&mut done);
        self.ready.append(&mut done);
        let order = self.device.order(self.index);
        (self.seen, self.connection) = (order.version, order.connection);
        self.tie = Tie::Suspended;
        // An eventfd that is watched can always be given up.
        let _ = self.bell.listen_to(None);
        if let Err(cause) = self.move_payload(&order.payload) {
            let reason = format!("no memory for going on without {}: {cause}", self.device.facts.name);
            return self.fail(reason, Memory::Theirs);
        }
        match order.step {
            Step::Run(parts) => self.run(parts),
            Step::Wait => {}
            Step::Fail(reason) => {
                self.fail(reason, if order.is_ours { Memory::Ours } else { Memory::Theirs })
            }
        }
    }

    /// Moves the share of this queue's worker to where the devices before have no access. What was withheld from
    /// them is free then.
    fn move_payload(&mut self, to: &Arc<MemoryFile>) -> io::Result<()> {
        if self.device.region.move_share(self.index, to)? {
            self.withheld.clear();
        }
        Ok(())
    }

    /// Goes on with a device that knows nothing of what is in flight: all of it is sent, from the first stage on.
    fn run(&mut self, parts: Parts) {
        if let Err(cause) = self.bell.listen_to(parts.call.clone()) {
            let reason = format!("cannot wait for {}: {cause}", self.device.facts.name);
            return self.fail(reason, Memory::Theirs);
        }
        self.tie = Tie::Running(parts);
        self.armed = false;
        for key in self.slots.keys() {
            if let Some(entry) = self.slots.get_mut(key) {
                entry.stage = first_stage(&entry.request, &self.device);
            }
            self.send(key);
        }
        self.publish();
    }

    /// Ends everything.
    fn fail(&mut self, reason: String, memory: Memory) {
        for entry in self.slots.drain() {
            let request = match memory {
                Memory::Ours => entry.request,
                Memory::Theirs => {
                    let (request, lease) = entry.request.without_lease();
                    self.withheld.extend(lease);
                    request
                }
            };
            self.ready.push(request.complete(Err(Errno::IO)));
        }
        // An eventfd that is watched can always be given up.
        let _ = self.bell.listen_to(None);
        self.tie = Tie::Dead(QueueDead { reason });
    }
}

/// Whether a device may still write to what was lent to it.
#[derive(Clone, Copy, Debug)]
enum Memory {
    Ours,
    Theirs,
}

/// What a request begins with.
fn first_stage(request: &Request, device: &Device) -> Stage {
    match request.operation {
        Operation::Flush => Stage::Flush(device.durability.begin_flush()),
        _ => Stage::Itself,
    }
}

/// What follows the success of a request's stage.
fn next_stage(entry: &Entry, device: &Device, connection: u64) -> Option<Stage> {
    match (entry.stage, &entry.request.operation) {
        (Stage::Flush(epoch), _) => device.durability.flushed(epoch),
        (Stage::Itself, Operation::Write(_) | Operation::WriteZeroes) => {
            // Nobody is told of it before its flush.
            if entry.request.flags.fua && device.facts.limits.flush_needed {
                return Some(Stage::Flush(device.durability.begin_flush()));
            }
            device.durability.wrote(connection);
        }
        (Stage::Itself, _) => {}
    }
    None
}

/// Whether a read has less than its data.
fn is_short(entry: &Entry, written: u32) -> bool {
    matches!(entry.request.operation, Operation::Read(_)) && u64::from(written) < entry.request.len
}

/// Writes header, status and range of a request into its slot, and lists the buffers of its chain.
fn build(chain: &mut Vec<Buffer>, memory: &QueueMemory, slot: u16, entry: &Entry, device: &Facts) {
    let request = &entry.request;
    let sector = request.offset / SECTOR_BYTES;
    if let Stage::Flush(_) = entry.stage {
        return build_flush(chain, memory, slot);
    }
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

fn build_flush(chain: &mut Vec<Buffer>, memory: &QueueMemory, slot: u16) {
    memory.store_header(slot, request::FLUSH, 0);
    memory.store_status(slot, status::UNANSWERED);
    chain.push(Buffer { address: memory.header_address(slot), len: request::HEADER_BYTES, writable: false });
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
        self.follow();
        if let Tie::Dead(dead) = &self.tie {
            return Err(dead.clone());
        }
        let limits = self.device.request_limits();
        while !self.slots.is_full()
            && let Some(request) = todo.pop_front()
        {
            match request.check(&limits) {
                Ok(()) => self.start(request),
                Err(errno) => self.ready.push(request.complete(Err(errno))),
            }
        }
        self.publish();
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        if let (true, Tie::Running(parts)) = (self.armed, &mut self.tie) {
            parts.ring.disarm();
        }
        self.armed = false;
        done.append(&mut self.ready);
        let before = done.len();
        if let Err(lie) = self.take_used(done) {
            tracing::error!("{} is not to be trusted: {lie}", self.device.facts.name);
            let reason = format!("{} broke the rules of the ring: {lie}", self.device.facts.name);
            self.fail(reason, Memory::Theirs);
        }
        self.watch_progress(done.len() > before);
        self.follow();
        done.append(&mut self.ready);
    }

    fn in_flight(&self) -> usize {
        self.slots.len() + self.ready.len()
    }

    fn is_dead(&self) -> bool {
        matches!(self.tie, Tie::Dead(_))
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }

    fn arm(&mut self) -> bool {
        let is_polled = matches!(&self.tie, Tie::Running(parts) if parts.call.is_none());
        if is_polled && self.slots.len() > 0 {
            return true;
        }
        // First the events, then the look: what comes between the two signals again.
        self.counts.calls += self.bell.take_calls();
        if self.noticed < self.seen {
            self.noticed += self.bell.take_notices();
        }
        if !self.ready.is_empty() || self.device.version() != self.seen {
            return true;
        }
        self.armed = true;
        match &mut self.tie {
            Tie::Running(parts) if !is_polled => parts.ring.arm(),
            Tie::Running(_) | Tie::Suspended | Tie::Dead(_) => false,
        }
    }
}

impl Drop for BlkQueue {
    /// Waits for what is with the device, so that no lease is given back while the device may still use it.
    fn drop(&mut self) {
        let started = Instant::now();
        let mut done = Vec::new();
        while let Tie::Running(_) = self.tie
            && self.slots.len() > 0
            && started.elapsed() < LONGEST_FAREWELL
        {
            self.reap(&mut done);
            done.clear();
            if self.slots.len() > 0 && !self.arm() {
                // A failure to wait means: look again, and judge by the clock.
                let _ = poll::readable(self.bell.as_fd(), 100);
            }
        }
        if let Tie::Running(_) = self.tie
            && self.slots.len() > 0
        {
            tracing::error!(
                "{} did not end {} requests; their memory is given up",
                self.device.facts.name,
                self.slots.len()
            );
            self.fail("the queue was closed".into(), Memory::Theirs);
        }
        let Counts { chains, kicks, calls } = self.counts;
        let name = &self.device.facts.name;
        tracing::debug!(chains, kicks, calls, "queue {} of {name} ends", self.index);
        // It stays on loan for ever: the device may still write there.
        self.withheld.drain(..).for_each(std::mem::forget);
    }
}
