//! System calls on files that the standard library lacks: flagged reads and writes, holes, alignment, status flags.
#![expect(unsafe_code, reason = "preadv2, pwritev2, fallocate, lseek, statx and fcntl have no safe face")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use vm_memory::VolatileSlice;

fn checked(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn offset_of(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// `pread(2)`, or `preadv2(2)` where there are flags. Returns how many bytes it read.
///
/// Made as bare system calls: the library's wrappers are cancellation points, which cost more in a program with threads
/// than the call needs to find its arguments.
///
/// # Errors
/// What the system call answered.
#[inline]
pub fn read_at(file: BorrowedFd<'_>, offset: u64, into: &VolatileSlice<'_>, flags: i32) -> io::Result<usize> {
    let offset = offset_of(offset)?;
    let guard = into.ptr_guard_mut();
    let fd = libc::c_long::from(file.as_raw_fd());
    if flags == 0 {
        // SAFETY: pointer and length describe memory that is writable while `guard` lives, which is longer than the
        // call; the kernel writes nothing else.
        let read = unsafe { libc::syscall(libc::SYS_pread64, fd, guard.as_ptr(), into.len(), offset) };
        return checked(read as isize);
    }
    let piece = libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: into.len() };
    // SAFETY: `piece` describes the memory of `guard` as above. The position goes in two halves, of which a 64-bit
    // kernel takes the first for the whole.
    let read = unsafe { libc::syscall(libc::SYS_preadv2, fd, &raw const piece, 1, offset, 0, flags) };
    checked(read as isize)
}

/// `pwritev2(2)` of one piece of memory. Returns how many bytes it wrote.
///
/// # Errors
/// What the system call answered.
#[inline]
pub fn write_at(file: BorrowedFd<'_>, offset: u64, from: &[u8], flags: i32) -> io::Result<usize> {
    let offset = offset_of(offset)?;
    let piece = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    // SAFETY: `piece` describes `from`, which outlives the call; the kernel only reads it.
    checked(unsafe { libc::pwritev2(file.as_raw_fd(), &raw const piece, 1, offset, flags) })
}

/// `fallocate(2)`.
///
/// # Errors
/// What the system call answered.
pub fn fallocate(file: BorrowedFd<'_>, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (offset_of(offset)?, offset_of(len)?);
    // SAFETY: plain system call with integer arguments on a borrowed descriptor.
    if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The beginning of the next data at or after `offset`; `None` when there is only a hole up to the end.
///
/// # Errors
/// What `lseek(2)` answered.
pub fn seek_data(file: BorrowedFd<'_>, offset: u64) -> io::Result<Option<u64>> {
    match seek_to(file, offset, libc::SEEK_DATA) {
        Ok(data) => Ok(Some(data)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The beginning of the next hole at or after `offset`; the end of the file counts as one.
///
/// # Errors
/// What `lseek(2)` answered: `ENXIO` for an offset beyond the end.
pub fn seek_hole(file: BorrowedFd<'_>, offset: u64) -> io::Result<u64> {
    seek_to(file, offset, libc::SEEK_HOLE)
}

/// Size of a file or a block device in bytes.
///
/// # Errors
/// What `lseek(2)` answered.
pub fn size_bytes(file: BorrowedFd<'_>) -> io::Result<u64> {
    seek_to(file, 0, libc::SEEK_END)
}

fn seek_to(file: BorrowedFd<'_>, offset: u64, whence: i32) -> io::Result<u64> {
    // SAFETY: plain system call with integer arguments on a borrowed descriptor; nobody uses its file position.
    let result = unsafe { libc::lseek(file.as_raw_fd(), offset_of(offset)?, whence) };
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Descriptor `fd` of this process, duplicated and close-on-exec, so that its owner keeps it.
///
/// # Errors
/// `EBADF` when there is no such descriptor.
pub fn duplicate(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain system call with integer arguments; a number that is no descriptor is an error, not undefined.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `copy` was just made and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The status flags of an open file (`O_DIRECT`, the access mode, …).
///
/// # Errors
/// What `fcntl(2)` answered.
pub fn status_flags(file: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: plain system call with integer arguments on a borrowed descriptor.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 { Err(io::Error::last_os_error()) } else { Ok(flags) }
}

/// Takes `O_NONBLOCK` off an open file.
///
/// # Errors
/// What `fcntl(2)` answered.
pub fn make_blocking(file: BorrowedFd<'_>) -> io::Result<()> {
    let flags = status_flags(file)? & !libc::O_NONBLOCK;
    // SAFETY: plain system call with integer arguments on a borrowed descriptor.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What `O_DIRECT` demands of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectAlignment {
    /// Memory addresses are multiples of this many bytes.
    pub memory_bytes: u32,
    /// Offsets and lengths are multiples of this many bytes.
    pub offset_bytes: u32,
}

/// `statx(2)` with `STATX_DIOALIGN` (Linux 6.1). `None` when kernel or file system do not tell; zeroes in the answer
/// mean that the file does not take `O_DIRECT`.
///
/// # Errors
/// What `statx(2)` answered.
pub fn direct_alignment(file: BorrowedFd<'_>) -> io::Result<Option<DirectAlignment>> {
    // SAFETY: `statx` is a plain structure of integers, for which all zeroes are valid.
    let mut facts: libc::statx = unsafe { std::mem::zeroed() };
    let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
    // SAFETY: the path is an empty C string, and `facts` is writable for the duration of the call.
    let result = unsafe { libc::statx(file.as_raw_fd(), path, flags, libc::STATX_DIOALIGN, &raw mut facts) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let told = facts.stx_mask & libc::STATX_DIOALIGN != 0;
    Ok(told.then_some(DirectAlignment {
        memory_bytes: facts.stx_dio_mem_align,
        offset_bytes: facts.stx_dio_offset_align,
    }))
}

/// The magic number of the file system the file lies on, and its block size in bytes (`fstatfs(2)`).
///
/// # Errors
/// What the system call answered.
pub fn file_system(file: BorrowedFd<'_>) -> io::Result<(i64, u32)> {
    // SAFETY: `statfs` is a plain structure of integers, for which all zeroes are valid.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `facts` is writable for the duration of the call.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut facts) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((facts.f_type, u32::try_from(facts.f_bsize).unwrap_or(0)))
}

/// The time of `CLOCK_MONOTONIC` in nanoseconds; answered without entering the kernel.
#[inline]
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable for the duration of the call; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::mmap::Mapping;

    fn sparse_file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let (file, memory) = (sparse_file(), Mapping::memory(c"test", 4096).unwrap());
        assert_eq!(write_at(file.as_fd(), 65_535, b"hello", 0).unwrap(), 5);
        let into = memory.slice(10, 5).unwrap();
        assert_eq!(read_at(file.as_fd(), 65_535, &into, 0).unwrap(), 5);
        let mut bytes = [0; 5];
        into.copy_to(&mut bytes[..]);
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn offsets_beyond_a_signed_word_are_refused() {
        let (file, memory) = (sparse_file(), Mapping::memory(c"test", 4096).unwrap());
        let error = read_at(file.as_fd(), u64::MAX, &memory.slice(0, 1).unwrap(), 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn holes_are_told_from_data() {
        let file = sparse_file();
        assert_eq!(seek_data(file.as_fd(), 0).unwrap(), None);
        write_at(file.as_fd(), 512 << 10, &[1; 4096], 0).unwrap();
        assert_eq!(seek_data(file.as_fd(), 0).unwrap(), Some(512 << 10));
        assert_eq!(seek_hole(file.as_fd(), 512 << 10).unwrap(), (512 << 10) + 4096);
    }

    #[test]
    fn a_number_that_is_no_descriptor_is_an_error() {
        assert_eq!(duplicate(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
