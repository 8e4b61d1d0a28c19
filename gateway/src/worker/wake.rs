//! [`Wake`]: an eventfd.
#![expect(
    unsafe_code,
    reason = "eventfd(2) has no safe face in the standard library, watching it none in tokio"
)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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

    /// Lets the runtime of the calling thread watch for edges.
    pub(crate) fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let fd = self.file.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the `AsyncFd` itself, which never replaces or closes it while registered.
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
