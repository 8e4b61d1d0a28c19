//! [`Ending`]: how a disk comes to its end on one worker.
//!
//! Drained, flushed, reported; then it waits to be let go. A worker that has reported goes on answering messages about
//! the disk until all workers have reported, because an operation on another one may need its answer.

use tokio::sync::oneshot;

use crate::disk::{Disk, Ticket, Verb};
use crate::metrics::Moment;
use crate::slab::Key;

/// Deliveries for this session reach nobody.
const NOBODY: u64 = u64::MAX;

/// Whether everything that clients were told is done is also on stable storage.
pub(crate) type LastFlush = Result<(), LastFlushFailed>;

/// The flush behind the last client failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastFlushFailed;

/// How far a disk is on the way to its end on this worker.
#[derive(Debug)]
pub(super) struct Ending {
    phase: Phase,
    report: Option<oneshot::Sender<LastFlush>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Clients get their last answers.
    Draining,
    /// The last flush is under way; so many had failed before it.
    Flushing {
        failures: u64,
    },
    Reported,
}

impl Ending {
    /// The end begins. `report` is told when the disk is drained and flushed.
    pub(super) fn new(report: oneshot::Sender<LastFlush>) -> Ending {
        Ending { phase: Phase::Draining, report: Some(report) }
    }

    /// Whether no more sessions are taken: the last flush would not cover what they write.
    pub(super) fn is_closed(&self) -> bool {
        self.phase != Phase::Draining
    }

    /// Moves the end on; called when no session is left. Returns whether there is work now.
    pub(super) fn approach(&mut self, disk: &mut Disk) -> bool {
        if !disk.is_idle() || disk.has_operations() {
            return false;
        }
        match self.phase {
            Phase::Draining => {
                self.phase = Phase::Flushing { failures: disk.shared().flush_failures() };
                flush(disk);
                true
            }
            Phase::Flushing { failures } => {
                self.phase = Phase::Reported;
                if let Some(report) = self.report.take() {
                    let failed = disk.shared().flush_failures() > failures;
                    // Whoever does not wait for it does not want to know.
                    let _ = report.send(if failed { Err(LastFlushFailed) } else { Ok(()) });
                }
                false
            }
            Phase::Reported => false,
        }
    }
}

/// Makes every write of this worker durable. The others do so for theirs. A device that knows of nothing to flush is
/// left in peace: it may be gone.
fn flush(disk: &mut Disk) {
    if !(disk.limits().read_only || disk.shared().device().is_flushed()) {
        let session = Key::from_word(NOBODY);
        let since = Moment::now();
        disk.flush(Ticket { session, tag: 0, offset: 0, len: 0, verb: Verb::Flush, since });
    }
}
