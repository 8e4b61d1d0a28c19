//! [`News`]: what happened to the device, until somebody asks.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use crate::driver::Event;
use crate::sys::eventfd::EventFd;

/// Most events that are kept; the oldest go first.
const KEPT_MAX: usize = 64;

/// What happened, oldest first.
#[derive(Debug)]
pub(crate) struct News {
    events: Mutex<VecDeque<Event>>,
    bell: EventFd,
}

impl News {
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new() -> std::io::Result<News> {
        Ok(News { events: Mutex::default(), bell: EventFd::new()? })
    }

    pub(crate) fn tell(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == KEPT_MAX {
            events.pop_front();
        }
        events.push_back(event);
        drop(events);
        self.bell.signal();
    }

    pub(crate) fn next(&self) -> Option<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
