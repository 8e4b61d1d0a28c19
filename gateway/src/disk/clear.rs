//! Trim and write zeroes: any length, any alignment, whatever the device can.

use drivers::{Completion, Errno, Now, Operation, RequestFlags};

use super::{Disk, Flight, Op, PART_BYTES, PARTS_IN_FLIGHT, State, Ticket, error_of};
use crate::slab::Key;

/// Longest piece done at once before others get their turn.
const PIECE_NOW_BYTES: u64 = 64 << 20;

/// What a client wants of a range it does not send data for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clear {
    /// It is no longer needed.
    Trim,
    /// It must read as zeroes.
    Zero {
        /// It must stay provisioned.
        no_unmap: bool,
        /// Rather fail than write zeroes.
        fast: bool,
    },
}

impl Clear {
    const fn is_fast(self) -> bool {
        matches!(self, Clear::Zero { fast: true, .. })
    }
}

#[derive(Debug)]
pub(super) struct ClearOp {
    what: Clear,
    fua: bool,
    next: u64,
    end: u64,
    /// The device cannot: write zeroes into the rest.
    by_writing: bool,
    /// Ranges the device refused; they are written.
    refused: Vec<(u64, u64)>,
}

impl Disk {
    /// Starts a trim or write zeroes of the ticket's range.
    pub(crate) fn clear(&mut self, ticket: Ticket, what: Clear, fua: bool) {
        let (mut next, mut end) = (ticket.offset, ticket.offset + ticket.len);
        let mut by_writing = false;
        match what {
            Clear::Trim => {
                let Some(discard) = self.limits.discard else {
                    self.deliver(ticket, super::What::Done(Ok(())));
                    return;
                };
                (next, end) =
                    inner_blocks(next, end, u64::from(discard.alignment_bytes), self.limits.capacity_bytes);
                if planted!("trim-rounds-outwards") {
                    (next, end) = (next / 4096 * 4096, end.next_multiple_of(4096));
                }
            }
            Clear::Zero { no_unmap, fast } => {
                let able = self.limits.write_zeroes.filter(|zeroes| {
                    let is_fast = if no_unmap { zeroes.fast_no_unmap } else { zeroes.fast_unmap };
                    is_fast || !fast
                });
                if fast && able.is_none() {
                    self.deliver(ticket, super::What::Done(Err(Errno::NOT_SUPPORTED)));
                    return;
                }
                by_writing = able.is_none();
                end -= if planted!("zeroes-leave-the-last-byte") { 1 } else { 0 };
            }
        }
        let state = State::Clear(ClearOp { what, fua, next, end, by_writing, refused: Vec::new() });
        let key = self.ops.insert(Op { ticket, state, in_flight: 0, error: None });
        self.step_clear(key);
    }

    /// Starts what may be under way at a time.
    pub(super) fn step_clear(&mut self, key: Key) {
        let mut budget = PIECE_NOW_BYTES;
        loop {
            let Some(op) = self.ops.get_mut(key) else { return };
            let State::Clear(clear) = &mut op.state else { return };
            if op.in_flight >= PARTS_IN_FLIGHT {
                return;
            }
            if self.dead {
                op.error.get_or_insert(Errno::IO);
            }
            if clear.next >= clear.end
                && let Some((start, end)) = clear.refused.pop()
            {
                (clear.next, clear.end, clear.by_writing) = (start, end, true);
            }
            if clear.next >= clear.end || op.error.is_some() {
                self.finish_clear_if_over(key);
                return;
            }
            let (what, start, end, by_writing) = (clear.what, clear.next, clear.end, clear.by_writing);
            let done = if by_writing {
                self.write_zero_part(key, start, end)
            } else {
                self.clear_part(key, what, start, end)
            };
            let Some(done) = done else {
                self.give_way(key);
                return;
            };
            if let Some(State::Clear(clear)) = self.ops.get_mut(key).map(|op| &mut op.state) {
                clear.next = start + done;
            }
            budget = budget.saturating_sub(done);
            if budget == 0 {
                self.has_yielded = true;
                self.give_way(key);
                return;
            }
        }
    }

    /// One request to the device, or zeroes written where its blocks do not fit. Returns the bytes dealt with.
    fn clear_part(&mut self, key: Key, what: Clear, start: u64, end: u64) -> Option<u64> {
        let (max, alignment) = match (what, self.limits.discard, self.limits.write_zeroes) {
            (Clear::Trim, Some(discard), _) => (discard.max_bytes, u64::from(discard.alignment_bytes)),
            (Clear::Zero { .. }, _, Some(zeroes)) => (zeroes.max_bytes, u64::from(zeroes.alignment_bytes)),
            _ => return Some(end - start),
        };
        let capacity = self.limits.capacity_bytes;
        let (first, last) = inner_blocks(start, end, alignment, capacity);
        if first >= last {
            return self.write_zero_part(key, start, end);
        }
        if first > start {
            return self.write_zero_part(key, start, first);
        }
        let longest = if max == 0 { PIECE_NOW_BYTES } else { max.min(PIECE_NOW_BYTES) };
        let len = (last - first).min((longest / alignment * alignment).max(alignment));
        let flags = match what {
            Clear::Trim => RequestFlags::default(),
            Clear::Zero { no_unmap, fast } => RequestFlags { fua: false, no_unmap, fast },
        };
        let now = if self.exclusive.must_wait(first, len) {
            Now::Later
        } else if what == Clear::Trim {
            self.queue.discard_now(first, len)
        } else {
            self.queue.write_zeroes_now(first, len, flags)
        };
        match now {
            Now::Done(()) => {}
            Now::Failed(errno) => self.clear_refused(key, first, len, errno),
            Now::Later if what == Clear::Trim => self.launch(key, Operation::Discard, first, len, flags),
            Now::Later => self.launch(key, Operation::WriteZeroes, first, len, flags),
        }
        Some(len)
    }

    /// Writes zeroes into the beginning of the range; returns how many, or `None` without a lease.
    fn write_zero_part(&mut self, key: Key, start: u64, end: u64) -> Option<u64> {
        let (lease, lead, len) = self.write_lease(start, (end - start).min(PART_BYTES as u64))?;
        let slice = lease.slice(0, lead + len);
        slice.copy_from(&ZEROES[..lead + len]);
        if self.is_aligned(start, len as u64) {
            self.launch(key, Operation::Write(lease), start, len as u64, RequestFlags::default());
        } else if let Some((skip, middle_len)) = self.split_edges(key, &lease, lead, start, len) {
            let mut lease = lease;
            lease.skip(lead + skip);
            let offset = start + skip as u64;
            self.launch(key, Operation::Write(lease), offset, middle_len as u64, RequestFlags::default());
        }
        Some(len as u64)
    }

    /// The device said no to one piece.
    fn clear_refused(&mut self, key: Key, offset: u64, len: u64, errno: Errno) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let State::Clear(clear) = &mut op.state else { return };
        match clear.what {
            _ if errno != Errno::NOT_SUPPORTED => {
                op.error.get_or_insert(errno);
            }
            // A trim is a hint; a device that refuses it has obeyed.
            Clear::Trim => {}
            Clear::Zero { fast: true, .. } => {
                op.error.get_or_insert(errno);
            }
            Clear::Zero { .. } => clear.refused.push((offset, offset + len)),
        }
    }

    pub(super) fn clear_completed(&mut self, key: Key, flight: &Flight, completion: Completion) {
        if let Some(errno) = error_of(&completion.result) {
            if completion.lease.is_some() {
                self.fail_write(key, errno);
            } else {
                self.clear_refused(key, flight.offset, flight.len, errno);
            }
        }
        self.step_clear(key);
    }

    fn finish_clear_if_over(&mut self, key: Key) {
        let Some(op) = self.ops.get(key) else { return };
        let State::Clear(clear) = &op.state else { return };
        if op.in_flight > 0 || clear.next < clear.end && op.error.is_none() {
            return;
        }
        match op.error {
            Some(errno) => self.finish(key, Err(errno)),
            None if planted!("fast-zero-fails-afterwards") && clear.what.is_fast() => {
                self.finish(key, Err(Errno::NOT_SUPPORTED));
            }
            None if clear.fua => self.flush_then_finish(key),
            None => self.finish(key, Ok(())),
        }
    }
}

static ZEROES: [u8; PART_BYTES + (64 << 10)] = [0; PART_BYTES + (64 << 10)];

/// The whole blocks inside `start..end`; the end of the disk counts as the end of a block.
fn inner_blocks(start: u64, end: u64, alignment: u64, capacity: u64) -> (u64, u64) {
    let first = start.div_ceil(alignment).saturating_mul(alignment);
    let last = if end == capacity { end } else { end / alignment * alignment };
    (first, last.max(first))
}

#[cfg(test)]
mod tests {
    use super::inner_blocks;

    #[test]
    fn inner_blocks_never_leave_the_range() {
        assert_eq!(inner_blocks(1, 4096, 512, 1 << 20), (512, 4096));
        assert_eq!(inner_blocks(0, 511, 512, 1 << 20), (0, 0));
        assert_eq!(inner_blocks(100, 200, 512, 1 << 20), (512, 512));
        assert_eq!(inner_blocks(512, 1000, 512, 1000), (512, 1000));
    }
}
