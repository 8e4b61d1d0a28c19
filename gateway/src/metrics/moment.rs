//! [`Moment`]: a point in time in eight bytes, for each request has one.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A point in time, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Moment {
        // The clock is always there.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        Moment(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since an earlier one.
    pub(crate) fn ns_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
