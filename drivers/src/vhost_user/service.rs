//! From a negotiated connection to queues that run: memory, rings, events, and the first request.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::{GivenQueue, Link, Memory};
use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::{Mapping, MemoryFile};
use crate::sys::poll;
use crate::virtio::device::Parts;
use crate::virtio::memory::{Layout, QueueMemory};
use crate::virtio::ring::{Buffer, new_ring};
use crate::virtio::serial;
use crate::virtio::spec::{feature, request};

/// Where the device sees rings and payloads: anywhere but at 0, and apart.
const RINGS_ADDRESS: u64 = 1 << 32;
pub(super) const PAYLOAD_ADDRESS: u64 = 1 << 40;

/// How long a device may take to tell its serial number.
const SERIAL_PATIENCE: Duration = Duration::from_secs(5);

/// How many queues there are, and of what kind. The same for every connection of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queues {
    pub(super) count: usize,
    /// The first so many of them are polled.
    pub(super) polled: usize,
    pub(super) layout: Layout,
}

/// Queues that run.
pub(super) struct Service {
    pub(super) parts: Vec<Parts>,
    /// The device's serial number; empty if it has none.
    pub(super) serial: String,
}

/// Gives the back-end new rings, new events and the memory of the payloads, starts the queues, and asks for the serial
/// number on the first one, which shows that the back-end serves it. All of it until then.
///
/// # Errors
/// The system has no memory or descriptors left, the back-end refuses something, or it does not answer.
pub(super) fn start(
    link: &mut Link,
    name: &str,
    queues: Queues,
    payload: &MemoryFile,
    until: Instant,
) -> Result<Service, Error> {
    let rings =
        Rings::new(queues).map_err(|cause| Error::system(format!("make the memory for {name}"), &cause))?;
    let event_idx = link.has(feature::EVENT_IDX) && queues.polled == 0;
    let mut parts =
        (0..queues.count).map(|index| rings.parts(index, event_idx)).collect::<Result<Vec<_>, Error>>()?;
    let memories = [
        Memory { file: rings.file.as_fd(), len_bytes: rings.file.len_bytes(), address: RINGS_ADDRESS },
        Memory { file: payload.as_fd(), len_bytes: payload.len_bytes(), address: PAYLOAD_ADDRESS },
    ];
    let given: Vec<GivenQueue<'_>> = parts
        .iter()
        .map(|parts| GivenQueue { memory: &parts.memory, kick: &parts.kick, call: parts.call.as_deref() })
        .collect();
    link.start(&memories, &given, until)?;
    let serial = rings.ask_serial(&mut parts[0], link, name, until)?;
    Ok(Service { parts, serial })
}

/// The memory of all rings, with room for the answer to the first request behind them.
struct Rings {
    file: MemoryFile,
    mapping: Arc<Mapping>,
    queues: Queues,
}

impl Rings {
    fn new(queues: Queues) -> std::io::Result<Rings> {
        let len = queues.layout.len_bytes() * queues.count + request::ID_BYTES.next_multiple_of(4096);
        let file = MemoryFile::new(c"gateway-rings", len)?;
        let mapping = Arc::new(Mapping::of(&file)?);
        Ok(Rings { file, mapping, queues })
    }

    fn parts(&self, index: usize, event_idx: bool) -> Result<Parts, Error> {
        let layout = self.queues.layout;
        let memory =
            QueueMemory::new(self.mapping.clone(), index * layout.len_bytes(), RINGS_ADDRESS, layout);
        let event = || EventFd::new().map(Arc::new).map_err(|cause| Error::system("make an event", &cause));
        let ring = new_ring(memory.clone(), event_idx);
        let call = if index < self.queues.polled { None } else { Some(event()?) };
        Ok(Parts { ring, memory, kick: event()?, call })
    }

    /// Asks for the serial number, on a queue that nobody uses yet; empty if the device has none.
    ///
    /// # Errors
    /// The device does not answer, or not by the rules: it could not be served.
    fn ask_serial(
        &self,
        parts: &mut Parts,
        link: &Link,
        name: &str,
        until: Instant,
    ) -> Result<String, Error> {
        let at = self.queues.layout.len_bytes() * self.queues.count;
        let address = RINGS_ADDRESS + at as u64;
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
                    let mut files = vec![link.socket.as_fd()];
                    files.extend(parts.call.as_ref().map(|call| call.as_fd()));
                    let pause = Duration::from_millis(if parts.call.is_some() { 100 } else { 1 });
                    // A failure to wait means: look again, and judge by the clock.
                    if let Ok(Some(poll::Ready { index: 0, .. })) = poll::first(&files, Some(pause)) {
                        return Err(Error::device(format!("{name} is gone: it has closed the connection")));
                    }
                    if let Some(call) = &parts.call {
                        call.reset();
                    }
                }
                Err(lie) => return Err(Error::device(format!("{name} broke the rules of the ring: {lie}"))),
            }
        }
        let seconds = started.elapsed().as_secs().max(1);
        Err(Error::device(format!("{name} has not answered a request for {seconds} s"))
            .hint("it is connected, but does not serve its queues"))
    }
}
