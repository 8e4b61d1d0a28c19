//! [`Count`]: a number that one thread raises and others read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Raised by the one thread it belongs to, so a load and a store are enough: no locked instruction on the request path.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Raises it. Only its own thread may.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Gives it another value. Only its own thread may.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is now, or was a moment ago.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
