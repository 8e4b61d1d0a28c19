//! Which bytes of a range have been told already.

/// Disjoint ranges, sorted, neighbours merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    /// Pairs of first byte and end.
    ranges: Vec<(u64, u64)>,
    bytes: u64,
}

impl Coverage {
    /// Adds `offset..end`, which is not empty; `false`, and nothing done, if a byte of it is there already.
    pub(super) fn add(&mut self, offset: u64, end: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 <= offset);
        let overlaps = self.ranges.get(at).is_some_and(|next| next.0 < end);
        if overlaps {
            return false;
        }
        self.bytes += end - offset;
        let joins_next = self.ranges.get(at).is_some_and(|next| next.0 == end);
        let joins_last = at > 0 && self.ranges[at - 1].1 == offset;
        match (joins_last, joins_next) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = end,
            (false, true) => self.ranges[at].0 = offset,
            (false, false) => self.ranges.insert(at, (offset, end)),
        }
        true
    }

    /// Number of bytes told.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_bytes(ranges in prop::collection::vec((0u64..64, 1u64..16), 0..40)) {
            let mut coverage = Coverage::default();
            let mut told = [false; 80];
            for (offset, len) in ranges {
                let range = offset as usize..(offset + len) as usize;
                let free = !told[range.clone()].iter().any(|byte| *byte);
                prop_assert_eq!(coverage.add(offset, offset + len), free);
                if free {
                    told[range].fill(true);
                }
                prop_assert_eq!(coverage.bytes(), told.iter().filter(|byte| **byte).count() as u64);
                prop_assert!(coverage.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
