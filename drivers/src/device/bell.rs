//! [`Bell`]: the one thing that whoever drives a queue waits for, although what rings it changes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::sys::eventfd::EventFd;

/// Readable while the device's call or the notice of a change is.
#[derive(Debug)]
pub(crate) struct Bell {
    watched: Epoll,
    /// Signalled once for every change of the device.
    notice: Arc<EventFd>,
    call: Option<Arc<EventFd>>,
}

impl Bell {
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new(notice: Arc<EventFd>) -> io::Result<Bell> {
        let watched = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        watched.add(&*notice, readable())?;
        Ok(Bell { watched, notice, call: None })
    }

    /// Listens to another call.
    ///
    /// # Errors
    /// The system has no memory left.
    pub(crate) fn listen_to(&mut self, call: Option<Arc<EventFd>>) -> io::Result<()> {
        if let Some(old) = self.call.take() {
            self.watched.delete(&*old)?;
        }
        if let Some(new) = &call {
            self.watched.add(&**new, readable())?;
        }
        self.call = call;
        Ok(())
    }

    /// Forgets the calls so far, and returns how many there were.
    pub(crate) fn take_calls(&self) -> u64 {
        self.call.as_ref().map_or(0, |call| call.take())
    }

    /// Forgets the notices so far, and returns how many there were.
    pub(crate) fn take_notices(&self) -> u64 {
        self.notice.take()
    }
}

fn readable() -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, 0)
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.0.as_fd()
    }
}
