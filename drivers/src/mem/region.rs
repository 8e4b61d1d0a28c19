//! [`Region`]: all payload memory of one device.

use std::io;
use std::os::fd::BorrowedFd;

use vm_memory::VolatileSlice;

use super::pool::BLOCK_BYTES;
use crate::sys::mmap::Mapping;

/// The payload memory of one device: fixed at start, mapped to the device once, divided among the workers.
///
/// It holds payload only; headers, option data and our own tables are private memory elsewhere.
#[derive(Debug)]
pub struct Region {
    mapping: Mapping,
    shares: usize,
}

impl Region {
    /// Makes a region of `len_bytes`, rounded up so that each of `shares` workers gets the same number of whole
    /// blocks, at least two.
    ///
    /// # Errors
    /// What the system answered to the request for memory.
    pub fn new(len_bytes: usize, shares: usize) -> io::Result<Region> {
        let shares = shares.max(1);
        let blocks = len_bytes.div_ceil(BLOCK_BYTES).div_ceil(shares).max(2);
        let mapping = Mapping::memory(c"gateway-region", blocks * shares * BLOCK_BYTES)?;
        Ok(Region { mapping, shares })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.mapping.len_bytes()
    }

    /// Where the share of worker `share` lies: offset and length in bytes.
    #[must_use]
    pub fn share(&self, share: usize) -> (usize, usize) {
        let len = self.mapping.len_bytes() / self.shares;
        ((share % self.shares) * len, len)
    }

    /// The memory file, for a device in another process.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.mapping.file()
    }

    /// The bytes `offset..offset + len`, or `None` when that is outside of the region.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Option<VolatileSlice<'_>> {
        self.mapping.slice(offset, len)
    }
}
