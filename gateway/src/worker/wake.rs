//! [`Wake`] and [`Bells`]: eventfds that wake a worker.
#![expect(
    unsafe_code,
    reason = "eventfd(2) has no safe face in the standard library, watching it none in tokio"
)]

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::task::Poll;

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

/// Eventfds that the runtime of this thread watches for edges.
#[derive(Debug)]
pub(crate) struct Bells {
    events: Vec<AsyncFd<OwnedFd>>,
}

impl Bells {
    /// Watches duplicates of `events` from now on.
    pub(crate) fn new<'a>(events: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<Bells> {
        let watch = |event: BorrowedFd<'a>| {
            let event = event.try_clone_to_owned()?;
            // SAFETY: the descriptor is owned by the `AsyncFd`, which never replaces or closes it while registered.
            let watched = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) };
            watched.map_err(io::Error::from)
        };
        Ok(Bells { events: events.map(watch).collect::<io::Result<_>>()? })
    }

    /// Waits until one of them was rung since the last wait. Each ring is an edge, so the counters need not be read.
    pub(crate) async fn any(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut rung = Poll::Pending;
            for event in &self.events {
                if let Poll::Ready(guard) = event.poll_read_ready(context) {
                    guard?.clear_ready();
                    rung = Poll::Ready(Ok(()));
                }
            }
            rung
        })
        .await
    }
}
