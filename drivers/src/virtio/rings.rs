//! [`Rings`]: the memory of a device's queues, and the first request on them.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kick::Kick;
use super::lane::Parts;
use super::memory::{Layout, QueueMemory};
use super::ring::{Buffer, new_ring};
use super::serial;
use super::spec::request;
use crate::error::Error;
use crate::mem::{Region, place};
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::{Mapping, MemoryFile};
use crate::sys::poll;

/// How long a device may take to tell its serial number.
const SERIAL_PATIENCE: Duration = Duration::from_secs(5);

/// How many queues there are, and of what kind. The same for every connection of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queues {
    pub(crate) count: usize,
    /// The first so many of them are polled.
    pub(crate) polled: usize,
    pub(crate) layout: Layout,
}

/// The memory of all rings, with room for the answer to the first request behind them.
pub(crate) struct Rings {
    pub(crate) file: MemoryFile,
    mapping: Arc<Mapping>,
    queues: Queues,
    /// What the device calls the beginning of the memory.
    address: u64,
}

impl Rings {
    /// Memory for so many rings, which the device sees at `address`.
    ///
    /// # Errors
    /// What the system answered to the request for memory.
    pub(crate) fn new(queues: Queues, address: u64) -> std::io::Result<Rings> {
        let file = MemoryFile::new(c"gateway-rings", Rings::len_bytes(queues))?;
        let mapping = Arc::new(Mapping::of(&file)?);
        Ok(Rings { file, mapping, queues, address })
    }

    /// Length of that memory.
    pub(crate) fn len_bytes(queues: Queues) -> usize {
        queues.layout.len_bytes() * queues.count + request::ID_BYTES.next_multiple_of(4096)
    }

    /// That memory.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// A fresh ring, about which the device is told by `kick`.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn parts(&self, index: usize, event_idx: bool, kick: Kick) -> Result<Parts, Error> {
        let layout = self.queues.layout;
        let memory = QueueMemory::new(self.mapping.clone(), index * layout.len_bytes(), self.address, layout);
        let ring = new_ring(memory.clone(), event_idx);
        let call = if index < self.queues.polled { None } else { Some(new_event()?) };
        Ok(Parts { ring, memory, kick, call })
    }

    /// Asks for the serial number, on a queue that nobody uses yet; empty if the device has none. What becomes readable
    /// when the device is gone is `gone`.
    ///
    /// # Errors
    /// The device does not answer, or not by the rules: it could not be served.
    pub(crate) fn ask_serial(
        &self,
        parts: &mut Parts,
        gone: Option<BorrowedFd<'_>>,
        name: &str,
        until: Instant,
    ) -> Result<String, Error> {
        let at = self.queues.layout.len_bytes() * self.queues.count;
        let address = self.address + at as u64;
        serial::ask(
            &parts.memory,
            &mut *parts.ring,
            Buffer { address, len: request::ID_BYTES as u32, writable: true },
        );
        if parts.ring.publish() {
            parts.kick.signal();
        }
        let started = Instant::now();
        let until = until.min(started + SERIAL_PATIENCE);
        while Instant::now() < until {
            match parts.ring.next_used() {
                Ok(Some(_)) => {
                    parts.ring.disarm();
                    let Some(answer) = self.mapping.slice(at, request::ID_BYTES) else { break };
                    return Ok(serial::answer(&parts.memory, &answer));
                }
                Ok(None) if parts.call.is_some() && parts.ring.arm() => {}
                Ok(None) => {
                    let call = parts.call.as_ref().map(|call| call.as_fd());
                    let files: Vec<_> = gone.into_iter().chain(call).collect();
                    let pause = Duration::from_millis(if parts.call.is_some() { 100 } else { 1 });
                    // A failure to wait means: look again, and judge by the clock.
                    let ready = poll::first(&files, Some(pause)).ok().flatten();
                    if gone.is_some() && ready.is_some_and(|ready| ready.index == 0) {
                        return Err(Error::device(format!("{name} is gone: it has closed the connection")));
                    }
                    if let Some(call) = &parts.call {
                        call.reset();
                    }
                }
                Err(lie) => return Err(Error::device(format!("{name} broke the rules of its queue: {lie}"))),
            }
        }
        let seconds = started.elapsed().as_secs().max(1);
        Err(Error::device(format!("{name} has not answered a request for {seconds} s"))
            .hint("it is connected, but does not serve its queues"))
    }
}

/// Where rings and payloads may lie for a device that reaches these ranges of addresses, first and last of each.
///
/// # Errors
/// There is no room. `name` is what messages call the device.
pub(crate) fn place(
    ranges: &[(u64, u64)],
    queues: Queues,
    region: &Region,
    name: &str,
) -> Result<(u64, u64), Error> {
    match place::place(ranges, [Rings::len_bytes(queues), region.len_bytes()]) {
        Some([rings, payloads]) => Ok((rings, payloads)),
        None => {
            let mebibytes = region.len_bytes() >> 20;
            Err(Error::device(format!("{name} cannot reach {mebibytes} MiB of memory"))
                .hint("use less: --memory"))
        }
    }
}

/// An event to share with a device.
///
/// # Errors
/// No descriptors left.
pub(crate) fn new_event() -> Result<Arc<EventFd>, Error> {
    EventFd::new().map(Arc::new).map_err(|cause| Error::system("make an event", &cause))
}
