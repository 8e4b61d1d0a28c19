//! [`EventFd`]: a counter to wait for, as `eventfd(2)` gives it.
#![expect(unsafe_code, reason = "eventfd has no safe face in the standard library")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};

/// A non-blocking, close-on-exec event counter. Readable while it is not zero.
#[derive(Debug)]
pub struct EventFd {
    file: File,
}

impl EventFd {
    /// Makes one with the count 0.
    ///
    /// # Errors
    /// What `eventfd(2)` answered: no descriptors left.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: plain system call with integer arguments.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and is owned by nobody else.
        Ok(EventFd { file: unsafe { File::from_raw_fd(fd) } })
    }

    /// Another handle to the same counter, of the type that the crate `vhost` takes.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn for_vhost(&self) -> io::Result<vmm_sys_util::eventfd::EventFd> {
        let fd = self.file.try_clone()?.into_raw_fd();
        // SAFETY: the descriptor was just duplicated, is an eventfd, and is owned by nobody else.
        Ok(unsafe { vmm_sys_util::eventfd::EventFd::from_raw_fd(fd) })
    }

    /// Makes it readable.
    pub fn signal(&self) {
        // The only error is a full counter, and then it is readable already.
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }

    /// Makes it unreadable until the next signal.
    pub fn reset(&self) {
        self.take();
    }

    /// How often it was signalled since the last time; unreadable from now on until the next signal.
    pub fn take(&self) -> u64 {
        let mut count = [0; 8];
        // The only error is that there was nothing to read.
        match (&self.file).read(&mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
