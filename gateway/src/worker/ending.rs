//! [`Ending`]: how a worker comes to its end.
//!
//! Drained, flushed, reported, over. A worker that has reported goes on answering messages until all have reported,
//! because an operation on another worker may need its answer.

use tokio::sync::oneshot;

use super::Worker;
use crate::disk::{Disk, Ticket, Verb};
use crate::slab::Key;

/// Deliveries for this session reach nobody.
const NOBODY: u64 = u64::MAX;

/// Whether everything that clients were told is done is also on stable storage.
pub(crate) type LastFlush = Result<(), LastFlushFailed>;

/// The flush behind the last client failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastFlushFailed;

/// How far a worker is on the way to its end.
#[derive(Debug)]
pub(crate) struct Ending {
    phase: Phase,
    report: Option<oneshot::Sender<LastFlush>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    /// The last flush is under way; so many had failed before it.
    Flushing {
        failures: u64,
    },
    Reported,
    Over,
}

/// What a worker does that has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Sleep,
    Work,
    End,
}

impl Ending {
    /// Far from it. `report` is told when the worker is drained.
    pub(crate) fn new(report: oneshot::Sender<LastFlush>) -> Ending {
        Ending { phase: Phase::Serving, report: Some(report) }
    }

    /// Whether no request is taken any more.
    pub(super) fn has_begun(&self) -> bool {
        self.phase != Phase::Serving
    }

    /// No request is taken from now on.
    pub(super) fn begin(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Draining;
        }
    }

    /// Nobody needs this worker any more.
    pub(super) fn finish(&mut self) {
        self.phase = Phase::Over;
    }
}

impl Worker {
    /// Moves the end on; called when there is nothing else to do.
    pub(super) fn approach_end(&mut self) -> Next {
        let idle =
            self.sessions.is_empty() && self.handshakes.is_zero() && self.disks.iter().all(Disk::is_idle);
        match self.ending.phase {
            Phase::Over => Next::End,
            Phase::Draining if idle => {
                self.ending.phase = Phase::Flushing { failures: self.flush_failures() };
                self.flush_disks();
                Next::Work
            }
            Phase::Flushing { failures } if idle => {
                self.ending.phase = Phase::Reported;
                if let Some(report) = self.ending.report.take() {
                    let result = if self.flush_failures() > failures { Err(LastFlushFailed) } else { Ok(()) };
                    // Whoever does not wait for it does not want to know.
                    let _ = report.send(result);
                }
                Next::Sleep
            }
            _ => Next::Sleep,
        }
    }

    fn flush_failures(&self) -> u64 {
        self.disks.iter().map(|disk| disk.shared().flush_failures()).sum()
    }

    /// Makes every write of this worker durable. The others do so for theirs. A device that knows of nothing to flush
    /// is left in peace: it may be gone.
    fn flush_disks(&mut self) {
        let session = Key::from_word(NOBODY);
        let needs_flush =
            |disk: &&mut Disk| !(disk.limits().read_only || disk.shared().device().is_flushed());
        for disk in self.disks.iter_mut().filter(needs_flush) {
            disk.flush(Ticket { session, tag: 0, offset: 0, len: 0, verb: Verb::Flush });
        }
    }
}
