//! [`Wake`] and [`Bell`]: eventfds that wake a worker.
#![expect(
    unsafe_code,
    reason = "eventfd(2) has no safe face in the standard library, watching it none in tokio"
)]

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::task::{Context, Poll};

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
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An eventfd that the runtime of this thread watches for edges.
#[derive(Debug)]
pub(crate) struct Bell {
    event: AsyncFd<OwnedFd>,
}

impl Bell {
    /// Watches a duplicate of `event` from now on.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new(event: BorrowedFd<'_>) -> io::Result<Bell> {
        let event = event.try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the `AsyncFd`, which never replaces or closes it while registered.
        let watched = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) };
        Ok(Bell { event: watched? })
    }

    /// Whether it was rung since it was last asked; if not, the task is woken when it is. Each ring is an edge, so the
    /// counter need not be read.
    ///
    /// # Errors
    /// The runtime is beyond use.
    pub(crate) fn poll_rung(&self, context: &mut Context<'_>) -> io::Result<bool> {
        match self.event.poll_read_ready(context) {
            Poll::Ready(guard) => {
                guard?.clear_ready();
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// Waits until it was rung since the last wait.
    ///
    /// # Errors
    /// The runtime is beyond use.
    pub(crate) async fn rung(&self) -> io::Result<()> {
        poll_fn(|context| match self.poll_rung(context) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        })
        .await
    }
}
