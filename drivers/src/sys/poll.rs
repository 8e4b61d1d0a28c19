//! Waiting for one descriptor, as `poll(2)` does.
#![expect(unsafe_code, reason = "poll has no safe face in the standard library")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Waits until `file` is readable, at most for `timeout_ms`. `false`: it is not.
///
/// # Errors
/// What `poll(2)` answered.
pub fn readable(file: BorrowedFd<'_>, timeout_ms: i32) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry is passed, and it is writable for the duration of the call.
    let count = unsafe { libc::poll(&raw mut entry, 1, timeout_ms) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count > 0) }
}
