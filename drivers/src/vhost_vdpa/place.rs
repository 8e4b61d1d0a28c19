//! Addresses for our memory that the device can reach.

/// Memory begins at multiples of this, so that large pages fit.
const ALIGNMENT: u64 = 2 << 20;

/// No memory lies below this: an address of 0 is none to some devices.
const LEAST: u64 = ALIGNMENT;

/// Where rings and payloads of these lengths may lie for a device that reaches the addresses `first..=last`; `None`:
/// there is no room.
pub(super) fn place(first: u64, last: u64, rings: usize, payloads: usize) -> Option<(u64, u64)> {
    let ring_address = first.max(LEAST).checked_next_multiple_of(ALIGNMENT)?;
    let payload_address = ring_address.checked_add(rings as u64)?.checked_next_multiple_of(ALIGNMENT)?;
    let end = payload_address.checked_add(payloads as u64)?;
    (end.checked_sub(1)? <= last).then_some((ring_address, payload_address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_lies_inside_the_range_and_apart() {
        let mib = 1 << 20;
        assert_eq!(place(0, u64::MAX, 4096, 32 << 20), Some((2 * mib, 4 * mib)));
        assert_eq!(place(5 * mib, u64::MAX, 4096, 4096), Some((6 * mib, 8 * mib)));
        assert_eq!(place(0, 8 * mib - 1, 4096, 4 << 20), Some((2 * mib, 4 * mib)), "it just fits");
        assert_eq!(place(0, 8 * mib - 2, 4096, 4 << 20), None);
        assert_eq!(place(u64::MAX - 5, u64::MAX, 4096, 4096), None);
        assert_eq!(place(10, 5, 1, 1), None);
    }
}
