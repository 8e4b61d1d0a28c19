//! [`Space`]: the configuration space (PCI Local Bus Specification 3.0, chapter 6).

use crate::testing::device_ring::Violation;

const SPACE_BYTES: usize = 256;
const COMMAND: usize = 4;
const STATUS: usize = 6;
const POINTER: usize = 0x34;

/// In the command register: memory answers; the device may reach memory.
const MEMORY: u8 = 1 << 1;
const BUS_MASTER: u8 = 1 << 2;

/// The space.
#[derive(Debug)]
pub(in crate::testing) struct Space {
    bytes: [u8; SPACE_BYTES],
}

impl Space {
    /// Of a device with these numbers of its vendor and of itself.
    pub(in crate::testing) fn new(id: (u16, u16)) -> Space {
        let mut space = Space { bytes: [0; SPACE_BYTES] };
        space.put(0, &id.0.to_le_bytes());
        space.put(2, &id.1.to_le_bytes());
        space
    }

    /// Where there is no device.
    pub(in crate::testing) fn nobody() -> Space {
        Space { bytes: [0xff; SPACE_BYTES] }
    }

    /// Bytes from `offset` on; ones where there are none.
    pub(in crate::testing) fn read(&self, offset: u64, bytes: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = start.checked_add(at).and_then(|at| self.bytes.get(at)).copied().unwrap_or(0xff);
        }
    }

    /// # Errors
    /// Only the command register is to be written.
    pub(in crate::testing) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Violation> {
        if offset != COMMAND as u64 || bytes.len() != 2 {
            return Err(Violation(format!("{bytes:?} is written at {offset:#x} of the configuration space")));
        }
        self.put(COMMAND, bytes);
        Ok(())
    }

    /// Whether registers answer.
    pub(in crate::testing) fn has_memory(&self) -> bool {
        self.bytes[COMMAND] & MEMORY != 0
    }

    /// Whether the device may reach memory.
    pub(in crate::testing) fn is_master(&self) -> bool {
        self.bytes[COMMAND] & BUS_MASTER != 0
    }

    pub(in crate::testing) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A list of capabilities: place, type and place of the next one of each.
    pub(in crate::testing) fn put_list(&mut self, list: &[(u8, u8, u8)]) {
        self.bytes[STATUS] |= 1 << 4;
        self.bytes[POINTER] = list[0].0;
        for (at, kind, next) in list {
            self.put(usize::from(*at), &[*kind, *next]);
        }
    }
}
