//! [`Alarms`]: what the system tells of a PCI device by itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::Function;
use crate::device::keeper::Trouble;
use crate::sys::eventfd::EventFd;

/// The events of one device.
#[derive(Debug)]
pub(crate) struct Alarms {
    /// Signalled when the system wants the device back.
    wanted: EventFd,
    /// Signalled when the system tells of an error of the bus.
    broken: EventFd,
}

impl Alarms {
    /// Those of a device, from now on.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn of(function: &dyn Function) -> io::Result<Alarms> {
        let (wanted, broken) = (EventFd::new()?, EventFd::new()?);
        function.watch(&wanted, &broken);
        Ok(Alarms { wanted, broken })
    }

    /// What was told since the last time.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let gone = |what: &str| Some(Trouble::Gone(what.into()));
        if self.wanted.take() > 0 {
            return gone("is wanted back by the system: it is removed, or gets another driver");
        }
        if self.broken.take() > 0 {
            return gone("had an error on the bus that it does not recover from");
        }
        None
    }

    /// Readable when there is trouble.
    pub(crate) fn files(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.wanted.as_fd(), self.broken.as_fd()]
    }
}
