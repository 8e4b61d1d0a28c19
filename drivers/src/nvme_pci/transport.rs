//! What the keeper's thread does for an NVMe controller on the PCI bus.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::admin::Admin;
use super::controller::State;
use super::setup::Setup;
use crate::device::keeper::{Transport, Trouble};
use crate::device::lane::Lane;
use crate::error::Error;
use crate::nvme::disk;
use crate::sys::eventfd::EventFd;

/// How often the controller is looked at: it tells of nothing by itself.
const PACE: Duration = Duration::from_secs(1);

/// A controller that runs.
pub(crate) struct NvmeTransport {
    setup: Setup,
    /// `None`: the last reset failed.
    admin: Mutex<Option<Admin>>,
    /// Signalled when the system wants the device back.
    wanted: EventFd,
    /// Signalled when the system tells of an error of the bus.
    broken: EventFd,
}

impl NvmeTransport {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(setup: Setup, admin: Admin) -> std::io::Result<NvmeTransport> {
        let (wanted, broken) = (EventFd::new()?, EventFd::new()?);
        setup.controller.function().watch(&wanted, &broken);
        Ok(NvmeTransport { setup, admin: Mutex::new(Some(admin)), wanted, broken })
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
        if self.wanted.take() > 0 {
            return Some(Trouble::Gone(
                "is wanted back by the system: it is removed, or gets another driver".into(),
            ));
        }
        if self.broken.take() > 0 {
            return Some(Trouble::Gone("had an error on the bus that it does not recover from".into()));
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
        vec![self.wanted.as_fd(), self.broken.as_fd()]
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
