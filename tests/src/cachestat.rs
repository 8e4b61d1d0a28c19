//! How much of a file is not on the disk yet: cachestat(2), Linux 6.5.
#![expect(unsafe_code, reason = "libc has no wrapper for this system call")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// include/uapi/linux/mman.h, `struct cachestat_range`; a length of 0 means up to the end.
#[repr(C)]
struct Range {
    offset_bytes: u64,
    len_bytes: u64,
}

/// include/uapi/linux/mman.h, `struct cachestat`.
#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// The number of the system call, which is the same on every architecture but Alpha.
const SYS_CACHESTAT: libc::c_long = 451;

/// Why nothing is known.
#[derive(Debug)]
pub enum NotKnown {
    /// This machine cannot tell.
    NotHere(&'static str),
    /// It should have been able to.
    Failed(io::Error),
}

/// Pages of a file that are dirty or being written.
///
/// # Errors
/// The kernel is older than 6.5, the file lies on a file system without a disk, or it cannot be opened.
pub fn unwritten_pages(path: &Path) -> Result<u64, NotKnown> {
    let file = File::open(path).map_err(NotKnown::Failed)?;
    let system = nix::sys::statfs::fstatfs(&file).map_err(|error| NotKnown::Failed(error.into()))?;
    if system.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC {
        return Err(NotKnown::NotHere("the file lies in memory, so that its pages are dirty for ever"));
    }
    let range = Range { offset_bytes: 0, len_bytes: 0 };
    let mut counts = Counts::default();
    // SAFETY: both pointers are to live values of the layout that the kernel reads and writes; it keeps neither.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut counts, 0 as libc::c_uint)
    };
    if result == 0 {
        return Ok(counts.dirty + counts.writeback);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOSYS) => {
            Err(NotKnown::NotHere("the kernel is older than 6.5 and cannot count dirty pages"))
        }
        error => Err(NotKnown::Failed(error)),
    }
}
