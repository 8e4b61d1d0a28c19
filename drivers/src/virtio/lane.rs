//! [`BlkLane`]: requests of this crate as chains in a ring, and back (VIRTIO 1.2, section 5.2.6 "Device Operation").

use std::sync::Arc;

use super::config::BlkConfig;
use super::kick::Kick;
use super::memory::QueueMemory;
use super::ring::{Buffer, Ring};
use super::spec::{SECTOR_BYTES, request, status};
use crate::device::lane::{Ended, Errand, Lane, Lie, Verdict};
use crate::error::Errno;
use crate::request::{Operation, Request};
use crate::sys::eventfd::EventFd;

/// What a queue is made of. Made where the device is, used on the thread of the queue.
pub(crate) struct Parts {
    pub(crate) ring: Box<dyn Ring + Send>,
    pub(crate) memory: QueueMemory,
    /// Tells the device of new chains.
    pub(crate) kick: Kick,
    /// The device tells of used chains; `None`: the queue is polled.
    pub(crate) call: Option<Arc<EventFd>>,
}

/// One queue of a block device.
pub(crate) struct BlkLane {
    parts: Parts,
    config: BlkConfig,
    /// What the device calls the beginning of the payload memory.
    payload_address: u64,
    /// Memory for the chain of one request.
    chain: Vec<Buffer>,
}

/// The lanes of a device with this configuration.
pub(crate) fn lanes(parts: Vec<Parts>, config: BlkConfig, payload_address: u64) -> Vec<Box<dyn Lane>> {
    let lane =
        |parts| Box::new(BlkLane { parts, config, payload_address, chain: Vec::new() }) as Box<dyn Lane>;
    parts.into_iter().map(lane).collect()
}

impl BlkLane {
    /// Writes header, status and range of a request into its slot, and lists the buffers of its chain.
    fn build(&mut self, slot: u16, asked: &Request) {
        let sector = asked.offset / SECTOR_BYTES;
        let kind = match asked.operation {
            Operation::Read(_) => request::IN,
            Operation::Write(_) => request::OUT,
            Operation::Discard => request::DISCARD,
            Operation::WriteZeroes => request::WRITE_ZEROES,
            Operation::Flush | Operation::BlockStatus => request::FLUSH,
        };
        let is_range = matches!(asked.operation, Operation::Discard | Operation::WriteZeroes);
        self.begin(slot, kind, if is_range { 0 } else { sector });
        match &asked.operation {
            Operation::Read(lease) | Operation::Write(lease) => {
                let writable = matches!(asked.operation, Operation::Read(_));
                let start = self.payload_address + lease.region_offset() as u64;
                // A lease is far shorter than 4 GiB, and `Request::check` bounded the length by the lease.
                push_data(&mut self.chain, start, asked.len as u32, self.config.segment_bytes(), writable);
            }
            Operation::Discard | Operation::WriteZeroes => {
                let unmap = matches!(asked.operation, Operation::WriteZeroes)
                    && !asked.flags.no_unmap
                    && self.config.may_unmap();
                let flags = if unmap { request::FLAG_UNMAP } else { 0 };
                let memory = &self.parts.memory;
                // The limits keep the number of sectors below 2^32.
                memory.store_range(slot, sector, (asked.len / SECTOR_BYTES) as u32, flags);
                let address = memory.range_address(slot);
                self.chain.push(Buffer { address, len: request::RANGE_BYTES, writable: false });
            }
            Operation::Flush | Operation::BlockStatus => {}
        }
        self.end(slot);
    }

    /// Begins a chain with the header.
    fn begin(&mut self, slot: u16, kind: u32, sector: u64) {
        let memory = &self.parts.memory;
        memory.store_header(slot, kind, sector);
        memory.store_status(slot, status::UNANSWERED);
        let address = memory.header_address(slot);
        self.chain.clear();
        self.chain.push(Buffer { address, len: request::HEADER_BYTES, writable: false });
    }

    /// Ends a chain with the status.
    fn end(&mut self, slot: u16) {
        let address = self.parts.memory.status_address(slot);
        self.chain.push(Buffer { address, len: 1, writable: true });
    }
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

impl Lane for BlkLane {
    fn slots(&self) -> u16 {
        self.parts.ring.slots()
    }

    fn send(&mut self, slot: u16, errand: Errand<'_>) {
        match errand {
            Errand::Request(asked) => self.build(slot, asked),
            Errand::Flush => {
                self.begin(slot, request::FLUSH, 0);
                self.end(slot);
            }
        }
        self.parts.ring.add(slot, &self.chain);
    }

    fn publish(&mut self) -> bool {
        let wanted = self.parts.ring.publish();
        if wanted {
            self.parts.kick.signal();
        }
        wanted
    }

    fn next_ended(&mut self) -> Result<Option<Ended>, Lie> {
        let Some(used) = self.parts.ring.next_used()? else { return Ok(None) };
        let verdict = match self.parts.memory.load_status(used.slot) {
            status::OK => Verdict::Done { written: Some(used.written) },
            status::UNSUPPORTED => Verdict::Failed(Errno::NOT_SUPPORTED),
            status::UNANSWERED => Verdict::Unanswered,
            _ => Verdict::Failed(Errno::IO),
        };
        Ok(Some(Ended { slot: used.slot, verdict }))
    }

    fn arm(&mut self) -> bool {
        self.parts.ring.arm()
    }

    fn disarm(&mut self) {
        self.parts.ring.disarm();
    }

    fn call(&self) -> Option<&Arc<EventFd>> {
        self.parts.call.as_ref()
    }
}
