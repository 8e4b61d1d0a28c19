//! From a negotiated connection to queues that run: memory, rings, events, and the first request.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::link::{GivenQueue, Link, Memory};
use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::MemoryFile;
use crate::virtio::kick::Kick;
use crate::virtio::lane::Parts;
use crate::virtio::rings::{Queues, Rings, new_event};
use crate::virtio::spec::feature;

/// Where the device sees rings and payloads: anywhere but at 0, and apart.
const RINGS_ADDRESS: u64 = 1 << 32;
pub(super) const PAYLOAD_ADDRESS: u64 = 1 << 40;

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
    let rings = Rings::new(queues, RINGS_ADDRESS)
        .map_err(|cause| Error::system(format!("make the memory for {name}"), &cause))?;
    let event_idx = link.has(feature::EVENT_IDX) && queues.polled == 0;
    let kicks = (0..queues.count).map(|_| new_event()).collect::<Result<Vec<_>, Error>>()?;
    let new_parts =
        |(index, kick): (usize, &Arc<EventFd>)| rings.parts(index, event_idx, Kick::Event(kick.clone()));
    let mut parts = kicks.iter().enumerate().map(new_parts).collect::<Result<Vec<_>, Error>>()?;
    let memories = [
        Memory { file: rings.file.as_fd(), len_bytes: rings.file.len_bytes(), address: RINGS_ADDRESS },
        Memory { file: payload.as_fd(), len_bytes: payload.len_bytes(), address: PAYLOAD_ADDRESS },
    ];
    let given: Vec<GivenQueue<'_>> = parts
        .iter()
        .zip(&kicks)
        .map(|(parts, kick)| GivenQueue { memory: &parts.memory, kick, call: parts.call.as_deref() })
        .collect();
    link.start(&memories, &given, until)?;
    let serial = rings.ask_serial(&mut parts[0], Some(link.socket.as_fd()), name, until)?;
    Ok(Service { parts, serial })
}
