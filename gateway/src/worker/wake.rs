//! [`Wake`]: an eventfd.
#![expect(unsafe_code, reason = "eventfd(2) has no safe face in the standard library")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};

/// An eventfd that is only ever counted up: whoever waits for it watches for edges, so nobody needs to read it.
#[derive(Debug)]
pub(crate) struct Wake {
    file: File,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        // SAFETY: plain call with integer arguments.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and is owned by nobody else.
        Ok(Wake { file: unsafe { File::from_raw_fd(fd) } })
    }

    /// Wakes whoever waits. Adding to the counter fails only when 2⁶⁴ rings were not read, which is never.
    pub(crate) fn ring(&self) {
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
