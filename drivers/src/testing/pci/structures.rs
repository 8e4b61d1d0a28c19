//! The list of capabilities of a virtio device (VIRTIO 1.2, section 4.1.4), in its configuration space.

use super::kind::{Fault, Kind};
use crate::testing::bus::Space;

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

/// Types of capabilities.
const POWER: u8 = 1;
const VENDOR: u8 = 9;

/// The configuration space of a device.
pub(super) fn space(kind: &Kind) -> Space {
    let mut space = Space::new(kind.id);
    match kind.fault {
        Fault::NotThere => return Space::nobody(),
        Fault::NoCapabilities => {}
        Fault::CapabilityLoop => space.put_list(&[(0x40, POWER, 0x48), (0x48, POWER, 0x40)]),
        _ => put_structures(&mut space, kind),
    }
    space
}

fn put_structures(space: &mut Space, kind: &Kind) {
    space.put_list(&[
        (0x40, POWER, 0x50),
        (0x50, VENDOR, 0x60),
        (0x60, VENDOR, 0x74),
        (0x74, VENDOR, 0x84),
        (0x84, VENDOR, 0),
    ]);
    let outside = if kind.fault == Fault::StructureOutside { BAR_BYTES } else { 0 };
    let notify_bytes = NOTIFY_MULTIPLIER * usize::from(kind.queues);
    put_structure(space, 0x50, 1, COMMON_AT, COMMON_BYTES + outside);
    put_structure(space, 0x60, 2, NOTIFY_AT, notify_bytes);
    space.put(0x70, &(NOTIFY_MULTIPLIER as u32).to_le_bytes());
    put_structure(space, 0x74, 3, ISR_AT, 1);
    put_structure(space, 0x84, 4, DEVICE_AT, kind.config_bytes);
    // The one for structures of type 2 has a word more.
    space.put(0x62, &[20]);
}

/// `struct virtio_pci_cap` behind its first two bytes.
fn put_structure(space: &mut Space, at: usize, kind: u8, offset: usize, len: usize) {
    space.put(at + 2, &[16, kind, BAR, 0, 0, 0]);
    space.put(at + 8, &(offset as u32).to_le_bytes());
    space.put(at + 12, &(len as u32).to_le_bytes());
}
