//! What the keeper's thread does for a virtio device on the PCI bus.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::control::Control;
use crate::device::keeper::{Transport, Trouble};
use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::virtio::config::BlkConfig;
use crate::virtio::spec::device_status;

/// How often to look at a device that has no interrupt to tell of changes.
const PACE: Duration = Duration::from_secs(1);

/// A device that runs.
pub(super) struct PciTransport {
    control: Control,
    /// What was negotiated.
    features: u64,
    /// Signalled when the system wants the device back.
    wanted: EventFd,
    /// Signalled when the system tells of an error of the bus.
    broken: EventFd,
    /// It has an interrupt for changes of its configuration and its status.
    tells_changes: bool,
}

impl PciTransport {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(control: Control, features: u64, tells_changes: bool) -> std::io::Result<PciTransport> {
        let (wanted, broken) = (EventFd::new()?, EventFd::new()?);
        control.function().watch(&wanted, &broken);
        Ok(PciTransport { control, features, wanted, broken, tells_changes })
    }
}

impl Transport for PciTransport {
    fn capacity_bytes(&self) -> Result<u64, Error> {
        let (bytes, len) = self.control.config()?;
        BlkConfig::capacity_bytes(&bytes, len, self.features)
    }

    fn trouble(&self) -> Option<Trouble> {
        if self.wanted.take() > 0 {
            return Some(Trouble::Gone(
                "is wanted back by the system: it is removed, or gets another driver".into(),
            ));
        }
        if self.broken.take() > 0 {
            return Some(Trouble::Gone("had an error on the bus that it does not recover from".into()));
        }
        match self.control.status() {
            None => Some(Trouble::Gone("does not answer any more".into())),
            Some(status) if status & device_status::NEEDS_RESET != 0 => {
                Some(Trouble::Gone("says that it is in an error state and needs a reset".into()))
            }
            Some(_) => None,
        }
    }

    fn alarms(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.wanted.as_fd(), self.broken.as_fd()]
    }

    fn pace(&self) -> Option<Duration> {
        (!self.tells_changes).then_some(PACE)
    }

    fn fail(&mut self) {
        self.control.leave();
    }

    fn end(&mut self) {
        self.control.leave();
    }
}
