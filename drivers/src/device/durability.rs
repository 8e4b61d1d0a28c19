//! [`Durability`]: whether writes that were acknowledged are covered by a flush.
//!
//! Time is counted in *epochs*, and every flush ends one. A write marks the epoch in which it completed; a flush that
//! succeeds makes the epoch that it ended, and all before, durable. What completed while the flush was under way
//! belongs to a later epoch, whether the flush covered it or not.
//!
//! Where a device's cache goes with the device, *connections* are counted, too. A queue may find a write of the last
//! connection completed after it was decided whether anything was lost; such a write is a loss by itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by the queues of a device.
#[derive(Debug)]
pub(crate) struct Durability {
    /// The present epoch.
    epoch: AtomicU64,
    /// The last epoch in which a write completed; 0: none did.
    written: AtomicU64,
    /// The last epoch that is durable.
    durable: AtomicU64,
    /// Caches that went so far.
    connection: AtomicU64,
    /// How often writes were lost, or may have been.
    losses: AtomicU64,
}

impl Durability {
    pub(crate) fn new() -> Durability {
        let zero = || AtomicU64::new(0);
        Durability {
            epoch: AtomicU64::new(1),
            written: zero(),
            durable: zero(),
            connection: zero(),
            losses: zero(),
        }
    }

    /// The connection by which a queue that is set up now is to call [`Durability::wrote`].
    pub(crate) fn connection(&self) -> u64 {
        self.connection.load(Ordering::SeqCst)
    }

    /// A write has completed on a device of this connection. Call before anybody is told of it.
    pub(crate) fn wrote(&self, connection: u64) {
        let epoch = self.epoch.load(Ordering::SeqCst);
        // Nearly always it is marked already, and then nothing is stored to memory that other threads use.
        if self.written.load(Ordering::SeqCst) < epoch {
            self.written.fetch_max(epoch, Ordering::SeqCst);
        }
        // Either `lose_cache` sees the mark, or this sees that it was too late for it.
        if self.connection.load(Ordering::SeqCst) != connection {
            self.losses.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A flush is about to be sent. Returns the epoch that it ends.
    pub(crate) fn begin_flush(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst)
    }

    /// The flush that ended this epoch has succeeded.
    pub(crate) fn flushed(&self, epoch: u64) {
        self.durable.fetch_max(epoch, Ordering::SeqCst);
    }

    /// What the device held in a cache of its own is gone. Returns whether there was something: writes that completed
    /// and were not flushed.
    pub(crate) fn lose_cache(&self) -> bool {
        self.connection.fetch_add(1, Ordering::SeqCst);
        let ended = self.epoch.fetch_add(1, Ordering::SeqCst);
        let lost = self.written.load(Ordering::SeqCst) > self.durable.fetch_max(ended, Ordering::SeqCst);
        if lost {
            self.losses.fetch_add(1, Ordering::SeqCst);
        }
        lost
    }

    /// Whether every write that completed is covered by a flush.
    pub(crate) fn is_clean(&self) -> bool {
        self.written.load(Ordering::SeqCst) <= self.durable.load(Ordering::SeqCst)
    }

    /// How often writes were lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_lost_unless_a_later_flush_succeeded() {
        let durability = Durability::new();
        assert!(!durability.lose_cache(), "nothing was written");
        durability.wrote(durability.connection());
        let epoch = durability.begin_flush();
        durability.flushed(epoch);
        assert!(!durability.lose_cache(), "the flush covers it");
        durability.wrote(durability.connection());
        assert!(durability.lose_cache());
        assert_eq!(durability.losses(), 1);
        assert!(!durability.lose_cache(), "a loss is counted once");
    }

    #[test]
    fn a_write_during_a_flush_is_not_covered_by_it() {
        let durability = Durability::new();
        let epoch = durability.begin_flush();
        durability.wrote(durability.connection());
        durability.flushed(epoch);
        assert!(durability.lose_cache());
    }

    #[test]
    fn a_flush_that_did_not_end_covers_nothing() {
        let durability = Durability::new();
        durability.wrote(durability.connection());
        let unanswered = durability.begin_flush();
        assert!(durability.lose_cache());
        durability.flushed(unanswered);
        assert_eq!(durability.losses(), 1);
    }
    #[test]
    fn every_loss_counts() {
        let durability = Durability::new();
        for losses in 1..4 {
            durability.wrote(durability.connection());
            assert!(!durability.is_clean());
            assert!(durability.lose_cache());
            assert!(durability.is_clean() && durability.losses() == losses);
        }
    }

    #[test]
    fn a_write_that_is_found_after_its_device_went_is_lost_too() {
        let durability = Durability::new();
        let old = durability.connection();
        assert!(!durability.lose_cache());
        durability.wrote(old);
        assert_eq!(durability.losses(), 1);
        durability.wrote(durability.connection());
        assert_eq!(durability.losses(), 1);
    }
}
