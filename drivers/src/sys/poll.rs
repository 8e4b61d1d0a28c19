//! Waiting for one or two descriptors, as `poll(2)` does.
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

/// Which of two descriptors has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first one is readable; `hung_up`: its other end is closed.
    First {
        /// Nothing more will come.
        hung_up: bool,
    },
    /// The second one is readable.
    Second,
}

/// Waits until one of two descriptors is readable; the second one goes first.
///
/// # Errors
/// What `poll(2)` answered.
pub fn either(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> io::Result<Which> {
    let entry = |file: BorrowedFd<'_>| libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN | libc::POLLRDHUP,
        revents: 0,
    };
    let mut entries = [entry(first), entry(second)];
    // SAFETY: two entries are passed, and they are writable for the duration of the call.
    if unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if entries[1].revents != 0 {
        return Ok(Which::Second);
    }
    let ends = libc::POLLHUP | libc::POLLRDHUP | libc::POLLERR | libc::POLLNVAL;
    Ok(Which::First { hung_up: entries[0].revents & ends != 0 })
}
