//! [`Lease`]: a buffer on loan.

use std::rc::Rc;

use vm_memory::VolatileSlice;

use super::pool::{Shared, Slot};

/// A buffer on loan from a [`Pool`](super::Pool): page aligned, inside the device's region, returned when dropped.
///
/// Whoever holds the lease may let a device write to it. It is dropped only after the device's terminal completion,
/// which is why a queue keeps the lease of every request it has taken.
#[derive(Debug)]
pub struct Lease {
    pool: Rc<Shared>,
    offset: usize,
    len: usize,
    slot: Slot,
}

impl Lease {
    pub(super) fn new(pool: Rc<Shared>, offset: usize, len: usize, slot: Slot) -> Lease {
        Lease { pool, offset, len, slot }
    }

    /// Length in bytes; at least what was asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether all of it was skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the lease begins in its region, in bytes.
    #[must_use]
    pub fn region_offset(&self) -> usize {
        self.offset
    }

    /// Gives up the first `len` bytes (at most all): the lease begins behind them from now on. They stay on loan until
    /// the whole lease is dropped.
    pub fn skip(&mut self, len: usize) {
        let len = len.min(self.len);
        self.offset += len;
        self.len -= len;
    }

    /// The bytes `start..start + len` of the lease; cut off at its end.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> VolatileSlice<'_> {
        let start = start.min(self.len);
        let len = len.min(self.len - start);
        self.pool.region.slice(self.offset + start, len).expect("a lease lies inside its region")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.give_back(self.slot);
    }
}
