//! What the keeper's thread does for an NVMe controller on the PCI bus.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::admin::Admin;
use super::controller::State;
use super::setup::Setup;
use crate::device::keeper::{Transport, Trouble};
use crate::device::lane::Lane;
use crate::error::Error;
use crate::nvme::disk;
use crate::pci::alarms::Alarms;

/// How often the controller is looked at: it tells of nothing by itself.
const PACE: Duration = Duration::from_secs(1);

/// A controller that runs.
pub(crate) struct NvmeTransport {
    setup: Setup,
    /// `None`: the last reset failed.
    admin: Mutex<Option<Admin>>,
    alarms: Alarms,
}

impl NvmeTransport {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(setup: Setup, admin: Admin) -> std::io::Result<NvmeTransport> {
        let alarms = Alarms::of(&**setup.controller.function())?;
        Ok(NvmeTransport { setup, admin: Mutex::new(Some(admin)), alarms })
    }
}

impl NvmeTransport {
    fn is_stuck(&self) -> bool {
        let admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        admin.as_ref().is_some_and(Admin::is_stuck)
    }
}

impl Transport for NvmeTransport {
    fn capacity_bytes(&self) -> Result<u64, Error> {
        let mut admin = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        let controller = &self.setup.controller;
        let admin = admin.as_mut().ok_or_else(|| controller.broken("has not started"))?;
        let namespace = disk::namespace(admin, self.setup.disk.number)?;
        let exponent = self.setup.disk.namespace.block_exponent;
        if namespace.block_exponent != exponent {
            return Err(controller.broken("has another length of blocks than before"));
        }
        let bytes = namespace.blocks.checked_mul(1 << exponent).filter(|bytes| i64::try_from(*bytes).is_ok());
        bytes.ok_or_else(|| controller.broken("reports an impossible capacity"))
    }

    fn trouble(&self) -> Option<Trouble> {
        if let Some(trouble) = self.alarms.trouble() {
            return Some(trouble);
        }
        match self.setup.controller.state() {
            State::Gone => Some(Trouble::Gone("does not answer any more".into())),
            State::Fatal => Some(Trouble::Ill("says that it is in a fatal state".into())),
            State::Stopped => Some(Trouble::Ill("has stopped: somebody else has reset it".into())),
            State::Fine if self.is_stuck() => {
                Some(Trouble::Ill("does not answer commands of administration".into()))
            }
            State::Fine => None,
        }
    }

    fn mend(&mut self, stopped: &mut dyn FnMut()) -> Result<Vec<Box<dyn Lane>>, Error> {
        let mut place = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        *place = None;
        let (admin, lanes) = self.setup.again(stopped)?;
        *place = Some(admin);
        Ok(lanes)
    }

    fn alarms(&self) -> Vec<BorrowedFd<'_>> {
        self.alarms.files()
    }

    fn pace(&self) -> Option<Duration> {
        Some(PACE)
    }

    fn fail(&mut self) {
        self.setup.controller.leave();
    }

    fn end(&mut self) {
        self.setup.controller.leave();
    }
}
