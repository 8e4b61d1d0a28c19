//! [`NvmeDevice`]: an NVMe controller on the PCI bus, in this process, for the driver `nvme-vfio-pci`.
//!
//! | module | is |
//! |---|---|
//! | `kind` | what a controller is to be, and what it does wrong |
//! | `mishap` | what becomes of single commands |
//! | `lies` | what it says that is not so; `wild`: how it is made to |
//! | `by_hand` | controller and driver on one thread |
//! | `registers` | its properties: capabilities, configuration, status |
//! | `queues` | submission and completion queues, doorbells |
//! | `prp` | where the data of a command lies |
//! | `command` | a command as it was fetched |
//! | `identify` | what it says of itself |
//! | `admin` | commands of administration |
//! | `io` | commands of the NVM command set, on zeroes in memory |
//! | `state` | all of that as a device |
//! | `null` | the quick way for a controller that moves nothing |
//!
//! What it has in common with other devices lies in the module `bus`. It has numbers of its own for what the
//! specifications define, so that a mistake of the driver is not confirmed here: "NVM Express Base Specification 2.0c"
//! and "NVM Command Set Specification 1.0c".

mod admin;
mod by_hand;
mod command;
mod identify;
mod io;
mod kind;
mod lies;
mod mishap;
mod null;
mod prp;
mod queues;
mod registers;
#[cfg(test)]
mod rules;
mod state;
mod wild;

use std::path::Path;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::time::Duration;

use self::state::State;
use super::bus::{Held, Presence, Running};
use crate::driver::Connected;
use crate::error::Error;
use crate::nvme_pci::{self, Patience};
use crate::pci::Function;
use crate::property::Settings;

pub use by_hand::ByHand;
pub use kind::{Fault, Kind};
pub use mishap::{Act, Mishap};
pub use null::NullController;
pub use wild::Topic;

/// Opcodes for [`Mishap`].
pub mod opcode {
    /// Flush.
    pub const FLUSH: u8 = 0;
    /// Write.
    pub const WRITE: u8 = 1;
    /// Read.
    pub const READ: u8 = 2;
    /// Write zeroes.
    pub const WRITE_ZEROES: u8 = 8;
    /// Dataset management.
    pub const DATASET_MANAGEMENT: u8 = 9;
}

/// An NVMe controller. It serves until it is dropped, or its driver lets it go.
pub struct NvmeDevice {
    running: Running<State>,
}

impl NvmeDevice {
    /// A controller whose namespaces are all zeroes, and which somebody else has left running.
    ///
    /// # Panics
    /// There is no thread for it.
    #[must_use]
    pub fn new(kind: Kind) -> NvmeDevice {
        NvmeDevice { running: Running::start(State::new(kind)) }
    }

    /// Gives it to the driver. `patience` is how long a command of administration and a shutdown may take.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn connect(&self, settings: &Settings, patience: Duration) -> Result<Box<dyn Connected>, Error> {
        NvmeDevice::connect_function(Arc::new(self.in_hand()), settings, patience)
    }

    /// The device as its driver reaches it.
    fn in_hand(&self) -> Held<State> {
        Held(self.running.model.clone())
    }

    fn connect_function(
        function: Arc<dyn Function>,
        settings: &Settings,
        patience: Duration,
    ) -> Result<Box<dyn Connected>, Error> {
        let patience = Patience { admin: patience, shutdown: patience, ..Patience::default() };
        nvme_pci::connect(settings, function, Path::new("/sys/no-device"), patience)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.running.model.state()
    }

    /// What the driver did against the rules.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state().bus.violations.iter().map(ToString::to_string).collect()
    }

    /// Whether the driver has let it go.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.state().bus.presence == Presence::Released
    }

    /// Whether it was told of a shutdown before it was let go.
    #[must_use]
    pub fn was_shut_down(&self) -> bool {
        self.state().was_shut_down
    }

    /// Whether it was told to stop, or has stopped by itself.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        !self.state().properties.is_enabled()
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.state().starts
    }

    /// Commands that it has fetched: of administration, or the others.
    #[must_use]
    pub fn commands(&self, of_administration: bool) -> u64 {
        self.state().commands[usize::from(!of_administration)]
    }

    /// How often it was told of commands by registers, those of administration left out.
    #[must_use]
    pub fn kicks(&self) -> u64 {
        self.state().kicks
    }

    /// Everything in a namespace, counted from 1.
    #[must_use]
    pub fn bytes(&self, namespace: u32) -> Vec<u8> {
        self.state().disks.bytes(namespace).to_vec()
    }

    /// Makes all namespaces longer or shorter, a multiple of the block.
    pub fn resize(&self, capacity_bytes: usize) {
        self.state().disks.resize(capacity_bytes);
    }

    /// What is to happen to commands from now on.
    pub fn mishap(&self, mishap: Mishap) {
        self.state().mishaps.push(mishap);
    }

    /// All goes well from now on. What is held stays so.
    pub fn no_mishaps(&self) {
        self.state().mishaps.clear();
    }

    /// From now on it does wrong what `fault` says.
    pub fn fault(&self, fault: Fault) {
        self.state().fault(fault);
    }

    /// It is pulled out: nothing answers any more.
    pub fn vanish(&self) {
        self.state().bus.presence = Presence::Gone;
    }

    /// It gets into a fatal state: it does nothing any more before it is stopped.
    pub fn go_fatal(&self) {
        self.state().go_fatal();
    }

    /// Somebody else resets it.
    pub fn halt(&self) {
        self.state().halt();
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
