//! [`Setup`]: everything that queues are made of, again after each reset.

use std::sync::Arc;

use super::admin::Admin;
use super::controller::Controller;
use super::lane::NvmeLane;
use super::memory::{Layout, PairMemory};
use super::pair::Pair;
use crate::device::lane::Lane;
use crate::error::Error;
use crate::nvme::command::{Command, DataPointer};
use crate::nvme::disk::Disk;
use crate::nvme::errand::Dialect;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::{self, Mapping};

/// Most pairs of queues that are asked for.
const PAIRS_MAX: u16 = 1024;

/// Memory that the controller sees at this address.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) mapping: Arc<Mapping>,
    pub(super) address: u64,
}

impl Shared {
    /// Makes it as it was at first.
    fn clear(&self) {
        if let Some(slice) = self.mapping.slice(0, self.mapping.len_bytes()) {
            mmap::zero(&slice);
        }
    }
}

/// What queues are made of.
pub(super) struct Setup {
    pub(super) controller: Arc<Controller>,
    pub(super) admin_memory: Shared,
    /// Memory of all pairs.
    pub(super) memory: Shared,
    pub(super) layout: Layout,
    /// By what the controller calls for each pair; `None`: it is polled.
    pub(super) calls: Vec<Option<Arc<EventFd>>>,
    pub(super) disk: Disk,
    /// What the controller calls the beginning of the payload memory.
    pub(super) payload_address: u64,
}

/// How many pairs of queues the controller grants. To be asked before there are any.
///
/// # Errors
/// It does not answer.
pub(super) fn granted(admin: &mut Admin) -> Result<usize, Error> {
    let granted = admin.run("grant queues", &Command::set_queue_count(PAIRS_MAX), DataPointer::default())?;
    // Both numbers are one less than what they mean.
    Ok((granted & 0xffff).min(granted >> 16) as usize + 1)
}

impl Setup {
    /// Makes the queues of a controller that has none, in memory that is all zeroes.
    ///
    /// # Errors
    /// It does not take them.
    pub(super) fn lanes(&self, admin: &mut Admin) -> Result<Vec<Box<dyn Lane>>, Error> {
        let identity = &self.disk.controller;
        let has_room = self.controller.has_room_for_doorbells(self.calls.len());
        let shadow = match identity.has_shadow_doorbells && has_room {
            true => Some(admin.shadow_doorbells()?),
            false => None,
        };
        let dialect = Dialect::of(&self.disk);
        let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            // There are at most 1024; the admin queues are number 0.
            let number = index as u16 + 1;
            let start = index * self.layout.len_bytes();
            let memory =
                PairMemory::new(self.memory.mapping.clone(), start, self.memory.address, self.layout);
            let (submissions, completions) = memory.queues();
            let (entries, vector) = (self.layout.entries, call.as_ref().map(|_| number));
            admin.create(&Command::create_completion_queue(number, entries, vector), completions)?;
            admin.create(&Command::create_submission_queue(number, entries), submissions)?;
            let pair = Pair::new(memory, self.controller.doorbells(number, shadow.clone())?);
            lanes.push(Box::new(NvmeLane {
                pair,
                dialect,
                payload_address: self.payload_address,
                call: call.clone(),
            }));
        }
        Ok(lanes)
    }

    /// Stops the controller, and starts it again with fresh queues. Nobody has a lane of before. `stopped` is called
    /// when the controller is proven to use no memory any more.
    ///
    /// # Errors
    /// It cannot be stopped, does not start, or is not what it was.
    pub(super) fn again(&self, stopped: &mut dyn FnMut()) -> Result<(Admin, Vec<Box<dyn Lane>>), Error> {
        self.controller.stop()?;
        stopped();
        self.admin_memory.clear();
        self.memory.clear();
        let Shared { mapping, address } = self.admin_memory.clone();
        let mut admin = Admin::start(self.controller.clone(), mapping, address)?;
        let name = self.controller.name();
        let disk = Disk::ask(&mut admin, Some(self.disk.number), name)?;
        if !disk.is_same(&self.disk) {
            return Err(Error::device(format!("{name} is another disk than before")));
        }
        if granted(&mut admin)? < self.calls.len() {
            return Err(Error::device(format!("{name} grants fewer queues than before")));
        }
        let lanes = self.lanes(&mut admin)?;
        Ok((admin, lanes))
    }
}
