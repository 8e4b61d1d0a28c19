//! [`NvmeLane`]: requests of this crate as commands in a pair of queues, and back.

use std::sync::Arc;

use super::pair::Pair;
use crate::device::lane::{Ended, Errand, Lane, Lie};
use crate::nvme::command::DataPointer;
use crate::nvme::errand::{Data, Dialect};
use crate::sys::eventfd::EventFd;

/// One pair of queues of a disk.
pub(super) struct NvmeLane {
    pub(super) pair: Pair,
    pub(super) dialect: Dialect,
    /// What the controller calls the beginning of the payload memory.
    pub(super) payload_address: u64,
    /// The controller calls by this; `None`: the queue is polled.
    pub(super) call: Option<Arc<EventFd>>,
}

impl NvmeLane {
    /// Where a payload lies, in the controller's pages. The payload memory is in one piece for it.
    fn pages(&mut self, slot: u16, region_offset: usize, len: u64) -> DataPointer {
        let page = self.pair.memory.layout.page_bytes as u64;
        let prp1 = self.payload_address + region_offset as u64;
        let second = (prp1 / page + 1) * page;
        let end = prp1 + len;
        if end <= second {
            return DataPointer { prp1, prp2: 0 };
        }
        if end <= second + page {
            return DataPointer { prp1, prp2: second };
        }
        for (index, address) in (second..end).step_by(page as usize).enumerate() {
            self.pair.memory.store_list_entry(slot, index, address);
        }
        DataPointer { prp1, prp2: self.pair.memory.list_address(slot) }
    }
}

impl Lane for NvmeLane {
    fn slots(&self) -> u16 {
        self.pair.memory.layout.slots()
    }

    fn send(&mut self, slot: u16, errand: Errand<'_>) {
        let (command, data) = self.dialect.command(errand);
        let data = match data {
            Data::None => DataPointer::default(),
            Data::Payload(lease, len) => self.pages(slot, lease.region_offset(), len),
            Data::Range(range) => DataPointer { prp1: self.pair.memory.store_range(slot, range), prp2: 0 },
        };
        self.pair.send(slot, &command, data);
    }

    fn publish(&mut self) -> bool {
        self.pair.publish()
    }

    fn next_ended(&mut self) -> Result<Option<Ended>, Lie> {
        let Some(completed) = self.pair.next_completion()? else { return Ok(None) };
        let verdict = self.dialect.verdict(completed.slot, completed.status);
        Ok(Some(Ended { slot: completed.slot, verdict }))
    }

    /// Interrupts cannot be suppressed, but one that was sent for what was taken meanwhile does no harm.
    fn arm(&mut self) -> bool {
        self.pair.has_completion()
    }

    fn disarm(&mut self) {}

    fn call(&self) -> Option<&Arc<EventFd>> {
        self.call.as_ref()
    }
}
