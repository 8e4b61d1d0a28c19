//! Addresses for our memory that a device can reach.

/// Memory begins at multiples of this, so that large pages fit.
const ALIGNMENT: u64 = 2 << 20;

/// No memory lies below this: an address of 0 is none to some devices.
const LEAST: u64 = ALIGNMENT;

/// Where memories of these lengths may lie, one behind the other, for a device that reaches the addresses of `ranges`
/// (first and last, ascending); `None`: there is no room.
pub(crate) fn place<const N: usize>(ranges: &[(u64, u64)], lengths: [usize; N]) -> Option<[u64; N]> {
    let mut addresses = [0; N];
    let mut free = LEAST;
    for (address, length) in addresses.iter_mut().zip(lengths) {
        let length = u64::try_from(length.max(1)).ok()?;
        *address = ranges.iter().find_map(|(first, last)| fit(free.max(*first), *last, length))?;
        free = *address + length;
    }
    Some(addresses)
}

/// The first place for `length` bytes from `first` to `last`.
fn fit(first: u64, last: u64, length: u64) -> Option<u64> {
    let address = first.checked_next_multiple_of(ALIGNMENT)?;
    (address.checked_add(length - 1)? <= last && address.checked_add(length).is_some()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_lies_inside_the_range_and_apart() {
        let one = |first, last, lengths| place(&[(first, last)], lengths);
        assert_eq!(one(0, u64::MAX, [4096, 32 << 20]), Some([2 * MIB, 4 * MIB]));
        assert_eq!(one(5 * MIB, u64::MAX, [4096, 4096]), Some([6 * MIB, 8 * MIB]));
        assert_eq!(one(0, 8 * MIB - 1, [4096, 4 << 20]), Some([2 * MIB, 4 * MIB]), "it just fits");
        assert_eq!(one(0, 8 * MIB - 2, [4096, 4 << 20]), None);
        assert_eq!(one(u64::MAX - 5, u64::MAX, [4096, 4096]), None);
        assert_eq!(one(10, 5, [1, 1]), None);
        assert_eq!(place(&[], [1]), None);
    }

    #[test]
    fn memory_lies_on_either_side_of_a_hole() {
        let ranges = [(0, 7 * MIB - 1), (9 * MIB, 64 * MIB)];
        assert_eq!(place(&ranges, [4096, 8 << 20]), Some([2 * MIB, 10 * MIB]));
        assert_eq!(place(&ranges, [4096, 3 << 20, 4096]), Some([2 * MIB, 4 * MIB, 10 * MIB]));
        assert_eq!(place(&ranges, [4096, 64 << 20]), None);
    }
}
