//! What the keeper's thread does for a virtio device on the PCI bus.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::control::Control;
use crate::device::keeper::{Transport, Trouble};
use crate::error::Error;
use crate::pci::alarms::Alarms;
use crate::virtio::config::BlkConfig;
use crate::virtio::spec::device_status;

/// How often to look at a device that has no interrupt to tell of changes.
const PACE: Duration = Duration::from_secs(1);

/// A device that runs.
pub(super) struct PciTransport {
    control: Control,
    /// What was negotiated.
    features: u64,
    alarms: Alarms,
    /// It has an interrupt for changes of its configuration and its status.
    tells_changes: bool,
}

impl PciTransport {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(control: Control, features: u64, tells_changes: bool) -> std::io::Result<PciTransport> {
        let alarms = Alarms::of(&**control.function())?;
        Ok(PciTransport { control, features, alarms, tells_changes })
    }
}

impl Transport for PciTransport {
    fn capacity_bytes(&self) -> Result<u64, Error> {
        let (bytes, len) = self.control.config()?;
        BlkConfig::capacity_bytes(&bytes, len, self.features)
    }

    fn trouble(&self) -> Option<Trouble> {
        if let Some(trouble) = self.alarms.trouble() {
            return Some(trouble);
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
        self.alarms.files()
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
