//! [`BlkConfig`]: the configuration space of a block device, checked before anything is computed from it.

use super::spec::{SECTOR_BYTES, feature};
use crate::error::Error;
use crate::limits::{DiscardLimits, Limits, ZeroesLimits};
use crate::mem::LARGEST_LEASE_BYTES;

/// Length of the configuration space up to the write zeroes fields (VIRTIO 1.2, section 5.2.4 "Device configuration
/// layout"). What follows belongs to features that are not negotiated.
pub(crate) const CONFIG_BYTES: usize = 60;

/// Most buffers of data in one of our requests: what a lease needs if the device takes no longer ones than 4 KiB.
const SEGMENTS_MAX: u32 = 64;

/// The configuration space with the features that say which fields mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlkConfig {
    features: u64,
    capacity_sectors: u64,
    size_max: u32,
    seg_max: u32,
    blk_size: u32,
    physical_block_exp: u8,
    opt_io_size: u32,
    writeback: u8,
    num_queues: u16,
    max_discard_sectors: u32,
    max_write_zeroes_sectors: u32,
    write_zeroes_may_unmap: u8,
    discard_sector_alignment: u32,
    alignment_offset: u8,
}

impl BlkConfig {
    /// Decodes the space; `features` are those negotiated. Fields are little-endian.
    pub(crate) fn decode(bytes: &[u8; CONFIG_BYTES], features: u64) -> BlkConfig {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        BlkConfig {
            features,
            capacity_sectors: u64::from(u32_at(0)) | u64::from(u32_at(4)) << 32,
            size_max: u32_at(8),
            seg_max: u32_at(12),
            blk_size: u32_at(20),
            physical_block_exp: bytes[24],
            alignment_offset: bytes[25],
            opt_io_size: u32_at(28),
            writeback: bytes[32],
            num_queues: u16_at(34),
            max_discard_sectors: u32_at(36),
            discard_sector_alignment: u32_at(44),
            max_write_zeroes_sectors: u32_at(48),
            write_zeroes_may_unmap: bytes[56],
        }
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Queues that the device has by its configuration.
    pub(crate) fn queues(&self) -> u16 {
        if self.has(feature::MQ) { self.num_queues.max(1) } else { 1 }
    }

    /// Whether a write zeroes request may say that the device may unmap.
    pub(crate) fn may_unmap(&self) -> bool {
        self.has(feature::WRITE_ZEROES) && self.write_zeroes_may_unmap != 0
    }

    /// Whether the device takes flush requests.
    pub(crate) fn can_flush(&self) -> bool {
        self.has(feature::FLUSH)
    }

    /// Longest buffer of a request in bytes; 0 if there is no limit.
    pub(crate) fn segment_bytes(&self) -> u32 {
        if self.has(feature::SIZE_MAX) { self.size_max } else { 0 }
    }

    /// Most buffers of data in one request, as far as they are needed.
    pub(crate) fn segments(&self) -> u32 {
        let needed = match self.segment_bytes() {
            0 => 1,
            bytes => (LARGEST_LEASE_BYTES as u32).div_ceil(bytes).max(1),
        };
        let most = if self.has(feature::SEG_MAX) { self.seg_max.max(1) } else { SEGMENTS_MAX };
        needed.min(most).min(SEGMENTS_MAX)
    }

    /// What discards should be multiples of, and where the first such block begins, in bytes.
    pub(crate) fn discard_alignment(&self) -> (u32, u32) {
        let sector = SECTOR_BYTES as u32;
        let alignment =
            if self.has(feature::DISCARD) { self.discard_sector_alignment.saturating_mul(sector) } else { 0 };
        let offset = match self.has(feature::TOPOLOGY) {
            true => self.block_bytes().saturating_mul(self.alignment_offset.into()),
            false => 0,
        };
        (alignment, offset)
    }

    fn block_bytes(&self) -> u32 {
        if self.has(feature::BLK_SIZE) { self.blk_size } else { SECTOR_BYTES as u32 }
    }

    /// The facts about the disk. `read_only`: the caller asked for it.
    ///
    /// # Errors
    /// What the device says cannot be.
    pub(crate) fn limits(&self, read_only: bool) -> Result<Limits, Error> {
        let block = self.block_bytes();
        if !block.is_power_of_two() || u64::from(block) < SECTOR_BYTES {
            return Err(Error::device(format!("the device reports an impossible block size of {block}")));
        }
        let Some(capacity_bytes) = self.capacity_sectors.checked_mul(SECTOR_BYTES) else {
            let sectors = self.capacity_sectors;
            return Err(Error::device(format!(
                "the device reports an impossible capacity of {sectors} sectors"
            )));
        };
        let optimal = match self.has(feature::TOPOLOGY) {
            true => block.checked_shl(self.physical_block_exp.into()).filter(|bytes| *bytes <= 1 << 20),
            false => None,
        };
        let sectors = |count: u32| u64::from(count) * SECTOR_BYTES / u64::from(block) * u64::from(block);
        let discard = (self.has(feature::DISCARD) && sectors(self.max_discard_sectors) > 0)
            .then(|| DiscardLimits { max_bytes: sectors(self.max_discard_sectors), alignment_bytes: block });
        let zeroes = self.has(feature::WRITE_ZEROES) && sectors(self.max_write_zeroes_sectors) > 0;
        Limits {
            capacity_bytes,
            read_only: read_only || self.has(feature::READ_ONLY),
            can_grow: false,
            request_alignment_bytes: block,
            buffer_alignment_bytes: 1,
            optimal_io_alignment_bytes: optimal.unwrap_or(0).max(block).max(4096),
            optimal_io_bytes: match self.has(feature::TOPOLOGY) {
                true => self.opt_io_size.saturating_mul(block),
                false => 0,
            },
            max_transfer_bytes: self.max_transfer_bytes(block)?,
            discard,
            write_zeroes: zeroes.then(|| ZeroesLimits {
                max_bytes: sectors(self.max_write_zeroes_sectors),
                alignment_bytes: block,
                // A device that may not unmap writes the zeroes, as fast as it can.
                fast_unmap: self.may_unmap(),
                fast_no_unmap: false,
            }),
            fua: false,
            flush_needed: match self.has(feature::CONFIG_WCE) {
                true => self.writeback != 0 && self.can_flush(),
                false => self.can_flush(),
            },
            block_status: false,
            rotational: false,
            immediate: false,
        }
        .validate()
    }

    /// Longest read or write: whole blocks that fit into as many buffers as there may be.
    fn max_transfer_bytes(&self, block: u32) -> Result<u32, Error> {
        let lease = LARGEST_LEASE_BYTES as u32;
        let most = match self.segment_bytes() {
            0 => lease,
            bytes => bytes.saturating_mul(self.segments()).min(lease),
        };
        if most < block {
            return Err(Error::device(format!(
                "the device takes at most {most} bytes at a time, which is less than its block of {block}"
            )));
        }
        // A power of two, so that parts that begin at its multiples are whole blocks.
        Ok(1 << most.ilog2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(fields: &[(usize, u32)]) -> [u8; CONFIG_BYTES] {
        let mut bytes = [0; CONFIG_BYTES];
        for (at, value) in fields {
            bytes[*at..*at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn fields_of_features_that_are_not_negotiated_mean_nothing() {
        let noise = [0xff; CONFIG_BYTES];
        let mut noise = noise;
        noise[..8].copy_from_slice(&2048_u64.to_le_bytes());
        let limits = BlkConfig::decode(&noise, 0).limits(false).unwrap();
        assert_eq!((limits.capacity_bytes, limits.request_alignment_bytes), (1 << 20, 512));
        assert_eq!((limits.discard, limits.write_zeroes, limits.read_only), (None, None, false));
        assert_eq!(limits.max_transfer_bytes as usize, LARGEST_LEASE_BYTES);
        assert!(!limits.flush_needed);
    }

    #[test]
    fn buffers_are_as_long_and_as_many_as_the_device_takes() {
        let config = |size_max, seg_max| {
            BlkConfig::decode(
                &bytes(&[(0, 8), (8, size_max), (12, seg_max)]),
                feature::SIZE_MAX | feature::SEG_MAX,
            )
        };
        assert_eq!(config(4096, 126).segments(), 64);
        assert_eq!(config(4096, 126).limits(false).unwrap().max_transfer_bytes, 256 << 10);
        assert_eq!(config(65536, 2).segments(), 2);
        assert_eq!(config(65536, 2).limits(false).unwrap().max_transfer_bytes, 128 << 10);
        assert_eq!(config(3000, 3).limits(false).unwrap().max_transfer_bytes, 8192);
        assert_eq!(config(1 << 20, 126).segments(), 1);
        assert!(config(256, 1).limits(false).is_err(), "less than a sector");
        assert_eq!(config(0, 0).segments(), 1, "a limit of nothing is none");
    }

    #[test]
    fn impossible_facts_are_refused() {
        for size in [0, 3, 256, 600, 1 << 30] {
            let config = BlkConfig::decode(&bytes(&[(0, 8), (20, size)]), feature::BLK_SIZE);
            assert!(config.limits(false).is_err(), "blk_size {size}");
        }
        let config = BlkConfig::decode(&bytes(&[(0, u32::MAX), (4, u32::MAX)]), 0);
        assert!(config.limits(false).is_err(), "capacity");
    }

    #[test]
    fn lengths_of_discards_and_zeroes_are_whole_blocks() {
        let config = BlkConfig::decode(
            &bytes(&[(0, 1 << 20), (20, 4096), (36, 15), (48, 7)]),
            feature::BLK_SIZE | feature::DISCARD | feature::WRITE_ZEROES,
        );
        let limits = config.limits(false).unwrap();
        assert_eq!(limits.discard.unwrap().max_bytes, 4096);
        assert_eq!(limits.write_zeroes, None, "less than a block is nothing");
    }
}
