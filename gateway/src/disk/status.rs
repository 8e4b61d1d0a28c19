//! Block status.

use drivers::{Completion, Extent, Now, Operation, Outcome, RequestFlags};

use super::{Disk, Op, State, Ticket, What};
use crate::slab::Key;

impl Disk {
    /// Describes the ticket's range; the answer may be shorter.
    pub(crate) fn block_status(&mut self, ticket: Ticket) {
        let (offset, len) = (ticket.offset, ticket.len);
        if !self.limits.block_status {
            self.deliver(ticket, What::Extents(vec![Extent { len, hole: false, zero: false }]));
            return;
        }
        let mut extents = Vec::new();
        match self.queue.block_status_now(offset, len, &mut extents) {
            Now::Done(()) => self.deliver(ticket, What::Extents(extents)),
            Now::Failed(errno) => self.deliver(ticket, What::Done(Err(errno))),
            Now::Later => {
                let key = self.ops.insert(Op { ticket, state: State::Status, in_flight: 0, error: None });
                self.launch(key, Operation::BlockStatus, offset, len, RequestFlags::default());
            }
        }
    }

    /// Whether all of the range is known to be data, without waiting.
    pub(crate) fn is_data_now(&mut self, offset: u64, len: u64) -> bool {
        let mut extents = std::mem::take(&mut self.extents);
        extents.clear();
        let known = self.queue.block_status_now(offset, len, &mut extents);
        let is_data = known == Now::Done(())
            && matches!(extents[..], [Extent { len: data, zero: false, .. }, ..] if data >= len);
        self.extents = extents;
        is_data
    }

    pub(super) fn status_completed(&mut self, key: Key, completion: Completion) {
        let Some(op) = self.ops.remove(key) else { return };
        let what = match completion.result {
            Ok(Outcome::Extents(extents)) if !extents.is_empty() => What::Extents(extents),
            // A driver that has nothing to say says that everything is data.
            Ok(_) => What::Extents(vec![Extent { len: op.ticket.len, hole: false, zero: false }]),
            Err(errno) => What::Done(Err(errno)),
        };
        self.deliver(op.ticket, what);
    }
}
