//! [`DiskShared`]: what the workers share of one disk.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drivers::{Limits, Started};

use super::exclusive::ExclusiveTable;
use crate::metrics::Traffic;
use crate::worker::mailbox::Mailbox;

/// What the workers share of one disk.
pub(crate) struct DiskShared {
    device: Arc<dyn Started>,
    /// Which of the server's disks this is.
    index: usize,
    /// Flushes that failed. Linux reports a write-back error once per open file, so a session that was not the one
    /// to hear of it learns of it by this number.
    flush_failures: AtomicU64,
    exclusive: Mutex<ExclusiveTable>,
    /// Clients in transmission, on all workers.
    sessions: AtomicUsize,
    /// One for each queue: of the worker that has it.
    mailboxes: Vec<Arc<Mailbox>>,
    /// One for each queue.
    traffic: Box<[Traffic]>,
}

impl fmt::Debug for DiskShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk {}", self.index)
    }
}

impl DiskShared {
    pub(crate) fn new(device: Arc<dyn Started>, index: usize, mailboxes: Vec<Arc<Mailbox>>) -> DiskShared {
        DiskShared {
            device,
            index,
            flush_failures: AtomicU64::new(0),
            exclusive: Mutex::new(ExclusiveTable::default()),
            sessions: AtomicUsize::new(0),
            traffic: mailboxes.iter().map(|_| Traffic::default()).collect(),
            mailboxes,
        }
    }

    pub(crate) fn device(&self) -> &Arc<dyn Started> {
        &self.device
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn limits(&self) -> Limits {
        self.device.limits()
    }

    /// What clients ask for, by queue: that of queue `n` belongs to the worker that has it.
    pub(crate) fn traffic(&self) -> &[Traffic] {
        &self.traffic
    }

    pub(crate) fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    /// Clients in transmission, on all workers.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// One came.
    pub(crate) fn session_began(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// One went.
    pub(crate) fn session_ended(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many flushes have failed so far, and how often writes were lost before one. A session whose own number is
    /// lower has writes that were lost.
    pub(crate) fn flush_failures(&self) -> u64 {
        self.flush_failures.load(Ordering::Acquire) + self.device.losses()
    }

    /// Counts a failed flush; called before its failure is told to anybody.
    pub(crate) fn count_flush_failure(&self) {
        self.flush_failures.fetch_add(1, Ordering::AcqRel);
    }

    /// The table of exclusive ranges. A thread that panicked cannot have left it half changed: every change is one
    /// push or one removal.
    pub(crate) fn exclusive(&self) -> std::sync::MutexGuard<'_, ExclusiveTable> {
        self.exclusive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
