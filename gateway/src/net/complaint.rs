//! Complaints about clients: logged, but not as fast as hostile clients can give cause for them.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Complaints that may be logged in one [`WINDOW`].
const WINDOW_MAX: u32 = 20;

/// How long complaints are counted together.
const WINDOW: Duration = Duration::from_secs(10);

static LIMITER: Mutex<Limiter> = Mutex::new(Limiter { start: None, count: 0 });

/// Logs a warning about a client, unless there were many of late. Takes a lock: not for the path of requests.
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    let verdict = LIMITER.lock().unwrap_or_else(PoisonError::into_inner).judge(Instant::now());
    if let Verdict::Log { left_out } = verdict {
        if left_out > 0 {
            tracing::warn!("{left_out} messages about other clients were left out");
        }
        tracing::warn!("{text}");
    }
}

/// Counts complaints of one window.
struct Limiter {
    start: Option<Instant>,
    count: u32,
}

/// What becomes of a complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is logged; so many before it were not.
    Log {
        left_out: u32,
    },
    LeaveOut,
}

impl Limiter {
    fn judge(&mut self, now: Instant) -> Verdict {
        let mut left_out = 0;
        if self.start.is_none_or(|start| now - start >= WINDOW) {
            left_out = self.count.saturating_sub(WINDOW_MAX);
            *self = Limiter { start: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        if self.count <= WINDOW_MAX { Verdict::Log { left_out } } else { Verdict::LeaveOut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut limiter = Limiter { start: None, count: 0 };
        let now = Instant::now();
        for _ in 0..WINDOW_MAX {
            assert_eq!(limiter.judge(now), Verdict::Log { left_out: 0 });
        }
        for _ in 0..7 {
            assert_eq!(limiter.judge(now), Verdict::LeaveOut);
        }
        assert_eq!(limiter.judge(now + WINDOW), Verdict::Log { left_out: 7 });
        assert_eq!(limiter.judge(now + WINDOW), Verdict::Log { left_out: 0 });
    }
}
