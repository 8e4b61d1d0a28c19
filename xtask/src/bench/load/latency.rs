//! Latencies of single requests and their percentiles.

use serde::Serialize;

/// More samples than this are not kept: one hour at depth 1.
const SAMPLES_MAX: usize = 1 << 27;

/// Every latency of a run, in nanoseconds, up to 4.2 s each.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<u32>);

/// Percentiles in nanoseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    /// Half of the requests were at most this slow.
    pub p50_ns: u32,
    /// 99 % of the requests were at most this slow.
    pub p99_ns: u32,
}

impl Samples {
    /// Notes one latency.
    pub(crate) fn add(&mut self, nanoseconds: u128) {
        if self.0.len() < SAMPLES_MAX {
            self.0.push(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
        }
    }

    /// Forgets everything, as at the end of the warm-up.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds the samples of another connection.
    pub(crate) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The percentiles; nothing when there is no sample.
    pub(crate) fn percentiles(mut self) -> Option<Percentiles> {
        let last = self.0.len().checked_sub(1)?;
        self.0.sort_unstable();
        Some(Percentiles { p50_ns: self.0[last / 2], p99_ns: self.0[last * 99 / 100] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_order_statistics() {
        let mut samples = Samples::default();
        (1..=100).rev().for_each(|n| samples.add(n));
        let found = samples.percentiles().unwrap();
        assert_eq!((found.p50_ns, found.p99_ns), (50, 99));
    }

    #[test]
    fn no_sample_no_percentile() {
        assert!(Samples::default().percentiles().is_none());
    }
}
