//! Writes: at once where that cannot block, in leases otherwise, in whole blocks where the device asks.

use drivers::{Completion, Errno, Lease, Now, Operation, RequestFlags};

use super::{Disk, Op, PART_BYTES, State, Ticket, error_of};
use crate::slab::Key;

#[derive(Debug)]
pub(super) struct WriteOp {
    /// Reply only when the data is on stable storage.
    fua: bool,
    /// The device itself sees to that: the only part carries the flag.
    native_fua: bool,
    /// More parts may come.
    open: bool,
}

impl Disk {
    /// Writes `bytes` without FUA if that takes no waiting. [`Now::Later`]: send them in a lease.
    pub(crate) fn write_now(&mut self, offset: u64, bytes: &[u8]) -> Now<()> {
        if self.exclusive.must_wait(offset, bytes.len() as u64) {
            return Now::Later;
        }
        self.queue.write_now(offset, bytes)
    }

    /// Opens a write whose payload comes in parts.
    pub(crate) fn start_write(&mut self, ticket: Ticket, fua: bool) -> Key {
        let native_fua = fua
            && self.limits.fua
            && ticket.len <= self.part_room(ticket.offset) as u64
            && self.is_aligned(ticket.offset, ticket.len);
        let state = State::Write(WriteOp { fua, native_fua, open: true });
        self.ops.insert(Op { ticket, state, in_flight: 0, error: None })
    }

    /// Whether the driver sees to the durability of this write, so that its part must carry the flag.
    pub(crate) fn is_native_fua(&self, key: Key) -> bool {
        matches!(self.ops.get(key).map(|op| &op.state), Some(State::Write(WriteOp { native_fua: true, .. })))
    }

    /// How many of the `available` bytes at `offset` fill whole blocks; all `left` of them if they have all come.
    pub(crate) fn whole_blocks(&self, offset: u64, available: u64, left: u64) -> u64 {
        if available >= left {
            return left;
        }
        let mask = u64::from(self.limits.request_alignment_bytes) - 1;
        ((offset + available) & !mask).saturating_sub(offset)
    }

    /// A lease for the next part of a write, at `offset`, of at most `len` bytes; with it how many bytes of it come
    /// before the payload, so that the payload lies in it as in the device's blocks. The part may be shorter than
    /// `len`.
    pub(crate) fn write_lease(&self, offset: u64, len: u64) -> Option<(Lease, usize, usize)> {
        let lead = (offset % u64::from(self.limits.request_alignment_bytes)) as usize;
        let len = len.min(self.part_room(offset) as u64) as usize;
        let lease = self.part_lease(lead + len)?;
        let len = len.min(lease.len() - lead);
        Some((lease, lead, len))
    }

    /// Longest part that may begin at `offset`.
    pub(super) fn part_room(&self, offset: u64) -> usize {
        let most = (self.limits.max_transfer_bytes as usize).min(PART_BYTES);
        most - (offset % most as u64) as usize
    }

    /// Sends a part: `len` bytes that lie `lead` bytes into the lease.
    pub(crate) fn write_part(&mut self, key: Key, mut lease: Lease, lead: usize, offset: u64, len: usize) {
        let Some(State::Write(write)) = self.ops.get(key).map(|op| &op.state) else { return };
        let flags = RequestFlags { fua: write.native_fua, ..RequestFlags::default() };
        let (offset, len) = if self.is_aligned(offset, len as u64) {
            (offset, len)
        } else {
            match self.split_edges(key, &lease, lead, offset, len) {
                None => return,
                Some((skip, middle_len)) => {
                    lease.skip(lead + skip);
                    (offset + skip as u64, middle_len)
                }
            }
        };
        self.launch(key, Operation::Write(lease), offset, len as u64, flags);
    }

    /// No further part follows; the operation ends when all parts have.
    pub(crate) fn end_write(&mut self, key: Key) {
        if let Some(State::Write(write)) = self.ops.get_mut(key).map(|op| &mut op.state) {
            write.open = false;
        }
        self.finish_write_if_over(key);
    }

    /// The front-end could not get a part to the driver (it failed at once); the operation will end with `errno`.
    pub(crate) fn fail_write(&mut self, key: Key, errno: Errno) {
        if let Some(op) = self.ops.get_mut(key) {
            op.error.get_or_insert(errno);
        }
    }

    pub(super) fn write_completed(&mut self, key: Key, completion: Completion) {
        let error = error_of(&completion.result);
        let Some(op) = self.ops.get_mut(key) else { return };
        if let Some(errno) = error {
            op.error.get_or_insert(errno);
            if matches!(&op.state, State::Write(WriteOp { native_fua: true, .. })) {
                self.shared.count_flush_failure();
            }
        }
        self.finish_write_if_over(key);
    }

    pub(super) fn finish_write_if_over(&mut self, key: Key) {
        let Some(op) = self.ops.get(key) else { return };
        let State::Write(write) = &op.state else { return };
        if write.open || op.in_flight > 0 {
            return;
        }
        match op.error {
            Some(errno) => self.finish(key, Err(errno)),
            None if write.fua && !write.native_fua => self.flush_then_finish(key),
            None => self.finish(key, Ok(())),
        }
    }
}
