//! [`Effort`]: what a worker does for its clients.

use super::count::Count;

/// One worker's own numbers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Effort {
    /// Turns of clients in which at least one request was taken.
    pub(crate) batches: Count,
    /// How often it slept and was woken.
    pub(crate) wakeups: Count,
    /// How often it polled before it slept, and how often in vain.
    pub(crate) polls: Count,
    pub(crate) polls_in_vain: Count,
    /// How often it entered the kernel for its ring.
    pub(crate) ring_submissions: Count,
    /// Clients it has.
    pub(crate) sessions: Count,
}
