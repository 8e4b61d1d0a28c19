//! [`Controller`]: the registers of an NVMe controller (Base 2.0c, section 3.1.3 "Controller Properties").

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Patience;
use super::doorbells::{Doorbells, Shadow};
use crate::error::Error;
use crate::pci::config::{ConfigSpace, set_bus_master};
use crate::pci::{Function, Registers};

/// Offsets of the properties.
mod property {
    pub(super) const CAPABILITIES: usize = 0x00;
    pub(super) const CONFIGURATION: usize = 0x14;
    pub(super) const STATUS: usize = 0x1c;
    pub(super) const ADMIN_QUEUE_ATTRIBUTES: usize = 0x24;
    pub(super) const ADMIN_SUBMISSION_QUEUE: usize = 0x28;
    pub(super) const ADMIN_COMPLETION_QUEUE: usize = 0x30;
    pub(super) const LEN_BYTES: usize = 0x38;
    /// The first doorbell.
    pub(super) const DOORBELLS: u64 = 0x1000;
}

/// Controller configuration (section 3.1.3.5).
const ENABLE: u32 = 1;
const SHUTDOWN_NORMAL: u32 = 1 << 14;
const SHUTDOWN_MASK: u32 = 3 << 14;
/// Entries of 64 and of 16 bytes.
const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;

/// Controller status (section 3.1.3.6).
const READY: u32 = 1;
const FATAL: u32 = 2;
const SHUTDOWN_COMPLETE: u32 = 2 << 2;
const SHUTDOWN_STATUS: u32 = 3 << 2;

/// All registers of a controller that is not there.
const NOBODY: u32 = u32::MAX;

/// The class of such a function: mass storage, non-volatile memory, NVM Express (PCI Code and ID Assignment 1.11).
const CLASS: [u8; 3] = [0x02, 0x08, 0x01];

/// What a controller says that it can (section 3.1.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Most entries of a queue.
    pub(super) entries_max: u32,
    /// How long it may take to become ready, or to stop.
    pub(super) patience: Duration,
    /// Distance of doorbells in bytes.
    pub(super) stride: usize,
    /// The smallest page.
    pub(super) page_bytes: usize,
    has_nvm: bool,
}

impl Capabilities {
    fn decode(low: u32, high: u32) -> Capabilities {
        Capabilities {
            entries_max: (low & 0xffff) + 1,
            // At least one unit, which is 500 ms.
            patience: Duration::from_millis(500) * (low >> 24).max(1),
            stride: 4 << (high & 15),
            page_bytes: 4096 << (high >> 16 & 15),
            has_nvm: high >> 5 & 1 != 0,
        }
    }
}

/// A controller that is under control.
pub(super) struct Controller {
    function: Arc<dyn Function>,
    registers: Arc<dyn Registers>,
    pub(super) capabilities: Capabilities,
    pub(super) patience: Patience,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("name", &self.function.name()).finish_non_exhaustive()
    }
}

/// How a controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Fine,
    /// It says that it is beyond use without a reset.
    Fatal,
    /// It is not started.
    Stopped,
    /// It is not there.
    Gone,
}

impl Controller {
    /// Takes the controller, and stops it: whoever had it before may have left it running.
    ///
    /// # Errors
    /// It is no NVMe controller, or does not do what such controllers do.
    pub(super) fn take(function: Arc<dyn Function>, patience: Patience) -> Result<Controller, Error> {
        let name = function.name();
        let space = ConfigSpace::read(&*function)?;
        if space.class() != CLASS {
            let (vendor, device) = space.id();
            return Err(match vendor {
                0xffff => Error::device(format!("{name} does not answer")),
                _ => Error::device(format!("{name} is no NVMe controller, but {vendor:04x}:{device:04x}"))
                    .hint("lspci -nn tells what it is"),
            });
        }
        set_bus_master(&*function, false)?;
        let registers = function.registers(0, 0, property::LEN_BYTES)?;
        let (low, high) =
            (registers.load32(property::CAPABILITIES), registers.load32(property::CAPABILITIES + 4));
        let capabilities = Capabilities::decode(low, high);
        let controller = Controller { function: function.clone(), registers, capabilities, patience };
        if low == NOBODY && high == NOBODY {
            return Err(controller.broken("does not answer"));
        }
        if !capabilities.has_nvm {
            return Err(controller.broken("does not have the NVM command set, and serves no disks"));
        }
        if capabilities.entries_max < 2 || capabilities.page_bytes > 64 << 10 {
            return Err(controller.broken(&format!("has capabilities that cannot be: {high:08x}{low:08x}")));
        }
        controller.disable()?;
        Ok(controller)
    }

    pub(super) fn name(&self) -> &str {
        self.function.name()
    }

    pub(super) fn function(&self) -> &Arc<dyn Function> {
        &self.function
    }

    pub(super) fn broken(&self, what: &str) -> Error {
        Error::device(format!("{} {what}", self.name()))
    }

    pub(super) fn state(&self) -> State {
        match self.registers.load32(property::STATUS) {
            NOBODY => State::Gone,
            status if status & FATAL != 0 => State::Fatal,
            status if status & READY == 0 => State::Stopped,
            _ => State::Fine,
        }
    }

    /// How long a start or a stop may take.
    fn change_patience(&self) -> Duration {
        self.capabilities.patience.min(self.patience.change)
    }

    /// Waits until bits of the status are as they should be. In a fatal state none come any more.
    fn wait(&self, mask: u32, value: u32, patience: Duration, what: &str) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            match self.registers.load32(property::STATUS) {
                NOBODY => return Err(self.broken("does not answer")),
                status if status & FATAL != 0 && value != 0 => return Err(self.broken("is in a fatal state")),
                status if status & mask == value => return Ok(()),
                _ if started.elapsed() > patience => {
                    let seconds = patience.as_secs_f64();
                    return Err(self.broken(&format!("has not {what} for {seconds:.1} s")));
                }
                _ => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Stops the controller, and waits until it has stopped (section 3.7.2). Then it uses no memory.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn disable(&self) -> Result<(), Error> {
        let patience = self.change_patience();
        let configuration = self.registers.load32(property::CONFIGURATION);
        if configuration & ENABLE != 0 && self.state() == State::Stopped {
            // It must not be stopped while it starts; one that does not start is stopped all the same.
            let _ = self.wait(READY, READY, patience, "started");
        }
        self.registers.store32(property::CONFIGURATION, configuration & !(ENABLE | SHUTDOWN_MASK));
        self.wait(READY, 0, patience, "stopped")
    }

    /// Stops the controller by all means, and proves that it uses no memory any more.
    ///
    /// # Errors
    /// That cannot be proven.
    pub(super) fn stop(&self) -> Result<(), Error> {
        let Err(error) = self.disable() else { return Ok(()) };
        tracing::warn!("{error}; the function is reset");
        set_bus_master(&*self.function, false)?;
        self.function.reset()?;
        self.disable()
    }

    /// Starts the controller, with its admin queues of so many entries at these addresses (section 3.5.1).
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn enable(&self, submissions: u64, completions: u64, entries: u16) -> Result<(), Error> {
        let last = u32::from(entries - 1);
        self.registers.store32(property::ADMIN_QUEUE_ATTRIBUTES, last | last << 16);
        for (at, address) in
            [(property::ADMIN_SUBMISSION_QUEUE, submissions), (property::ADMIN_COMPLETION_QUEUE, completions)]
        {
            self.registers.store32(at, address as u32);
            self.registers.store32(at + 4, (address >> 32) as u32);
        }
        set_bus_master(&*self.function, true)?;
        let page = (self.capabilities.page_bytes / 4096).ilog2() << 7;
        self.registers.store32(property::CONFIGURATION, ENTRY_SIZES | page | ENABLE);
        self.wait(READY, READY, self.change_patience(), "started")
    }

    /// Whether the doorbells of so many pairs and of the admin queues fit into a page.
    pub(super) fn has_room_for_doorbells(&self, pairs: usize) -> bool {
        2 * (pairs + 1) * self.capabilities.stride <= self.capabilities.page_bytes
    }

    /// The doorbells of pair `queue`; that of the admin queues is 0.
    ///
    /// # Errors
    /// The controller has no such registers.
    pub(super) fn doorbells(&self, queue: u16, shadow: Option<Shadow>) -> Result<Doorbells, Error> {
        let stride = self.capabilities.stride;
        let tail = 2 * usize::from(queue) * stride;
        let places = [tail, tail + stride];
        let registers = self.function.registers(0, property::DOORBELLS, places[1] + 4)?;
        Ok(Doorbells { registers, places, shadow, values: [0; 2] })
    }

    /// Ends the service in order: the controller writes what it has in its cache (section 3.6.1), stops, and is let
    /// go. What remains to be done after the first call is nothing.
    pub(super) fn leave(&self) {
        if self.state() == State::Fine {
            let configuration = self.registers.load32(property::CONFIGURATION);
            if configuration & ENABLE != 0 {
                let shutdown = configuration & !SHUTDOWN_MASK | SHUTDOWN_NORMAL;
                self.registers.store32(property::CONFIGURATION, shutdown);
                let done = self.wait(SHUTDOWN_STATUS, SHUTDOWN_COMPLETE, self.patience.shutdown, "shut down");
                for error in [done, self.disable()].into_iter().filter_map(Result::err) {
                    tracing::warn!("{error}");
                }
            }
        }
        self.function.release();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_taken_apart() {
        // As QEMU's controller has them.
        let known = Capabilities::decode(0x0f01_07ff, 0x0040_1820 & !0x1800 | 0x20);
        assert_eq!(known.entries_max, 2048);
        assert_eq!(known.patience, Duration::from_millis(7500));
        assert_eq!((known.stride, known.page_bytes, known.has_nvm), (4, 4096, true));
        let known = Capabilities::decode(0, 0x0001_0003);
        assert_eq!((known.entries_max, known.patience), (1, Duration::from_millis(500)));
        assert_eq!((known.stride, known.page_bytes, known.has_nvm), (32, 8192, false));
    }
}
