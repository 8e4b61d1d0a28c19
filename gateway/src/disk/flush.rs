//! Flushes: merged while one is under way, and never more than the truth.

use drivers::{Completion, Now, Operation, RequestFlags};

use super::{Disk, Op, State, Ticket, Verb, error_of};
use crate::metrics::Moment;
use crate::slab::Key;

/// Who waits for which flush.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    /// The flush inside the driver, if there is one.
    current: Option<Key>,
    /// Operations it covers: all their writes had completed before it was submitted.
    covered: Vec<Key>,
    /// Operations that came later; the next flush is for them.
    waiting: Vec<Key>,
}

impl Disk {
    /// A client's flush: makes every write that was replied to, on any worker, durable.
    pub(crate) fn flush(&mut self, ticket: Ticket) {
        if !self.limits.flush_needed {
            self.deliver(ticket, super::What::Done(Ok(())));
            return;
        }
        match self.queue.flush_now() {
            Now::Done(()) => self.deliver(ticket, super::What::Done(Ok(()))),
            Now::Failed(errno) => {
                self.shared.count_flush_failure();
                self.deliver(ticket, super::What::Done(Err(errno)));
            }
            Now::Later => {
                let key = self.ops.insert(Op { ticket, state: State::Flush, in_flight: 0, error: None });
                self.join_flush(key);
            }
        }
    }

    /// Ends `key` after a flush: its own writes are complete.
    pub(super) fn flush_then_finish(&mut self, key: Key) {
        if !self.limits.flush_needed {
            self.finish(key, Ok(()));
            return;
        }
        if let Some(op) = self.ops.get_mut(key) {
            op.state = State::Flush;
            self.join_flush(key);
        }
    }

    fn join_flush(&mut self, key: Key) {
        self.flush.waiting.push(key);
        if self.flush.current.is_none() {
            self.start_flush();
        }
    }

    fn start_flush(&mut self) {
        std::mem::swap(&mut self.flush.covered, &mut self.flush.waiting);
        let Some(&first) = self.flush.covered.first() else { return };
        let Some(session) = self.ops.get(first).map(|op| op.ticket.session) else { return };
        let since = Moment::now();
        let ticket = Ticket { session, tag: 0, offset: 0, len: 0, verb: Verb::Flush, since };
        let key = self.ops.insert(Op { ticket, state: State::SharedFlush, in_flight: 0, error: None });
        self.flush.current = Some(key);
        self.launch(key, Operation::Flush, 0, 0, RequestFlags::default());
    }

    pub(super) fn flush_completed(&mut self, key: Key, completion: Completion) {
        self.ops.remove(key);
        self.flush.current = None;
        let error = error_of(&completion.result);
        if error.is_some() {
            self.shared.count_flush_failure();
        }
        for op in std::mem::take(&mut self.flush.covered) {
            self.finish(op, error.map_or(Ok(()), Err));
        }
        self.start_flush();
    }
}
