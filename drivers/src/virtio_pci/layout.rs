//! [`Layout`]: where a virtio device on the PCI bus has its structures.

use crate::error::Error;
use crate::pci::config::ConfigSpace;
use crate::virtio::spec::BLOCK_DEVICE;

/// The vendor of every virtio device (VIRTIO 1.2, section 4.1.2 "PCI Device Discovery").
const VENDOR: u16 = 0x1af4;
/// Numbers of virtio devices; those of version 1 are this and the type.
const FIRST_DEVICE: u16 = 0x1000;
const MODERN: u16 = 0x1040;
const LAST_DEVICE: u16 = 0x107f;
/// A block device that has the interface of before version 1, and perhaps that of version 1.
const TRANSITIONAL_BLOCK: u16 = 0x1001;

/// The capability that says where a structure is (section 4.1.4).
const VENDOR_CAPABILITY: u8 = 9;
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

/// Length of the common configuration up to the addresses of a queue (section 4.1.4.3).
const COMMON_BYTES: u32 = 56;

/// Where a structure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Structure {
    pub(super) bar: u8,
    pub(super) offset: u32,
    pub(super) len_bytes: u32,
}

/// Where the structures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) common: Structure,
    pub(super) notify: Structure,
    /// Distance between the registers of two queues.
    pub(super) notify_multiplier: u32,
    pub(super) device: Structure,
}

impl Layout {
    /// Finds the structures of the block device that messages call `name`.
    ///
    /// # Errors
    /// It is no virtio block device, or one with the interface of before version 1 only.
    pub(super) fn find(space: &ConfigSpace, name: &str) -> Result<Layout, Error> {
        check_id(space.id(), name)?;
        // The first of a kind that makes sense is the one to take.
        let find = |kind: u8| {
            space.capabilities().find_map(|(id, bytes)| {
                let found = (id == VENDOR_CAPABILITY && bytes.get(3) == Some(&kind)).then_some(bytes)?;
                let bar = *found.get(4)?;
                (bar < 6).then_some(())?;
                let structure = Structure { bar, offset: word(found, 8)?, len_bytes: word(found, 12)? };
                Some((structure, word(found, 16)))
            })
        };
        let common = find(COMMON).filter(|(common, _)| common.len_bytes >= COMMON_BYTES);
        match (common, find(NOTIFY), find(DEVICE)) {
            (Some((common, _)), Some((notify, Some(notify_multiplier))), Some((device, _))) => {
                Ok(Layout { common, notify, notify_multiplier, device })
            }
            (None, ..) if space.id().1 == TRANSITIONAL_BLOCK => {
                Err(Error::device(format!("{name} is a legacy-only virtio device, which is not supported"))
                    .hint("it needs the interface of virtio 1; in qemu: disable-modern=off"))
            }
            _ => Err(Error::device(format!("{name} lacks the structures of a virtio 1 device"))),
        }
    }
}

/// The devices that this driver is for (section 4.1.2.1).
fn check_id((vendor, device): (u16, u16), name: &str) -> Result<(), Error> {
    if vendor != VENDOR || !(FIRST_DEVICE..=LAST_DEVICE).contains(&device) {
        let message = format!("{name} is no virtio device, but {vendor:04x}:{device:04x}");
        return Err(match vendor {
            0xffff => Error::device(format!("{name} does not answer")),
            _ => Error::device(message).hint("lspci -nn tells what it is"),
        });
    }
    match device {
        TRANSITIONAL_BLOCK => Ok(()),
        MODERN.. if device - MODERN == BLOCK_DEVICE => Ok(()),
        MODERN.. => {
            let kind = device - MODERN;
            Err(Error::device(format!("{name} is a virtio device of type {kind}, and no disk")))
        }
        _ => Err(Error::device(format!("{name} is a virtio device {vendor:04x}:{device:04x}, and no disk"))),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
