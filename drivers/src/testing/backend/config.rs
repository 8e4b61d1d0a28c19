//! The configuration space (VIRTIO 1.2, section 5.2.4 "Device configuration layout").

use super::kind::Kind;

/// Length up to the write zeroes fields.
const CONFIG_BYTES: usize = 60;

/// `len` bytes of the space from `offset` on; fewer where it ends before.
pub(super) fn part(kind: &Kind, offset: u32, len: u32) -> Vec<u8> {
    let (start, len) = (offset as usize, len as usize);
    space(kind).into_iter().skip(start).take(len).collect()
}

fn space(kind: &Kind) -> [u8; CONFIG_BYTES] {
    let mut space = [0; CONFIG_BYTES];
    space[..8].copy_from_slice(&(kind.capacity_bytes / 512).to_le_bytes());
    space[34..36].copy_from_slice(&kind.queues.to_le_bytes());
    let mut put = |at: usize, value: u32| space[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(8, kind.size_max);
    put(12, kind.seg_max);
    put(20, kind.blk_size);
    // Discard: longest range, ranges in a request, alignment; then the first two for write zeroes.
    put(36, kind.range_sectors);
    put(40, 1);
    put(44, 1);
    put(48, kind.range_sectors);
    put(52, 1);
    space[56] = 1;
    space
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_with_the_space() {
        let kind = Kind { capacity_bytes: 512 * 0x1_0000_0002, queues: 3, ..Kind::default() };
        assert_eq!(part(&kind, 0, 8), [2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(part(&kind, 34, 2), [3, 0]);
        assert_eq!(part(&kind, 56, 100), [1, 0, 0, 0]);
        assert_eq!(part(&kind, u32::MAX, u32::MAX), [0; 0]);
    }
}
