//! [`BlkConfig`]: the configuration space of a block device, checked before anything is computed from it.

use super::spec::{SECTOR_BYTES, feature};
use crate::error::Error;
use crate::limits::{DiscardLimits, Limits, ZeroesLimits};
use crate::mem::LARGEST_LEASE_BYTES;

/// Length of the configuration space up to the write zeroes fields (VIRTIO 1.2, section 5.2.4 "Device configuration
/// layout"). What follows belongs to features that are not negotiated.
pub(crate) const CONFIG_BYTES: usize = 60;

/// Lengths to which a device may have the space: as a whole, or up to the fields of some feature.
pub(crate) const LENGTHS: [usize; 4] = [CONFIG_BYTES, 36, 24, LEAST];

/// Length of the field that every device has: the capacity.
pub(crate) const LEAST: usize = 8;

/// The features whose fields lie within the first `len` bytes, and all that have none.
pub(crate) fn features_within(len: usize) -> u64 {
    const ENDS: [(usize, u64); 7] = [
        (12, feature::SIZE_MAX),
        (16, feature::SEG_MAX),
        (24, feature::BLK_SIZE),
        (32, feature::TOPOLOGY),
        (36, feature::MQ),
        (48, feature::DISCARD),
        (60, feature::WRITE_ZEROES),
    ];
    ENDS.into_iter().filter(|(end, _)| *end > len).fold(!0, |features, (_, missing)| features & !missing)
}

/// Length of the field that begins at `at`. The capacity counts as two of 32 bits.
pub(crate) fn field_width(at: usize) -> usize {
    match at {
        // Cylinders, smallest transfer, number of queues.
        16 | 26 | 34 => 2,
        // Heads and sectors, exponent and offset of the alignment, write back, unmap, and what is unused.
        18 | 19 | 24 | 25 | 32 | 33 | 56..CONFIG_BYTES => 1,
        _ => 4,
    }
}

/// The space of a device of which nothing is known but its capacity, and its length.
pub(crate) fn of_capacity(capacity_bytes: u64) -> ([u8; CONFIG_BYTES], usize) {
    let mut bytes = [0; CONFIG_BYTES];
    bytes[..8].copy_from_slice(&(capacity_bytes / SECTOR_BYTES).to_le_bytes());
    (bytes, LEAST)
}

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
        needed.min(self.segments_allowed())
    }

    /// Most buffers of data in one request that the device takes, as far as we would use them.
    fn segments_allowed(&self) -> u32 {
        if self.has(feature::SEG_MAX) { self.seg_max.clamp(1, SEGMENTS_MAX) } else { SEGMENTS_MAX }
    }

    /// The same device with room for so many buffers of data in one request.
    pub(crate) fn with_segments_max(self, most: u16) -> BlkConfig {
        let seg_max = self.segments_allowed().min(most.into());
        BlkConfig { features: self.features | feature::SEG_MAX, seg_max, ..self }
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
            // The driver sends the flush after the write.
            fua: true,
            flush_needed: self.can_flush(),
            block_status: false,
            rotational: false,
            immediate: false,
        }
        .validate()
    }

    /// The capacity in a space of which the device has `len` bytes.
    ///
    /// # Errors
    /// What the device says cannot be.
    pub(crate) fn capacity_bytes(
        bytes: &[u8; CONFIG_BYTES],
        len: usize,
        features: u64,
    ) -> Result<u64, Error> {
        let config = BlkConfig::decode(bytes, features & features_within(len));
        config.limits(true).map(|limits| limits.capacity_bytes)
    }

    /// Whether a device with this configuration can take the place of one with `old`, whose capacity was `limits`'.
    ///
    /// # Errors
    /// Why it cannot: the second half of a sentence.
    pub(crate) fn replaces(&self, old: &BlkConfig, limits: &Limits) -> Result<(), String> {
        let new = self.limits(false).map_err(|error| error.to_string())?;
        let was = old.limits(false).map_err(|error| error.to_string())?;
        let takes = |new: u64, old: u64| new == 0 || (old != 0 && new >= old);
        let ranges = |new: Option<u64>, old: Option<u64>| match (new, old) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(new), Some(old)) => takes(new, old),
        };
        let discard = |limits: &Limits| limits.discard.map(|discard| discard.max_bytes);
        let zeroes = |limits: &Limits| limits.write_zeroes.map(|zeroes| zeroes.max_bytes);
        let checks = [
            (new.request_alignment_bytes == was.request_alignment_bytes, "its blocks have another size"),
            (new.capacity_bytes >= limits.capacity_bytes, "it is smaller"),
            (!new.read_only || limits.read_only, "it is read-only"),
            (self.can_flush() || !old.can_flush(), "it does not flush"),
            (new.max_transfer_bytes >= was.max_transfer_bytes, "it takes only shorter requests"),
            (self.segments_allowed() >= old.segments(), "it takes only fewer buffers"),
            (takes(self.segment_bytes().into(), old.segment_bytes().into()), "it takes only shorter buffers"),
            (ranges(discard(&new), discard(&was)), "it does not discard as much at a time"),
            (ranges(zeroes(&new), zeroes(&was)), "it does not write as many zeroes at a time"),
            (self.may_unmap() || !old.may_unmap(), "it does not unmap what is to be zeroes"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(reason.into()),
            None => Ok(()),
        }
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
    fn requests_are_as_short_as_a_short_queue_needs_them() {
        let config =
            BlkConfig::decode(&bytes(&[(0, 8), (8, 65536), (12, 126)]), feature::SIZE_MAX | feature::SEG_MAX);
        assert_eq!(config.segments(), 4);
        let short = config.with_segments_max(2);
        assert_eq!((short.segments(), short.limits(false).unwrap().max_transfer_bytes), (2, 128 << 10));
        assert_eq!(config.with_segments_max(100).segments(), 4);
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
    fn what_lies_behind_the_end_belongs_to_no_feature() {
        assert_eq!(features_within(CONFIG_BYTES), !0);
        assert_eq!(!features_within(36), feature::DISCARD | feature::WRITE_ZEROES);
        assert_eq!(features_within(8) & (feature::SIZE_MAX | feature::MQ), 0);
        assert_ne!(features_within(8) & feature::FLUSH, 0, "it has no field");
        let (bytes, len) = of_capacity(5 << 20);
        let config = BlkConfig::decode(&bytes, features_within(len));
        assert_eq!(config.limits(false).unwrap().capacity_bytes, 5 << 20);
    }

    #[test]
    fn a_disk_is_replaced_by_its_like_only() {
        let all =
            feature::BLK_SIZE | feature::SIZE_MAX | feature::FLUSH | feature::DISCARD | feature::SEG_MAX;
        let fields = [(0, 2048), (8, 65536), (12, 8), (20, 512), (36, 64)];
        let old = BlkConfig::decode(&bytes(&fields), all);
        let limits = old.limits(false).unwrap();
        assert_eq!(old.replaces(&old, &limits), Ok(()));
        let with = |at: usize, value: u32, features: u64| {
            let mut fields = fields.to_vec();
            fields.retain(|(place, _)| *place != at);
            fields.push((at, value));
            BlkConfig::decode(&bytes(&fields), features).replaces(&old, &limits)
        };
        assert_eq!(with(0, 4096, all), Ok(()), "it has grown");
        assert_eq!(with(0, 2048, all & !feature::SIZE_MAX), Ok(()), "no limit is more than any");
        for (at, value, features, reason) in [
            (0, 2040, all, "smaller"),
            (20, 4096, all, "blocks"),
            (8, 4096, all, "shorter"),
            (12, 2, all, "shorter"),
            (36, 8, all, "discard"),
            (0, 2048, all & !feature::DISCARD, "discard"),
            (0, 2048, all & !feature::FLUSH, "flush"),
            (0, 2048, all | feature::READ_ONLY, "read-only"),
        ] {
            let refusal = with(at, value, features).unwrap_err();
            assert!(refusal.contains(reason), "{at} {value}: {refusal}");
        }
        let (few, many) = ([(0, 2048), (8, 1 << 20), (12, 2)], [(0, 2048), (8, 4096), (12, 64)]);
        let config =
            |fields: &[(usize, u32)]| BlkConfig::decode(&bytes(fields), feature::SIZE_MAX | feature::SEG_MAX);
        let limits = config(&many).limits(false).unwrap();
        let refusal = config(&few).replaces(&config(&many), &limits).unwrap_err();
        assert!(refusal.contains("fewer"), "requests go on in small pieces: {refusal}");
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
