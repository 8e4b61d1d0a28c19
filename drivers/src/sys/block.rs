//! `ioctl(2)` on block devices, as `linux/fs.h` defines them.
#![expect(unsafe_code, reason = "ioctl has no safe face")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::Ioctl;

// From `linux/fs.h`: `_IO(0x12, n)`, whose upper bits differ between architectures as those of BLKSSZGET do.
const IO: Ioctl = libc::BLKSSZGET & !0xff;
const BLKROGET: Ioctl = IO | 94;
const BLKDISCARD: Ioctl = IO | 119;

/// Bytes in a logical block: the unit of `O_DIRECT` transfers, discards and zeroes.
///
/// # Errors
/// What `ioctl(2)` answered.
pub fn logical_block_bytes(device: BorrowedFd<'_>) -> io::Result<u32> {
    get_u32(device, libc::BLKSSZGET)
}

/// Bytes in a physical block.
///
/// # Errors
/// What `ioctl(2)` answered.
pub fn physical_block_bytes(device: BorrowedFd<'_>) -> io::Result<u32> {
    get_u32(device, libc::BLKPBSZGET)
}

/// Whether the device refuses writes.
///
/// # Errors
/// What `ioctl(2)` answered.
pub fn read_only(device: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(get_u32(device, BLKROGET)? != 0)
}

/// Discards a range. May take long.
///
/// # Errors
/// What `ioctl(2)` answered.
pub fn discard(device: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: BLKDISCARD reads two 64-bit numbers at the address, which is readable for the duration of the call.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), BLKDISCARD, range.as_ptr()) })
}

fn get_u32(device: BorrowedFd<'_>, request: Ioctl) -> io::Result<u32> {
    let mut value = 0u32;
    // SAFETY: the requests of this function store one `int` or `unsigned int` at the address, which is writable for
    // the duration of the call.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), request, &raw mut value) })?;
    Ok(value)
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_numbers_are_those_of_the_header() {
        assert_eq!((BLKROGET, BLKDISCARD), (0x125e, 0x1277));
    }

    #[test]
    fn a_file_is_no_block_device() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(logical_block_bytes(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
