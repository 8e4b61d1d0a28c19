//! The requests of one connection that are in flight.

use std::time::Instant;

use anyhow::{Context, ensure};

/// One place for a request; its index is part of the cookie.
#[derive(Debug, Clone, Default)]
struct Slot {
    cookie: u64,
    busy: bool,
    offset: u64,
    received_bytes: u32,
    issued: Option<Instant>,
}

/// A fixed number of slots.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    idle: Vec<usize>,
    issued_count: u64,
    block_bytes: u32,
}

/// Bits of a cookie that hold the slot's index; the others count requests, so that a stale reply is noticed.
const INDEX_BITS: u32 = 16;

impl Slots {
    /// Slots for `depth` requests of `block_bytes` each.
    pub(crate) fn new(depth: usize, block_bytes: u32) -> Self {
        debug_assert!(depth <= 1 << INDEX_BITS, "the index must fit its part of the cookie");
        Self { slots: vec![Slot::default(); depth], idle: (0..depth).collect(), issued_count: 0, block_bytes }
    }

    /// Number of slots.
    pub(crate) fn depth(&self) -> usize {
        self.slots.len()
    }

    /// Number of requests in flight.
    pub(crate) fn busy_count(&self) -> usize {
        self.slots.len() - self.idle.len()
    }

    /// Takes a slot for a request at `offset`; gives its cookie, or nothing when all are in flight.
    pub(crate) fn take(&mut self, offset: u64, issued: Option<Instant>) -> Option<u64> {
        let index = self.idle.pop()?;
        self.issued_count += 1;
        let cookie = self.issued_count << INDEX_BITS | index as u64;
        self.slots[index] = Slot { cookie, busy: true, offset, received_bytes: 0, issued };
        Some(cookie)
    }

    /// The slot of the request that `cookie` names.
    ///
    /// # Errors
    /// No such request is in flight.
    pub(crate) fn find(&self, cookie: u64) -> anyhow::Result<usize> {
        let index = (cookie & ((1 << INDEX_BITS) - 1)) as usize;
        let slot = self.slots.get(index).with_context(|| format!("reply with unknown cookie {cookie:#x}"))?;
        ensure!(slot.busy && slot.cookie == cookie, "reply with cookie {cookie:#x}, which is not in flight");
        Ok(index)
    }

    /// Offset of the request in slot `index`.
    pub(crate) fn offset(&self, index: usize) -> u64 {
        self.slots[index].offset
    }

    /// Notes that a payload of `len` bytes for `offset` begins.
    ///
    /// # Errors
    /// The payload is not inside the request, or cannot be checked because it is not made of whole words.
    pub(crate) fn receive(&mut self, index: usize, offset: u64, len: u32) -> anyhow::Result<()> {
        let slot = &mut self.slots[index];
        let end = slot.offset + u64::from(self.block_bytes);
        let inside = offset >= slot.offset && offset.checked_add(u64::from(len)).is_some_and(|to| to <= end);
        ensure!(inside, "payload of {len} bytes at {offset:#x} for a request at {:#x}", slot.offset);
        ensure!(
            offset.is_multiple_of(8) && len.is_multiple_of(8),
            "payload of {len} bytes at {offset:#x}: no words"
        );
        slot.received_bytes = slot.received_bytes.saturating_add(len);
        Ok(())
    }

    /// Ends the request in slot `index`, which must have received `payload_bytes`; gives the instant of its issue.
    ///
    /// # Errors
    /// The server sent more or less.
    pub(crate) fn finish(&mut self, index: usize, payload_bytes: u32) -> anyhow::Result<Option<Instant>> {
        let slot = &mut self.slots[index];
        let received = slot.received_bytes;
        ensure!(
            received == payload_bytes,
            "reply with {received} bytes of payload instead of {payload_bytes}"
        );
        slot.busy = false;
        self.idle.push(index);
        Ok(slot.issued.take())
    }
}
