//! [`Space`]: the configuration space (PCI Local Bus Specification 3.0, chapter 6) with the capabilities of a virtio
//! device (VIRTIO 1.2, section 4.1.4).

use super::kind::{Fault, Kind};
use crate::testing::device_ring::Violation;

/// The base address register that all structures lie in, and how much memory it has.
pub(super) const BAR: u8 = 4;
pub(super) const BAR_BYTES: usize = 0x4000;

/// Where the structures begin, and the length of the common one.
pub(super) const COMMON_AT: usize = 0;
pub(super) const COMMON_BYTES: usize = 0x38;
pub(super) const ISR_AT: usize = 0x1000;
pub(super) const DEVICE_AT: usize = 0x2000;
pub(super) const NOTIFY_AT: usize = 0x3000;
/// Distance between the registers of two queues.
pub(super) const NOTIFY_MULTIPLIER: usize = 4;

const SPACE_BYTES: usize = 256;
const COMMAND: usize = 4;
const STATUS: usize = 6;
const POINTER: usize = 0x34;

/// In the command register: memory answers; the device may reach memory.
const MEMORY: u8 = 1 << 1;
const BUS_MASTER: u8 = 1 << 2;

/// Types of capabilities.
const POWER: u8 = 1;
const VENDOR: u8 = 9;

/// The space.
#[derive(Debug)]
pub(super) struct Space {
    bytes: [u8; SPACE_BYTES],
}

impl Space {
    pub(super) fn new(kind: &Kind) -> Space {
        let mut space = Space { bytes: [0; SPACE_BYTES] };
        space.put(0, &kind.id.0.to_le_bytes());
        space.put(2, &kind.id.1.to_le_bytes());
        match kind.fault {
            Fault::NotThere => space.bytes.fill(0xff),
            Fault::NoCapabilities => {}
            Fault::CapabilityLoop => space.put_list(&[(0x40, POWER, 0x48), (0x48, POWER, 0x40)]),
            _ => space.put_structures(kind),
        }
        space
    }

    /// Bytes from `offset` on; ones where there are none.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = start.checked_add(at).and_then(|at| self.bytes.get(at)).copied().unwrap_or(0xff);
        }
    }

    /// # Errors
    /// Only the command register is to be written.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Violation> {
        if offset != COMMAND as u64 || bytes.len() != 2 {
            return Err(Violation(format!("{bytes:?} is written at {offset:#x} of the configuration space")));
        }
        self.put(COMMAND, bytes);
        Ok(())
    }

    /// Whether registers answer.
    pub(super) fn has_memory(&self) -> bool {
        self.bytes[COMMAND] & MEMORY != 0
    }

    /// Whether the device may reach memory.
    pub(super) fn is_master(&self) -> bool {
        self.bytes[COMMAND] & BUS_MASTER != 0
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A list of capabilities: place, type and place of the next one of each.
    fn put_list(&mut self, list: &[(u8, u8, u8)]) {
        self.bytes[STATUS] |= 1 << 4;
        self.bytes[POINTER] = list[0].0;
        for (at, kind, next) in list {
            self.put(usize::from(*at), &[*kind, *next]);
        }
    }

    fn put_structures(&mut self, kind: &Kind) {
        self.put_list(&[
            (0x40, POWER, 0x50),
            (0x50, VENDOR, 0x60),
            (0x60, VENDOR, 0x74),
            (0x74, VENDOR, 0x84),
            (0x84, VENDOR, 0),
        ]);
        let outside = if kind.fault == Fault::StructureOutside { BAR_BYTES } else { 0 };
        let notify_bytes = NOTIFY_MULTIPLIER * usize::from(kind.queues);
        self.put_structure(0x50, 1, COMMON_AT, COMMON_BYTES + outside);
        self.put_structure(0x60, 2, NOTIFY_AT, notify_bytes);
        self.put(0x70, &(NOTIFY_MULTIPLIER as u32).to_le_bytes());
        self.put_structure(0x74, 3, ISR_AT, 1);
        self.put_structure(0x84, 4, DEVICE_AT, kind.config_bytes);
        // The one for structures of type 2 has a word more.
        self.bytes[0x62] = 20;
    }

    /// `struct virtio_pci_cap` behind its first two bytes.
    fn put_structure(&mut self, at: usize, kind: u8, offset: usize, len: usize) {
        self.put(at + 2, &[16, kind, BAR, 0, 0, 0]);
        self.put(at + 8, &(offset as u32).to_le_bytes());
        self.put(at + 12, &(len as u32).to_le_bytes());
    }
}
