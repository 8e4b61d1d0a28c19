//! [`Latency`]: how long requests took, in a histogram.

use drivers::Counter;

/// The first bucket ends here, each other one at twice the end of the one before.
const FIRST_NS: u64 = 1 << 10;

/// Ends of buckets: from 1.024 µs to 17.2 s. What takes longer is in a bucket of its own.
const ENDS: usize = 25;

/// How long requests took. Belongs to one thread.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    buckets: [Counter; ENDS + 1],
    sum_ns: Counter,
}

/// The sum of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LatencySum {
    buckets: [u64; ENDS + 1],
    sum_ns: u64,
}

impl Latency {
    pub(crate) fn record(&self, ns: u64) {
        self.buckets[bucket(ns)].add(1);
        self.sum_ns.add(ns);
    }
}

/// The bucket that `ns` is in: the first whose end is not before it.
fn bucket(ns: u64) -> usize {
    let above = ns.saturating_sub(1) / FIRST_NS;
    (u64::BITS - above.leading_zeros()).min(ENDS as u32) as usize
}

impl LatencySum {
    pub(crate) fn add(&mut self, latency: &Latency) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&latency.buckets) {
            *sum += bucket.get();
        }
        self.sum_ns += latency.sum_ns.get();
    }

    /// How many requests there were.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Time of all requests together.
    pub(crate) fn sum_seconds(&self) -> f64 {
        seconds(self.sum_ns)
    }

    /// Each bucket's end in seconds and what is in it alone; the last has no end.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let ends = (0..ENDS).map(|index| seconds(FIRST_NS << index)).chain([f64::INFINITY]);
        ends.zip(self.buckets).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sum of a century of nanoseconds loses microseconds")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_takes_up_to_its_end() {
        assert_eq!([0, 1, 1024, 1025, 2048, 2049].map(bucket), [0, 0, 0, 1, 1, 2]);
        assert_eq!(bucket(FIRST_NS << (ENDS - 1)), ENDS - 1);
        assert_eq!([(FIRST_NS << (ENDS - 1)) + 1, u64::MAX].map(bucket), [ENDS, ENDS]);
    }

    #[test]
    fn each_request_is_in_one_bucket() {
        let latency = Latency::default();
        [10, 3_000, 3_000, 40_000_000_000].iter().for_each(|ns| latency.record(*ns));
        let mut sum = LatencySum::default();
        sum.add(&latency);
        assert_eq!(sum.count(), 4);
        assert!((sum.sum_seconds() - 40.000_006_01).abs() < 1e-9, "{}", sum.sum_seconds());
        let filled: Vec<_> = sum.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1.024e-6, 1), (4.096e-6, 2), (f64::INFINITY, 1)]);
    }
}
