//! PCI devices: what their drivers ask of the way they are reached.
//!
//! | module | is |
//! |---|---|
//! | `alarms` | what the system tells of a device by itself |
//! | `config` | the configuration space: identity, command register, capabilities |
//! | `named` | the device that the property `path` names |
//! | `vfio` | devices of this machine, which the kernel's `vfio-pci` hands out |
//!
//! A driver knows a device by [`Function`] and [`Registers`] only, so a model in this process (`testing::pci`) takes
//! the place of a real one in tests.

pub(crate) mod alarms;
pub(crate) mod config;
pub(crate) mod named;
pub(crate) mod vfio;

use std::sync::Arc;

use crate::error::Error;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;
use crate::sys::registers::DeviceMemory;

/// A function of a PCI device that this program has for itself.
pub(crate) trait Function: Send + Sync {
    /// What messages call it.
    fn name(&self) -> &str;

    /// Reads the configuration space from `offset` on.
    ///
    /// # Errors
    /// The system says no, or the device was let go.
    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error>;

    /// Writes the configuration space from `offset` on.
    ///
    /// # Errors
    /// As for reading.
    fn write_config(&self, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// `len_bytes` of registers at `offset` of a base address register (0 to 5).
    ///
    /// # Errors
    /// The device has no such memory.
    fn registers(&self, bar: u8, offset: u64, len_bytes: usize) -> Result<Arc<dyn Registers>, Error>;

    /// The addresses that the device can be made to reach memory by, ascending.
    fn reach(&self) -> Vec<(u64, u64)>;

    /// Lets the device reach memory at `address`, as long as it is in service. The memory keeps its pages, even if
    /// others are mapped in their place.
    ///
    /// # Errors
    /// The system says no: most often because too much memory would be locked.
    fn map(&self, address: u64, memory: &Mapping) -> Result<(), Error>;

    /// How many interrupts the device can tell apart (MSI-X vectors).
    fn vectors(&self) -> usize;

    /// Has interrupt `n` signal event `n`.
    ///
    /// # Errors
    /// The system says no.
    fn interrupt(&self, events: &[&EventFd]) -> Result<(), Error>;

    /// Has `wanted` signalled when the system wants the device back, and `broken` when it tells of an error that it
    /// cannot recover from. A system that cannot tell does not.
    fn watch(&self, wanted: &EventFd, broken: &EventFd);

    /// Resets the function, if it can be reset at all.
    ///
    /// # Errors
    /// The device was let go.
    fn reset(&self) -> Result<(), Error>;

    /// Lets go of the device: it reaches no memory any more, registers read as all ones, and another program may have
    /// it. What remains to be done after the first call is nothing.
    fn release(&self);
}

/// Registers of a device. Accesses are single, of natural width, little-endian, and in the order of the program;
/// memory that was written before a register is seen by the device before it sees the register.
pub(crate) trait Registers: Send + Sync {
    /// Reads 8 bits; all ones where there is no register or no device.
    fn load8(&self, offset: usize) -> u8;
    /// Reads 16 bits.
    fn load16(&self, offset: usize) -> u16;
    /// Reads 32 bits.
    fn load32(&self, offset: usize) -> u32;
    /// Writes 8 bits.
    fn store8(&self, offset: usize, value: u8);
    /// Writes 16 bits.
    fn store16(&self, offset: usize, value: u16);
    /// Writes 32 bits.
    fn store32(&self, offset: usize, value: u32);
}

impl Registers for DeviceMemory {
    fn load8(&self, offset: usize) -> u8 {
        DeviceMemory::load8(self, offset)
    }

    fn load16(&self, offset: usize) -> u16 {
        u16::from_le(DeviceMemory::load16(self, offset))
    }

    fn load32(&self, offset: usize) -> u32 {
        u32::from_le(DeviceMemory::load32(self, offset))
    }

    fn store8(&self, offset: usize, value: u8) {
        DeviceMemory::store8(self, offset, value);
    }

    fn store16(&self, offset: usize, value: u16) {
        DeviceMemory::store16(self, offset, value.to_le());
    }

    fn store32(&self, offset: usize, value: u32) {
        DeviceMemory::store32(self, offset, value.to_le());
    }
}
