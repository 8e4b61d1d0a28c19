//! The configuration of a block device (VIRTIO 1.2, section 5.2.4 "Device configuration layout"), read by the rules of
//! section 4.1.3.1: each field by accesses of its own width, those of 64 bits by halves.

use super::kind::{Fault, Kind};
use crate::testing::device_ring::Violation;
use crate::testing::ram_disk::RANGE_SECTORS;

const BYTES: usize = 60;

/// Where fields of one and two bytes are; all others have four. What is unused counts as bytes.
const SINGLE: [usize; 10] = [18, 19, 24, 25, 32, 33, 56, 57, 58, 59];
const DOUBLE: [usize; 3] = [16, 26, 34];

/// The configuration.
#[derive(Debug)]
pub(super) struct Config {
    bytes: [u8; BYTES],
    len: usize,
}

impl Config {
    pub(super) fn new(kind: &Kind) -> Config {
        let mut config = Config { bytes: [0; BYTES], len: kind.config_bytes.min(BYTES) };
        config.set_sectors(match kind.fault {
            Fault::TellsSectors(sectors) => sectors,
            _ => kind.capacity_bytes as u64 / 512,
        });
        config.put(20, &kind.block_bytes.to_le_bytes());
        config.put(34, &kind.queues.to_le_bytes());
        // Longest range, ranges in a request and alignment of discard; then longest range, ranges and unmap of write
        // zeroes.
        for (at, value) in [(36, RANGE_SECTORS), (40, 1), (44, 1), (48, RANGE_SECTORS), (52, 1)] {
            config.put(at, &value.to_le_bytes());
        }
        config.put(56, &[1]);
        config
    }

    pub(super) fn set_sectors(&mut self, sectors: u64) {
        self.put(0, &sectors.to_le_bytes());
    }

    /// Reads the field of `width` bytes at `offset`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn load(&self, offset: usize, width: usize) -> Result<u32, Violation> {
        let right_width = match offset {
            _ if SINGLE.contains(&offset) => 1,
            _ if DOUBLE.contains(&offset) => 2,
            _ => 4,
        };
        let is_aligned = offset.is_multiple_of(right_width);
        let bytes = self.bytes[..self.len].get(offset..offset + width);
        let bytes = bytes.filter(|_| width == right_width && is_aligned);
        let Some(bytes) = bytes else {
            return Err(Violation(format!("{width} bytes of the configuration are read at {offset}")));
        };
        Ok(bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
