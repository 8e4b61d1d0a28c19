//! [`Tally`]: what a device and its queues said to each other, for statistics; and the [`Counter`] of all such numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers since the device's start, of all queues together. A driver whose requests end at once has none to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests (their parts, where a driver cuts them) that the device has ended.
    pub completions: u64,
    /// How often it was told of new ones: kicks, doorbells, entries into the kernel.
    pub submissions: u64,
    /// How often it told of ended ones: calls, interrupts, signals of a ring.
    pub notifications: u64,
    /// How often it came back after it was gone, or was reset.
    pub recoveries: u64,
    /// Requests that were sent again after that.
    pub resubmissions: u64,
}

/// One queue's part of it. The queue's thread raises it; others read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct QueueTally {
    pub(crate) completions: Counter,
    pub(crate) submissions: Counter,
    pub(crate) notifications: Counter,
    pub(crate) resubmissions: Counter,
}

/// A number that one thread raises and others read: a load and a store are enough, so there is no locked instruction on
/// the path of requests.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises it. Only its own thread may.
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Gives it another value. Only its own thread may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is now, or was a moment ago.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(crate) fn of<'a>(queues: impl IntoIterator<Item = &'a QueueTally>) -> Tally {
        queues.into_iter().fold(Tally::default(), |sum, queue| Tally {
            completions: sum.completions + queue.completions.get(),
            submissions: sum.submissions + queue.submissions.get(),
            notifications: sum.notifications + queue.notifications.get(),
            resubmissions: sum.resubmissions + queue.resubmissions.get(),
            ..sum
        })
    }
}
