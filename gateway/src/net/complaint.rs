//! What is logged about clients: complaints, but not as fast as hostile clients can give cause for them.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Complaints that may be logged in one [`WINDOW`].
const WINDOW_MAX: u32 = 20;

/// How long complaints are counted together.
const WINDOW: Duration = Duration::from_secs(10);

static LIMITER: Limiter = Limiter::new();

/// Logs a warning about a client, whose name is in the text too, unless there were many of late. Takes a lock: not for
/// the path of requests.
pub(crate) fn complain(client: &str, text: fmt::Arguments<'_>) {
    if let Verdict::Log { left_out } = LIMITER.judge() {
        if left_out > 0 {
            tracing::warn!("{left_out} messages about other clients were left out");
        }
        tracing::warn!(client, "{text}");
    }
}

/// Counts what is logged in one window, for all threads.
pub(super) struct Limiter(Mutex<Window>);

/// What came in one window.
struct Window {
    start: Option<Instant>,
    count: u32,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is logged; so many before it were not.
    Log {
        left_out: u32,
    },
    LeaveOut,
}

impl Limiter {
    pub(super) const fn new() -> Limiter {
        Limiter(Mutex::new(Window { start: None, count: 0 }))
    }

    /// Counts one more message.
    pub(super) fn judge(&self) -> Verdict {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).judge(Instant::now())
    }
}

impl Window {
    fn judge(&mut self, now: Instant) -> Verdict {
        let mut left_out = 0;
        if self.start.is_none_or(|start| now - start >= WINDOW) {
            left_out = self.count.saturating_sub(WINDOW_MAX);
            *self = Window { start: Some(now), count: 0 };
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
        let mut limiter = Window { start: None, count: 0 };
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
