//! [`Disks`]: commands of the NVM command set (NVM 1.0c, section 3), on zeroes in memory.

use super::command::Command;
use super::kind::Kind;
use super::{opcode, prp};
use crate::testing::device_ring::{DeviceMemory, Violation};

/// Statuses: type and code.
pub(super) const SUCCESS: u16 = 0;
const INVALID_OPCODE: u16 = 0x001;
pub(super) const INVALID_FIELD: u16 = 0x002;
const INVALID_NAMESPACE: u16 = 0x00b;
const WRITE_PROTECTED: u16 = 0x020;
const OUT_OF_RANGE: u16 = 0x080;

/// Bits of dword 12.
const FUA: u32 = 1 << 30;
const DEALLOCATE: u32 = 1 << 25;
const COUNT: u32 = 0xffff;

/// Of dword 11 of dataset management.
const ATTRIBUTE_DEALLOCATE: u32 = 4;

const RANGE_BYTES: usize = 16;

/// The namespaces.
pub(super) struct Disks {
    kind: Kind,
    disks: Vec<Vec<u8>>,
}

impl Disks {
    pub(super) fn new(kind: Kind) -> Disks {
        Disks { kind, disks: vec![vec![0; kind.capacity_bytes]; kind.namespaces as usize] }
    }

    /// Everything in a namespace, counted from 1.
    pub(super) fn bytes(&self, namespace: u32) -> &[u8] {
        &self.disks[namespace as usize - 1]
    }

    pub(super) fn blocks(&self) -> u64 {
        self.disks.first().map_or(0, |disk| disk.len() as u64) >> self.kind.block_exponent
    }

    pub(super) fn resize(&mut self, capacity_bytes: usize) {
        self.disks.iter_mut().for_each(|disk| disk.resize(capacity_bytes, 0));
    }

    /// Does a command. Returns its status.
    ///
    /// # Errors
    /// It is not as it must be.
    pub(super) fn serve(&mut self, memory: &dyn DeviceMemory, command: &Command) -> Result<u16, Violation> {
        let exponent = self.kind.block_exponent;
        let is_read = matches!(command.opcode(), opcode::READ | opcode::FLUSH);
        let longest = match self.kind.mdts {
            0 => u64::MAX,
            mdts => prp::PAGE_BYTES << mdts,
        };
        let index = (command.namespace() as usize).wrapping_sub(1);
        let Some(disk) = self.disks.get_mut(index) else { return Ok(INVALID_NAMESPACE) };
        if self.kind.read_only && !is_read {
            return Ok(WRITE_PROTECTED);
        }
        let len = (u64::from(command.dword(12) & COUNT) + 1) << exponent;
        match command.opcode() {
            opcode::FLUSH => {
                (10..16).try_for_each(|number| command.only(number, 0))?;
                no_data(command)?;
            }
            opcode::READ | opcode::WRITE => {
                command.only(12, COUNT | FUA)?;
                if len > longest {
                    return Err(Violation(format!("a transfer of {len} bytes")));
                }
                let Some(part) = part(disk, command.block(), len, exponent) else { return Ok(OUT_OF_RANGE) };
                match command.opcode() {
                    opcode::READ => prp::write(memory, command.prps(), part)?,
                    _ => prp::read(memory, command.prps(), part)?,
                }
            }
            opcode::WRITE_ZEROES => {
                command.only(12, COUNT | FUA | DEALLOCATE)?;
                no_data(command)?;
                let Some(part) = part(disk, command.block(), len, exponent) else { return Ok(OUT_OF_RANGE) };
                part.fill(0);
            }
            opcode::DATASET_MANAGEMENT => return discard(disk, memory, command, exponent),
            _ => return Ok(INVALID_OPCODE),
        }
        Ok(SUCCESS)
    }
}

fn no_data(command: &Command) -> Result<(), Violation> {
    match command.prps() {
        (0, 0) => Ok(()),
        prps => Err(Violation(format!("PRPs {prps:#x?} of a command without data"))),
    }
}

fn discard(
    disk: &mut [u8],
    memory: &dyn DeviceMemory,
    command: &Command,
    exponent: u8,
) -> Result<u16, Violation> {
    command.only(10, 0xff)?;
    command.only(11, ATTRIBUTE_DEALLOCATE)?;
    let mut ranges = vec![0; (command.dword(10) as usize + 1) * RANGE_BYTES];
    prp::read(memory, command.prps(), &mut ranges)?;
    for range in ranges.as_chunks::<RANGE_BYTES>().0 {
        let word = u128::from_le_bytes(*range);
        let (blocks, block) = (u64::from((word >> 32) as u32), (word >> 64) as u64);
        let Some(part) = part(disk, block, blocks << exponent, exponent) else { return Ok(OUT_OF_RANGE) };
        part.fill(0);
    }
    Ok(SUCCESS)
}

/// The range that begins at a block; `None`: it is not inside.
fn part(disk: &mut [u8], block: u64, len: u64, exponent: u8) -> Option<&mut [u8]> {
    let start = usize::try_from(block).ok()?.checked_mul(1 << exponent)?;
    disk.get_mut(start..start.checked_add(usize::try_from(len).ok()?)?)
}
