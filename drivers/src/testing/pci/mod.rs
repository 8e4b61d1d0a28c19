//! [`PciDevice`]: a virtio disk on the PCI bus, in this process, for the driver `virtio-blk-vfio-pci`.
//!
//! | module | is |
//! |---|---|
//! | `kind` | what a device is to be, and what it does wrong |
//! | `structures` | the list of structures in its configuration space |
//! | `common` | the common configuration: status, features, queues |
//! | `config` | the configuration of the disk |
//! | `state` | all of that as a device |
//!
//! What it has in common with other devices lies in the module `bus`.
//!
//! It takes the place of `vfio-pci` and what is behind it, so the driver runs as it is. It is strict: what a driver
//! must not do by the specification is noted ([`PciDevice::violations`]), memory that was not mapped and memory at a
//! time when the device may not reach any included. Queues are served by a thread of the device.

mod common;
mod config;
mod kind;
#[cfg(test)]
mod rules;
mod state;
mod structures;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::state::State;
use super::bus::{Held, Presence, Running};
use super::ram_disk::RamDisk;
use crate::driver::Connected;
use crate::error::Error;
use crate::property::Settings;
use crate::virtio_pci::{self, Patience};

pub use kind::{Fault, Kind};

/// A disk on the PCI bus. It serves until it is dropped, or its driver lets it go.
pub struct PciDevice {
    running: Running<State>,
    disk: RamDisk,
}

impl PciDevice {
    /// A disk of zeroes.
    ///
    /// # Panics
    /// There is no thread for it.
    #[must_use]
    pub fn new(kind: Kind) -> PciDevice {
        let read_only = kind.features & super::feature::READ_ONLY != 0;
        let disk = RamDisk::new(kind.capacity_bytes, read_only);
        PciDevice { running: Running::start(State::new(kind, disk.clone())), disk }
    }

    /// Gives it to the driver. `patience` is how long it may take for a reset, and for the first request.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn connect(&self, settings: &Settings, patience: Duration) -> Result<Box<dyn Connected>, Error> {
        let function = Arc::new(Held(self.running.model.clone()));
        let patience = Patience { reset: patience, answer: patience };
        virtio_pci::connect(settings, function, Path::new("/sys/no-device"), patience)
    }

    /// What the driver did against the rules.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.running.model.state().bus.violations.iter().map(ToString::to_string).collect()
    }

    /// The features that were negotiated.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.running.model.state().common.features()
    }

    /// Whether the driver has let it go.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.running.model.state().bus.presence == Presence::Released
    }

    /// Everything on the disk.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.disk.bytes()
    }

    /// Makes the disk longer or shorter, a multiple of 512, and tells the driver that the configuration has changed.
    pub fn resize(&self, capacity_bytes: usize) {
        self.running.model.state().resize(capacity_bytes);
    }

    /// Tells another capacity, in sectors, whatever the disk has.
    pub fn tell_sectors(&self, sectors: u64) {
        self.running.model.state().tell_sectors(sectors);
    }

    /// It is pulled out: nothing answers any more. Its last interrupt is that its configuration has changed.
    pub fn vanish(&self) {
        let mut state = self.running.model.state();
        state.tell_change();
        state.bus.presence = Presence::Gone;
    }

    /// It gets into an error state, and tells the driver that the configuration has changed.
    pub fn need_reset(&self) {
        let mut state = self.running.model.state();
        state.common.fail();
        state.tell_change();
    }

    /// It tells that the configuration has changed, although it has not.
    pub fn tell_change(&self) {
        self.running.model.state().tell_change();
    }

    /// The system wants it back.
    pub fn want_back(&self) {
        self.running.model.tell(0);
    }

    /// The system tells of an error on the bus.
    pub fn break_bus(&self) {
        self.running.model.tell(1);
    }
}
