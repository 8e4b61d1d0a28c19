//! [`Mapping`]: a memory file mapped for sharing, as `memfd_create(2)` and `mmap(2)` give it.
#![expect(unsafe_code, reason = "memfd_create, mmap and munmap have no safe face in the standard library")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
#[cfg(not(miri))]
use std::os::fd::FromRawFd;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use vm_memory::VolatileSlice;

/// A shared, writable mapping of a whole memory file. Page aligned; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    file: File,
    start: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: the mapping is owned, its address never changes, and it is only handed out as `VolatileSlice`, whose users
// must expect concurrent changes anyway.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; no method hands out a reference to the bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes a memory file of `len_bytes` zeroes (not resident until touched) and maps it. The descriptor is
    /// close-on-exec and sealed against resizing, so no page of the mapping can vanish.
    ///
    /// # Errors
    /// What `memfd_create(2)`, `ftruncate(2)`, `fcntl(2)` or `mmap(2)` answered; a length of 0 is `EINVAL`.
    pub fn memory(name: &CStr, len_bytes: usize) -> io::Result<Mapping> {
        let file = memory_file(name, len_bytes)?;
        // The interpreter that checks for undefined behaviour knows anonymous memory only.
        let (flags, fd) = match cfg!(miri) {
            true => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
            false => (libc::MAP_SHARED, file.as_raw_fd()),
        };
        // SAFETY: a new mapping at an address of the kernel's choosing overlaps nothing.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), len_bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Mapping { file, start, len_bytes })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The memory file under the mapping, for a device that maps it too.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Makes the range read as zeroes and gives its whole pages back to the system. Parts of pages at its ends are
    /// zeroed in place if they have memory; none is allocated.
    ///
    /// # Errors
    /// What `fallocate(2)` answered.
    pub fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.fallocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
    }

    /// Gives every page of the range memory; what is there stays as it is.
    ///
    /// # Errors
    /// What `fallocate(2)` answered.
    pub fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.fallocate(libc::FALLOC_FL_KEEP_SIZE, offset, len)
    }

    /// Memory that the mapping takes at the moment.
    ///
    /// # Errors
    /// What `fstat(2)` answered.
    pub fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn fallocate(&self, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        // SAFETY: plain fallocate on an owned descriptor with integer arguments; the mapping stays in place.
        if unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset, len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The bytes `offset..offset + len`, or `None` when that is outside of the mapping.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Option<VolatileSlice<'_>> {
        if offset.checked_add(len)? > self.len_bytes {
            return None;
        }
        // SAFETY: `offset` is at most the length of the mapping, so the sum stays inside one allocation.
        let start = unsafe { self.start.as_ptr().add(offset) };
        // SAFETY: the range lies inside the mapping, which is alive and writable as long as `self` is borrowed; the
        // seals keep the file from shrinking under it.
        Some(unsafe { VolatileSlice::new(start, len) })
    }

    /// The word at `offset`, for a mapping that only holds such words; `None` when that is not aligned or outside.
    #[must_use]
    pub fn atomic_u64(&self, offset: usize) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(size_of::<AtomicU64>()) || offset.checked_add(8)? > self.len_bytes {
            return None;
        }
        // SAFETY: `offset` is at most the length of the mapping, so the sum stays inside one allocation.
        let word = unsafe { self.start.as_ptr().add(offset) }.cast::<u64>();
        // SAFETY: the word lies inside the mapping, which lives as long as `self` is borrowed, and is aligned because
        // the mapping begins at a page; any bytes are a valid word.
        Some(unsafe { AtomicU64::from_ptr(word) })
    }
}

/// A sealed memory file of `len_bytes` zeroes.
#[cfg(not(miri))]
fn memory_file(name: &CStr, len_bytes: usize) -> io::Result<File> {
    // SAFETY: `name` is a valid C string for the duration of the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and is owned by nobody else.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len_bytes as u64)?;
    // SAFETY: plain fcntl on an owned descriptor with integer arguments.
    let sealed = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW) };
    if sealed < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

#[cfg(miri)]
fn memory_file(_name: &CStr, _len_bytes: usize) -> io::Result<File> {
    File::open("/dev/null")
}

/// Fills the slice with zeroes.
pub fn zero(slice: &VolatileSlice<'_>) {
    // SAFETY: the guard keeps the slice's memory accessible, and the slice's maker vouched for its whole length.
    unsafe { std::ptr::write_bytes(slice.ptr_guard_mut().as_ptr(), 0, slice.len()) };
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `mmap` gave, and no slice of it can outlive `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> Mapping {
        Mapping::memory(c"test", 1 << 20).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn memory_is_zero_and_takes_nothing_until_it_is_written() {
        let mapping = mapping();
        assert_eq!(mapping.allocated_bytes().unwrap(), 0);
        mapping.slice(5000, 10).unwrap().copy_from(&[1u8; 10]);
        assert_eq!(mapping.allocated_bytes().unwrap(), 4096);
        let mut bytes = [9u8; 20];
        mapping.slice(4995, 20).unwrap().copy_to(&mut bytes[..]);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn slices_outside_are_refused() {
        let mapping = mapping();
        assert!(mapping.slice(1 << 20, 0).is_some());
        for (offset, len) in [(1 << 20, 1), (0, (1 << 20) + 1), (usize::MAX, 2), (1, usize::MAX)] {
            assert!(mapping.slice(offset, len).is_none(), "{offset} {len}");
        }
        assert!(mapping.atomic_u64(4).is_none() && mapping.atomic_u64(1 << 20).is_none());
        assert!(mapping.atomic_u64((1 << 20) - 8).is_some());
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn a_hole_is_zero_to_the_byte_and_gives_whole_pages_back() {
        let mapping = mapping();
        mapping.slice(0, 16_384).unwrap().copy_from(&[1u8; 16_384]);
        mapping.punch(4000, 8500).unwrap();
        assert_eq!(mapping.allocated_bytes().unwrap(), 16_384 - 8192);
        let mut bytes = vec![9u8; 16_384];
        mapping.slice(0, 16_384).unwrap().copy_to(&mut bytes[..]);
        for (at, byte) in bytes.into_iter().enumerate() {
            assert_eq!(byte, u8::from(!(4000..12_500).contains(&at)), "at {at}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn allocating_changes_no_byte() {
        let mapping = mapping();
        mapping.slice(100, 1).unwrap().copy_from(&[7u8]);
        mapping.allocate(0, 8192).unwrap();
        assert_eq!(mapping.allocated_bytes().unwrap(), 8192);
        let mut byte = [0u8];
        mapping.slice(100, 1).unwrap().copy_to(&mut byte[..]);
        assert_eq!(byte, [7]);
        zero(&mapping.slice(100, 1).unwrap());
        mapping.slice(100, 1).unwrap().copy_to(&mut byte[..]);
        assert_eq!(byte, [0]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn the_size_is_sealed() {
        let mapping = mapping();
        assert!(mapping.file.set_len(0).is_err() && mapping.file.set_len(2 << 20).is_err());
    }
}
