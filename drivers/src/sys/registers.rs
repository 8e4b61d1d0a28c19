//! [`DeviceMemory`]: registers of a device, mapped.
#![expect(unsafe_code, reason = "mmap, mremap and volatile access have no safe face in the standard library")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

/// The unit in which memory is mapped.
const PAGE_BYTES: u64 = 4096;

/// A part of a device's memory. Accesses are single, of natural width, and never reordered among each other.
#[derive(Debug)]
pub struct DeviceMemory {
    /// Start and length of what is mapped: whole pages.
    pages: NonNull<u8>,
    pages_len: usize,
    /// Where the part begins in them, and its length.
    start: usize,
    len_bytes: usize,
}

// SAFETY: the mapping is owned and its address never changes; every access is a volatile one through a raw pointer,
// and what concurrent accesses do is the device's business.
unsafe impl Send for DeviceMemory {}
// SAFETY: as for `Send`; no method hands out a reference to the memory.
unsafe impl Sync for DeviceMemory {}

/// An access of one width.
macro_rules! access {
    ($load:ident, $store:ident, $word:ty) => {
        /// Reads the register at `offset`; all ones where there is none.
        #[must_use]
        pub fn $load(&self, offset: usize) -> $word {
            match self.at(offset, size_of::<$word>()) {
                // SAFETY: `at` gave an aligned address inside the mapping, which lives as long as `self`; any bytes
                // are a valid word.
                Some(address) => unsafe { address.cast::<$word>().read_volatile() },
                None => <$word>::MAX,
            }
        }

        /// Writes the register at `offset`, after everything that was written to memory before.
        pub fn $store(&self, offset: usize, value: $word) {
            fence(Ordering::SeqCst);
            if let Some(address) = self.at(offset, size_of::<$word>()) {
                // SAFETY: as above, and the mapping is writable.
                unsafe { address.cast::<$word>().write_volatile(value) };
            }
        }
    };
}

impl DeviceMemory {
    /// Maps `len_bytes` at `offset` of a device's file. The page around is mapped as well.
    ///
    /// # Errors
    /// What `mmap(2)` answered.
    pub fn map(file: BorrowedFd<'_>, offset: u64, len_bytes: usize) -> io::Result<DeviceMemory> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let first = offset / PAGE_BYTES * PAGE_BYTES;
        let start = usize::try_from(offset - first).map_err(|_| invalid())?;
        let pages_len =
            start.checked_add(len_bytes).and_then(|len| len.checked_next_multiple_of(PAGE_BYTES as usize));
        let (Some(pages_len), Ok(first)) = (pages_len, libc::off_t::try_from(first)) else {
            return Err(invalid());
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choosing overlaps nothing.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), pages_len, protection, libc::MAP_SHARED, file.as_raw_fd(), first)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pages = NonNull::new(address.cast()).ok_or_else(invalid)?;
        Ok(DeviceMemory { pages, pages_len, start, len_bytes })
    }

    access!(load8, store8, u8);
    access!(load16, store16, u16);
    access!(load32, store32, u32);

    /// Lets go of the device. What is read from now on is all ones, as from a device that is not there.
    ///
    /// # Errors
    /// What `mmap(2)` or `mremap(2)` answered: no memory.
    pub fn retire(&self) -> io::Result<()> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choosing overlaps nothing.
        let ones = unsafe { libc::mmap(std::ptr::null_mut(), self.pages_len, protection, flags, -1, 0) };
        if ones == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping was just made, is writable and has this length; nobody else knows of it.
        unsafe { std::ptr::write_bytes(ones.cast::<u8>(), 0xff, self.pages_len) };
        let (target, len) = (self.pages.as_ptr().cast::<libc::c_void>(), self.pages_len);
        // SAFETY: source and target are mappings of this length that are ours. The kernel puts one in the place of the
        // other in one step, so concurrent accesses find memory at any time.
        let moved =
            unsafe { libc::mremap(ones, len, len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, target) };
        if moved != libc::MAP_FAILED {
            return Ok(());
        }
        let cause = io::Error::last_os_error();
        // SAFETY: the mapping is ours, and nobody else knows of it.
        unsafe { libc::munmap(ones, len) };
        Err(cause)
    }

    fn at(&self, offset: usize, width: usize) -> Option<*mut u8> {
        let address = self.start.checked_add(offset)?;
        if offset.checked_add(width)? > self.len_bytes || !address.is_multiple_of(width) {
            return None;
        }
        // SAFETY: start, offset and width lie inside the mapping.
        Some(unsafe { self.pages.as_ptr().add(address) })
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody can use it any more.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), self.pages_len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::{Mapping, MemoryFile};
    use std::os::fd::AsFd;

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn accesses_reach_the_part_and_nothing_else() {
        let file = MemoryFile::new(c"test", 8192).unwrap();
        let all = Mapping::of(&file).unwrap();
        let part = DeviceMemory::map(file.as_fd(), 4100, 12).unwrap();
        part.store8(0, 1);
        part.store16(2, 0x0302);
        part.store32(8, 0x0706_0504);
        // Outside, across the end, not aligned.
        part.store32(12, 9);
        part.store32(10, 9);
        part.store16(1, 9);
        let mut bytes = [9u8; 20];
        all.slice(4096, 20).unwrap().copy_to(&mut bytes[..]);
        assert_eq!(bytes, [0, 0, 0, 0, 1, 0, 2, 3, 0, 0, 0, 0, 4, 5, 6, 7, 0, 0, 0, 0]);
        assert_eq!((part.load8(0), part.load16(2), part.load32(8)), (1, 0x0302, 0x0706_0504));
        assert_eq!((part.load8(12), part.load16(1), part.load32(usize::MAX)), (0xff, 0xffff, u32::MAX));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn a_retired_part_reads_as_ones_and_writes_go_nowhere() {
        let file = MemoryFile::new(c"test", 4096).unwrap();
        let all = Mapping::of(&file).unwrap();
        let part = DeviceMemory::map(file.as_fd(), 16, 16).unwrap();
        part.retire().unwrap();
        assert_eq!(part.load32(0), u32::MAX);
        part.store32(0, 7);
        let mut bytes = [9u8; 4];
        all.slice(16, 4).unwrap().copy_to(&mut bytes[..]);
        assert_eq!(bytes, [0; 4]);
    }
}
