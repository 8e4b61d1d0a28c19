//! [`Region`]: all payload memory of one device.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::VolatileSlice;

use super::pool::BLOCK_BYTES;
use crate::sys::mmap::{Mapping, MemoryFile};

/// What the system calls the memory.
const NAME: &std::ffi::CStr = c"gateway-region";

/// The payload memory of one device: fixed at start, mapped to the device once, divided among the workers.
///
/// It holds payload only; headers, option data and our own tables are private memory elsewhere.
///
/// Where a device in another process goes and another one comes in its place, the old one may still have the memory
/// and write there. So the region gets new memory ([`Region::renew`]), and each worker moves its share there
/// ([`Region::move_share`]). Addresses and contents stay, so leases on loan are not concerned.
#[derive(Debug)]
pub struct Region {
    mapping: Mapping,
    /// Where each share lies.
    shares: Vec<Mutex<Arc<MemoryFile>>>,
    /// The latest memory.
    latest: Mutex<Arc<MemoryFile>>,
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
        let file = Arc::new(MemoryFile::new(NAME, blocks * shares * BLOCK_BYTES)?);
        let mapping = Mapping::of(&file)?;
        let shares = (0..shares).map(|_| Mutex::new(file.clone())).collect();
        Ok(Region { mapping, shares, latest: Mutex::new(file) })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.mapping.len_bytes()
    }

    /// Where the share of worker `share` lies: offset and length in bytes.
    #[must_use]
    pub fn share(&self, share: usize) -> (usize, usize) {
        let len = self.mapping.len_bytes() / self.shares.len();
        ((share % self.shares.len()) * len, len)
    }

    /// The memory as it is mapped, for a device that reaches it by our addresses.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The latest memory, for a device in another process.
    #[must_use]
    pub fn file(&self) -> Arc<MemoryFile> {
        lock(&self.latest).clone()
    }

    /// Makes new memory, which nobody else has. All shares still lie where they lay.
    ///
    /// # Errors
    /// What the system answered to the request for memory.
    pub fn renew(&self) -> io::Result<Arc<MemoryFile>> {
        let file = Arc::new(MemoryFile::new(NAME, self.len_bytes())?);
        *lock(&self.latest) = file.clone();
        Ok(file)
    }

    /// Moves a share, with what is in it, to memory that [`Region::renew`] made. Returns whether it did not lie there
    /// already. Called by the worker whose share it is: nobody else may write to it meanwhile, except the device that
    /// the old memory is taken away from.
    ///
    /// # Errors
    /// What the system answered to the request for memory; the share lies where it lay.
    pub fn move_share(&self, share: usize, to: &Arc<MemoryFile>) -> io::Result<bool> {
        let (offset, len) = self.share(share);
        let mut place = lock(&self.shares[share % self.shares.len()]);
        if Arc::ptr_eq(&place, to) {
            return Ok(false);
        }
        // What an attempt before this one may have left there.
        to.punch(offset as u64, len as u64)?;
        place.copy_range(to, offset, len)?;
        if let Err(cause) = self.mapping.replace(to, offset, len) {
            // The kernel may have taken the old memory away before it failed.
            self.mapping.replace(&place, offset, len).expect("leases on loan have memory");
            return Err(cause);
        }
        *place = to.clone();
        Ok(true)
    }

    /// The bytes `offset..offset + len`, or `None` when that is outside of the region.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Option<VolatileSlice<'_>> {
        self.mapping.slice(offset, len)
    }
}

/// What is behind these locks is changed by one assignment, so a thread that panicked left it whole.
fn lock(file: &Mutex<Arc<MemoryFile>>) -> MutexGuard<'_, Arc<MemoryFile>> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Pool;

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn leases_on_loan_move_with_their_share() {
        let region = Arc::new(Region::new(0, 2).unwrap());
        let old = Mapping::of(&region.file()).unwrap();
        let leases = [0, 1].map(|share| Pool::new(region.clone(), share).lease(4096).unwrap());
        for lease in &leases {
            lease.slice(0, 4).copy_from(&[1u8, 2, 3, 4]);
        }
        let new = region.renew().unwrap();
        assert!(region.move_share(1, &new).unwrap() && !region.move_share(1, &new).unwrap());
        for (index, lease) in leases.iter().enumerate() {
            // A late store of whoever has the old memory.
            old.slice(lease.region_offset(), 4).unwrap().copy_from(&[9u8; 4]);
            let mut bytes = [0u8; 4];
            lease.slice(0, 4).copy_to(&mut bytes[..]);
            assert_eq!(bytes, if index == 1 { [1, 2, 3, 4] } else { [9; 4] });
        }
        assert!(Arc::ptr_eq(&region.file(), &new));
    }
}
