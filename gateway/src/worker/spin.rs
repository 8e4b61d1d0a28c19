//! [`Spin`]: whether polling before sleeping is worth it.

use std::time::{Duration, Instant};

/// After so many successes in a row polling is given as many failures before it stops.
const CREDIT_MAX: i32 = 8;

/// What a failure costs; a success brings 1.
const FAILURE: i32 = 4;

/// Decides by what happened lately: a worker polls while requests come closer together than the budget, and stops
/// when they do not, so that an idle server uses no processor time.
#[derive(Debug)]
pub(crate) struct Spin {
    budget: Duration,
    credit: i32,
    last_work: Option<Instant>,
}

impl Spin {
    pub(crate) fn new(budget: Duration) -> Spin {
        Spin { budget, credit: 0, last_work: None }
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    pub(crate) fn is_worthwhile(&self) -> bool {
        self.credit > 0 && !self.budget.is_zero()
    }

    /// There was work at `now`; a gap that polling would have bridged (a wake-up included) speaks for polling.
    pub(crate) fn worked(&mut self, now: Instant) {
        if let Some(last) = self.last_work.replace(now)
            && now - last < self.budget * 2
        {
            self.credit = (self.credit + 1).min(CREDIT_MAX);
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.credit = (self.credit + 1).min(CREDIT_MAX);
    }

    pub(crate) fn failed(&mut self) {
        self.credit = (self.credit - FAILURE).max(0);
    }
}
