//! [`ByHand`]: a controller and its driver on one thread, where nothing happens but by calls.

use std::sync::Arc;
use std::time::Duration;

use super::NvmeDevice;
use super::state::State;
use crate::device::keeper::Hand;
use crate::device::queue::DeviceQueue;
use crate::device::state::Device;
use crate::driver::{Event, StartOptions};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::nvme_pci::{self, NvmeTransport, Patience};
use crate::property::Settings;
use crate::queue::Queue;
use crate::testing::bus::{Held, Running};

/// How long the driver waits for what a controller that has no thread will not do any more.
const PATIENCE: Duration = Duration::from_millis(1);

impl NvmeDevice {
    /// A controller without a thread: it does what it is told of at once, or never. See [`ByHand`].
    #[must_use]
    pub fn direct(kind: super::Kind) -> NvmeDevice {
        let kind = super::Kind { change: Duration::ZERO, ..kind };
        NvmeDevice { running: Running::direct(State::new(kind)) }
    }
}

/// The driver in service on a controller without a thread, with one queue, and nobody who keeps it but the caller.
pub struct ByHand {
    // Ends before the device is dropped.
    hand: Hand<NvmeTransport>,
    device: Arc<Device>,
}

impl ByHand {
    /// Starts the driver.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn start(controller: &NvmeDevice, settings: &Settings, region_bytes: usize) -> Result<ByHand, Error> {
        let patience = Patience { admin: PATIENCE, shutdown: PATIENCE, change: PATIENCE };
        let function = Arc::new(Held(controller.running.model.clone()));
        let options = StartOptions { workers: 1, region_bytes };
        let (device, transport) = nvme_pci::unkept(settings, function, patience, options)?;
        let hand = Hand::new(device.clone(), transport)
            .map_err(|cause| Error::system("watch an NVMe controller", &cause))?;
        Ok(ByHand { hand, device })
    }

    /// The queue. It is to be dropped before this is.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn queue(&self) -> Result<Box<dyn Queue>, Error> {
        let queue = DeviceQueue::new(self.device.clone(), 0, Arc::new(()))
            .map_err(|cause| Error::system("watch a queue", &cause))?;
        Ok(Box::new(queue))
    }

    /// The payload memory.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.device.region
    }

    /// The facts about the disk.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.device.limits()
    }

    /// Complains of the controller, as a queue does that waits for too long.
    pub fn complain(&self) {
        self.device.complain("the controller of a test has ended no request for too long");
    }

    /// Looks after the controller, as a keeper does now and then. `true`: it is to be restarted, by
    /// [`ByHand::restart`], when the queue was called once more and has given its lane back.
    pub fn look(&mut self) -> bool {
        self.hand.look()
    }

    /// Restarts the controller, if it is to be.
    pub fn restart(&mut self) {
        self.hand.restart();
    }

    /// What happened.
    #[must_use]
    pub fn next_event(&self) -> Option<Event> {
        self.hand.next_event()
    }

    /// Whether the controller was given up.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.device.is_dead()
    }
}
