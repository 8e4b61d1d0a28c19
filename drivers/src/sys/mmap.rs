//! [`MemoryFile`] and [`Mapping`]: memory to share with other processes, as `memfd_create(2)` and `mmap(2)` give it.
#![expect(unsafe_code, reason = "memfd_create, mmap and munmap have no safe face in the standard library")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
#[cfg(not(miri))]
use std::os::fd::FromRawFd;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use vm_memory::VolatileSlice;

/// The unit in which memory is mapped.
const PAGE_BYTES: usize = 4096;

/// A memory file of fixed length. Its memory lives as long as the file is open or mapped anywhere.
#[derive(Debug)]
pub struct MemoryFile {
    file: File,
    len_bytes: usize,
}

impl MemoryFile {
    /// Makes a file of `len_bytes` zeroes, which take no memory until touched. The descriptor is close-on-exec and
    /// sealed against resizing, so no page of a mapping can vanish.
    ///
    /// # Errors
    /// What `memfd_create(2)`, `ftruncate(2)` or `fcntl(2)` answered.
    pub fn new(name: &CStr, len_bytes: usize) -> io::Result<MemoryFile> {
        Ok(MemoryFile { file: memory_file(name, len_bytes)?, len_bytes })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
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

    /// Memory that the file takes at the moment.
    ///
    /// # Errors
    /// What `fstat(2)` answered.
    pub fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// Copies the range to the same place of `to`, which is all zeroes there. Pages of zeroes take no memory in it.
    ///
    /// # Errors
    /// What `pread(2)` or `pwrite(2)` answered: no memory left, or the range is not inside both.
    pub fn copy_range(&self, to: &MemoryFile, offset: usize, len: usize) -> io::Result<()> {
        let mut page = [0; PAGE_BYTES];
        for at in (offset..offset + len).step_by(PAGE_BYTES) {
            let page = &mut page[..PAGE_BYTES.min(offset + len - at)];
            self.file.read_exact_at(page, at as u64)?;
            if page.iter().any(|byte| *byte != 0) {
                to.file.write_all_at(page, at as u64)?;
            }
        }
        Ok(())
    }

    fn fallocate(&self, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        // SAFETY: plain fallocate on an owned descriptor with integer arguments; mappings stay in place.
        if unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset, len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl AsFd for MemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A shared, writable mapping of memory files. Page aligned; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: the mapping is owned, its address never changes, and it is only handed out as `VolatileSlice`, whose users
// must expect concurrent changes anyway.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; no method hands out a reference to the bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a memory file as a whole.
    ///
    /// # Errors
    /// What `mmap(2)` answered; a length of 0 is `EINVAL`.
    pub fn of(file: &MemoryFile) -> io::Result<Mapping> {
        // The interpreter that checks for undefined behaviour knows anonymous memory only.
        let (flags, fd) = match cfg!(miri) {
            true => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
            false => (libc::MAP_SHARED, file.file.as_raw_fd()),
        };
        let len_bytes = file.len_bytes;
        // SAFETY: a new mapping at an address of the kernel's choosing overlaps nothing.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), len_bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Mapping { start, len_bytes })
    }

    /// Maps a memory file of `len_bytes` zeroes that nobody else needs.
    ///
    /// # Errors
    /// Those of [`MemoryFile::new`] and [`Mapping::of`].
    pub fn memory(name: &CStr, len_bytes: usize) -> io::Result<Mapping> {
        Mapping::of(&MemoryFile::new(name, len_bytes)?)
    }

    /// Length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Puts the range of `file` in the place of what is mapped at the same range here. Slices of it stay good: they
    /// see the other memory from now on.
    ///
    /// # Errors
    /// What `mmap(2)` answered; `EINVAL` for a range that is not made of whole pages or not inside both.
    pub fn replace(&self, file: &MemoryFile, offset: usize, len: usize) -> io::Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len_bytes.min(file.len_bytes));
        let in_pages = offset.is_multiple_of(PAGE_BYTES) && len.is_multiple_of(PAGE_BYTES);
        let (Some(_), true, Ok(file_offset)) = (end, in_pages, libc::off_t::try_from(offset)) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        // SAFETY: `offset` is at most the length of the mapping, so the sum stays inside one allocation.
        let start = unsafe { self.start.as_ptr().add(offset) };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range lies inside this mapping, so nothing that is not ours is replaced. Slices of it may be
        // alive: they expect their memory to change at any time, and it stays accessible, since the kernel exchanges
        // the pages in one step and the seals keep the new file from shrinking.
        let address =
            unsafe { libc::mmap(start.cast(), len, protection, flags, file.file.as_raw_fd(), file_offset) };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Maps the same memory once more, for whoever is to keep it when [`Mapping::replace`] puts other memory in its
    /// place here. Nothing was replaced before.
    ///
    /// # Errors
    /// What `mremap(2)` answered.
    #[cfg(feature = "testing")]
    pub fn duplicate(&self) -> io::Result<Mapping> {
        let start = self.start.as_ptr().cast();
        // SAFETY: with an old length of 0 the kernel makes a second mapping of the same pages, at an address of its
        // choosing, and leaves the first one as it is.
        let address = unsafe { libc::mremap(start, 0, self.len_bytes, libc::MREMAP_MAYMOVE) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Mapping { start, len_bytes: self.len_bytes })
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

    fn mapped() -> (MemoryFile, Mapping) {
        let file = MemoryFile::new(c"test", 1 << 20).unwrap();
        let mapping = Mapping::of(&file).unwrap();
        (file, mapping)
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn memory_is_zero_and_takes_nothing_until_it_is_written() {
        let (file, mapping) = mapped();
        assert_eq!(file.allocated_bytes().unwrap(), 0);
        mapping.slice(5000, 10).unwrap().copy_from(&[1u8; 10]);
        assert_eq!(file.allocated_bytes().unwrap(), 4096);
        let mut bytes = [9u8; 20];
        mapping.slice(4995, 20).unwrap().copy_to(&mut bytes[..]);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn slices_outside_are_refused() {
        let (_file, mapping) = mapped();
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
        let (file, mapping) = mapped();
        mapping.slice(0, 16_384).unwrap().copy_from(&[1u8; 16_384]);
        file.punch(4000, 8500).unwrap();
        assert_eq!(file.allocated_bytes().unwrap(), 16_384 - 8192);
        let mut bytes = vec![9u8; 16_384];
        mapping.slice(0, 16_384).unwrap().copy_to(&mut bytes[..]);
        for (at, byte) in bytes.into_iter().enumerate() {
            assert_eq!(byte, u8::from(!(4000..12_500).contains(&at)), "at {at}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn allocating_changes_no_byte() {
        let (file, mapping) = mapped();
        mapping.slice(100, 1).unwrap().copy_from(&[7u8]);
        file.allocate(0, 8192).unwrap();
        assert_eq!(file.allocated_bytes().unwrap(), 8192);
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
        let (file, _mapping) = mapped();
        assert!(file.file.set_len(0).is_err() && file.file.set_len(2 << 20).is_err());
    }

    fn bytes_at(mapping: &Mapping, offset: usize) -> [u8; 4] {
        let mut bytes = [9; 4];
        mapping.slice(offset, 4).unwrap().copy_to(&mut bytes[..]);
        bytes
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn a_range_moves_to_another_file_with_what_is_in_it() {
        let (old, mapping) = mapped();
        let new = MemoryFile::new(c"test", 1 << 20).unwrap();
        for offset in [0, 8192, 12_288, 65_536] {
            mapping.slice(offset, 4).unwrap().copy_from(&[7u8, 8, 9, 10]);
        }
        let elsewhere = Mapping::of(&old).unwrap();
        old.copy_range(&new, 8192, 8192).unwrap();
        mapping.replace(&new, 8192, 8192).unwrap();
        assert_eq!(new.allocated_bytes().unwrap(), 8192, "nothing else was copied");
        // Whoever has the old memory reaches the moved range no more, and the rest still.
        for offset in [0, 8192, 12_288, 65_536] {
            assert_eq!(bytes_at(&mapping, offset), [7, 8, 9, 10]);
            elsewhere.slice(offset, 4).unwrap().copy_from(&[1u8; 4]);
            let moved = (8192..16_384).contains(&offset);
            assert_eq!(bytes_at(&mapping, offset), if moved { [7, 8, 9, 10] } else { [1; 4] }, "at {offset}");
        }
    }

    #[test]
    #[cfg(feature = "testing")]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn a_duplicate_keeps_the_memory_that_is_replaced() {
        let (_file, mapping) = mapped();
        let duplicate = mapping.duplicate().unwrap();
        mapping.slice(8192, 4).unwrap().copy_from(&[7u8; 4]);
        assert_eq!(bytes_at(&duplicate, 8192), [7; 4]);
        mapping.replace(&MemoryFile::new(c"test", 1 << 20).unwrap(), 8192, 4096).unwrap();
        duplicate.slice(8192, 4).unwrap().copy_from(&[1u8; 4]);
        assert_eq!((bytes_at(&mapping, 8192), bytes_at(&duplicate, 8192)), ([0; 4], [1; 4]));
        drop(mapping);
        assert_eq!(bytes_at(&duplicate, 8192), [1; 4]);
    }

    #[test]
    fn ranges_that_cannot_be_replaced_are_refused() {
        let (file, mapping) = mapped();
        for (offset, len) in [(1, 4096), (0, 1), (1 << 20, 4096), (0, 2 << 20), (usize::MAX - 4095, 4096)] {
            let error = mapping.replace(&file, offset, len).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{offset} {len}");
        }
    }
}
