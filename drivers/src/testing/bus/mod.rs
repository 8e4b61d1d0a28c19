//! What all devices on the PCI bus that tests make have in common.
//!
//! | module | is |
//! |---|---|
//! | `space` | the configuration space |
//! | `dma` | the memory that a device reaches |
//! | `model` | a device with its thread |
//! | `function` | a device as its driver reaches it |
//!
//! They take the place of `vfio-pci` and what is behind it, so drivers run as they are. They are strict: what a driver
//! must not do is noted, memory that was not mapped and memory at a time when the device may not reach any included.

mod dma;
mod function;
mod model;
mod space;

use vmm_sys_util::eventfd::EventFd;

pub(super) use self::dma::Dma;
pub(super) use self::function::Held;
#[cfg(test)]
pub(super) use self::model::Model;
pub(super) use self::model::{Chip, Running, Work};
pub(super) use self::space::Space;
use super::device_ring::Violation;

/// Whether there is a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// It was pulled out.
    Gone,
    /// The driver let it go.
    Released,
}

/// What every device has.
pub(super) struct Bus {
    pub(super) presence: Presence,
    pub(super) space: Space,
    pub(super) dma: Dma,
    /// Interrupts that it can tell apart.
    pub(super) vectors: u16,
    /// Signalled instead of interrupts.
    pub(super) events: Vec<EventFd>,
    /// What the driver did against the rules.
    pub(super) violations: Vec<Violation>,
}

impl Bus {
    pub(super) fn new(space: Space, vectors: u16) -> Bus {
        Bus {
            presence: Presence::Here,
            space,
            dma: Dma::default(),
            vectors,
            events: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Notes what is against the rules.
    pub(super) fn note<T>(&mut self, result: Result<T, Violation>) -> Option<T> {
        result.map_err(|violation| self.violations.push(violation)).ok()
    }

    /// Whether registers answer.
    pub(super) fn answers(&mut self) -> bool {
        if self.presence != Presence::Here {
            return false;
        }
        if !self.space.has_memory() {
            self.violations.push(Violation("registers are used before they answer".into()));
        }
        self.space.has_memory()
    }

    /// What the device reaches now.
    pub(super) fn memory(&mut self) -> &Dma {
        self.dma.is_on = self.space.is_master();
        &self.dma
    }

    /// Sends an interrupt, if that is one.
    pub(super) fn call(&self, vector: u16) {
        if let Some(event) = self.events.get(usize::from(vector)) {
            // The only error is a full counter, and then it is readable already.
            let _ = event.write(1);
        }
    }

    /// The driver lets the device go: no memory is reached any more.
    pub(super) fn release(&mut self) {
        self.presence = Presence::Released;
        self.dma = Dma::default();
    }
}
