//! [`Effort`]: what a worker does for its clients.

use drivers::Counter;

/// One worker's own numbers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Effort {
    /// Turns of clients in which at least one request was taken.
    pub(crate) batches: Counter,
    /// How often it slept and was woken.
    pub(crate) wakeups: Counter,
    /// How often it polled before it slept, and how often in vain.
    pub(crate) polls: Counter,
    pub(crate) polls_in_vain: Counter,
    /// How often it entered the kernel for its ring.
    pub(crate) ring_submissions: Counter,
    /// Clients it has.
    pub(crate) sessions: Counter,
}
