//! Writes finer than the device's block: read, modify, write, with the block held exclusively.
//!
//! An aligned write that lands between the read and the write of such an operation would be lost, so the block is
//! held on every worker first. The protocol, for one block:
//!
//! 1. The worker enters the block in the disk's [`ExclusiveTable`]. Only one operation at a time is *granted* a block;
//!    the others are granted theirs, first come first served, when it is released.
//! 2. Once granted, it asks every worker (itself included) to *hold* the block: writes, zeroes and trims that touch it
//!    and are not yet inside the driver are parked. A worker answers when none is inside the driver any more.
//! 3. With all answers in, the block is read into the worker's scratch lease, changed, and written.
//! 4. The block is released everywhere, and parked requests go on.
//!
//! The fast path pays for this with one look at a list that is empty unless such an operation is pending. Reads need
//! not wait. A worker that has not seen the request to hold has not answered it, so there is nothing to race with.

use std::collections::VecDeque;

use drivers::{Completion, Errno, Lease, Limits, Operation, Pool, Request, RequestFlags, RequestId};

use super::{Disk, Flight, Op, State, error_of};
use crate::copies;
use crate::slab::Key;
use crate::worker::mailbox::Message;

/// A piece of a write that covers only a part of a block.
#[derive(Debug)]
pub(super) struct EdgeOp {
    /// The operation it belongs to.
    parent: Key,
    block: Block,
    /// Where in the block the bytes go.
    at: usize,
    bytes: Box<[u8]>,
    /// Workers that have not answered the request to hold.
    answers_missing: usize,
    /// The block was read; it is being written.
    writing: bool,
}

/// One block of the device. The last one may be cut off by the capacity, which workers learn at different times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    offset: u64,
    len: u64,
}

impl PartialEq for Block {
    fn eq(&self, other: &Block) -> bool {
        self.offset == other.offset
    }
}

impl Block {
    fn touches(&self, offset: u64, len: u64) -> bool {
        offset < self.offset + self.len && self.offset < offset + len
    }
}

/// Who holds a block: an edge operation of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    worker: usize,
    edge: Key,
}

/// What workers tell each other about a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DiskMessage {
    /// The block is yours to ask for.
    Granted { edge: Key },
    /// Let nothing new touch the block, and answer when nothing does.
    Hold { holder: Holder, block: Block },
    /// Nothing touches the block here.
    Held { edge: Key },
    /// Go on.
    Release { holder: Holder },
}

/// Who has asked for which block, in the order of asking. Shared by all workers; only unaligned writes touch it.
#[derive(Debug, Default)]
pub(crate) struct ExclusiveTable {
    entries: Vec<(Holder, Block)>,
}

impl ExclusiveTable {
    /// Enters a request; `true` means it is granted at once.
    fn ask(&mut self, holder: Holder, block: Block) -> bool {
        if planted!("lost-update-between-workers") {
            return true;
        }
        let free = self.entries.iter().all(|(_, other)| *other != block);
        self.entries.push((holder, block));
        free
    }

    /// Takes an entry out; returns who is granted the block now.
    fn release(&mut self, holder: Holder) -> Option<Holder> {
        let at = self.entries.iter().position(|(other, _)| *other == holder)?;
        let (_, block) = self.entries.remove(at);
        self.entries.iter().find(|(_, other)| *other == block).map(|(next, _)| *next)
    }
}

#[derive(Debug)]
struct Held {
    holder: Holder,
    block: Block,
    answered: bool,
}

/// A worker's part in the protocol.
#[derive(Debug)]
pub(super) struct Exclusive {
    worker: usize,
    /// Memory to read a block into, reserved at start: nothing waits for it with a lease in hand.
    scratch: Option<Lease>,
    /// A device that failed did not give it back.
    scratch_is_lost: bool,
    waiting_for_scratch: VecDeque<Key>,
    /// Those that wait are being ended, further down in the stack.
    is_failing: bool,
    held: Vec<Held>,
    parked: VecDeque<Request>,
}

impl Exclusive {
    pub(super) fn new(worker: usize, pool: &Pool, limits: Limits) -> Exclusive {
        let alignment = limits.request_alignment_bytes as usize;
        let scratch = if alignment > 1 { pool.lease(alignment) } else { None };
        Exclusive {
            worker,
            scratch,
            scratch_is_lost: false,
            waiting_for_scratch: VecDeque::new(),
            is_failing: false,
            held: Vec::new(),
            parked: VecDeque::new(),
        }
    }

    /// Whether a change of the range has to wait.
    #[inline]
    pub(super) fn must_wait(&self, offset: u64, len: u64) -> bool {
        !self.held.is_empty()
            && !planted!("lost-update")
            && self.held.iter().any(|held| held.block.touches(offset, len))
    }

    pub(super) fn park(&mut self, request: Request) {
        self.parked.push_back(request);
    }
}

impl Disk {
    /// Takes the bytes of a part that do not fill their blocks out of it and starts their own way. Returns what is
    /// left: how many bytes to skip and how many follow.
    pub(super) fn split_edges(
        &mut self,
        parent: Key,
        lease: &Lease,
        lead: usize,
        offset: u64,
        len: usize,
    ) -> Option<(usize, usize)> {
        let mask = u64::from(self.limits.request_alignment_bytes) - 1;
        let end = offset + len as u64;
        let first = ((offset + mask) & !mask).min(end);
        let last = if end == self.limits.capacity_bytes { end } else { end & !mask };
        let piece = |from: u64, to: u64| {
            let mut bytes = vec![0; (to - from) as usize].into_boxed_slice();
            copies::count(bytes.len());
            lease.slice(lead + (from - offset) as usize, bytes.len()).copy_to(&mut bytes);
            bytes
        };
        // Both edges before either starts: starting one may already finish others.
        let head = (first > offset).then(|| piece(offset, first));
        let tail_start = last.max(first);
        let tail = (end > tail_start).then(|| piece(tail_start, end));
        if let Some(bytes) = head {
            self.start_edge(parent, offset, bytes);
        }
        if let Some(bytes) = tail {
            self.start_edge(parent, tail_start, bytes);
        }
        (last > first).then(|| ((first - offset) as usize, (last - first) as usize))
    }

    fn start_edge(&mut self, parent: Key, offset: u64, bytes: Box<[u8]>) {
        let Some(op) = self.ops.get_mut(parent) else { return };
        op.in_flight += 1;
        let ticket = op.ticket;
        let alignment = u64::from(self.limits.request_alignment_bytes);
        let start = offset / alignment * alignment;
        let block =
            Block { offset: start, len: alignment.min(self.limits.capacity_bytes.saturating_sub(start)) };
        let at = (offset - start) as usize;
        let edge = EdgeOp { parent, block, at, bytes, answers_missing: 0, writing: false };
        let key = self.ops.insert(Op { ticket, state: State::Edge(edge), in_flight: 0, error: None });
        let holder = Holder { worker: self.exclusive.worker, edge: key };
        if self.shared.exclusive().ask(holder, block) {
            self.edge_granted(key);
        }
    }

    /// A message of another worker about this disk.
    pub(crate) fn receive(&mut self, message: DiskMessage) {
        match message {
            DiskMessage::Granted { edge } => self.edge_granted(edge),
            DiskMessage::Hold { holder, block } => self.hold(holder, block),
            DiskMessage::Held { edge } => self.edge_held(edge),
            DiskMessage::Release { holder } => self.release(holder),
        }
    }

    fn post(&self, worker: usize, message: DiskMessage) {
        self.shared.mailboxes()[worker].post(Message::Disk { disk: self.shared.index(), message });
    }

    fn edge_granted(&mut self, key: Key) {
        let workers = self.shared.mailboxes().len();
        let Some(State::Edge(edge)) = self.ops.get_mut(key).map(|op| &mut op.state) else { return };
        edge.answers_missing = workers;
        let block = edge.block;
        let holder = Holder { worker: self.exclusive.worker, edge: key };
        for worker in (0..workers).filter(|worker| *worker != holder.worker) {
            self.post(worker, DiskMessage::Hold { holder, block });
        }
        self.hold(holder, block);
    }

    fn hold(&mut self, holder: Holder, block: Block) {
        self.exclusive.held.push(Held { holder, block, answered: false });
        self.exclusive_progress();
    }

    /// Answers requests to hold whose blocks nothing touches any more. Called when a write left the driver.
    pub(super) fn exclusive_progress(&mut self) {
        if self.exclusive.held.is_empty() {
            return;
        }
        let mut answers = Vec::new();
        let parked = &self.exclusive.parked;
        for held in self.exclusive.held.iter_mut().filter(|held| !held.answered) {
            let inside = |flight: &(Key, &Flight)| {
                flight.1.writes && held.block.touches(flight.1.offset, flight.1.len)
            };
            let is_parked = |key: Key| parked.iter().any(|request| request.id == RequestId(key.to_word()));
            if !self.flights.entries().any(|flight| inside(&flight) && !is_parked(flight.0)) {
                held.answered = true;
                answers.push(held.holder);
            }
        }
        for holder in answers {
            if holder.worker == self.exclusive.worker {
                self.edge_held(holder.edge);
            } else {
                self.post(holder.worker, DiskMessage::Held { edge: holder.edge });
            }
        }
    }

    fn edge_held(&mut self, key: Key) {
        let Some(State::Edge(edge)) = self.ops.get_mut(key).map(|op| &mut op.state) else { return };
        edge.answers_missing -= 1;
        if edge.answers_missing == 0 {
            self.exclusive.waiting_for_scratch.push_back(key);
            self.start_scratch();
        }
    }

    /// Reads the block of the next edge into the scratch lease, if that is free.
    fn start_scratch(&mut self) {
        if self.exclusive.scratch_is_lost {
            self.exclusive.scratch = self.pool.lease(self.limits.request_alignment_bytes as usize);
            self.exclusive.scratch_is_lost = self.exclusive.scratch.is_none();
        }
        if self.dead || self.exclusive.scratch_is_lost {
            return self.fail_waiting();
        }
        let Some(&key) = self.exclusive.waiting_for_scratch.front() else { return };
        let Some(scratch) = self.exclusive.scratch.take() else { return };
        self.exclusive.waiting_for_scratch.pop_front();
        let Some(State::Edge(edge)) = self.ops.get(key).map(|op| &op.state) else { return };
        let block = edge.block;
        self.launch(key, Operation::Read(scratch), block.offset, block.len, RequestFlags::default());
    }

    /// Ends all that wait for the scratch lease: nothing can be read into it. The end of one brings the next, of which
    /// there may be thousands, so they do not end inside of each other.
    fn fail_waiting(&mut self) {
        if std::mem::replace(&mut self.exclusive.is_failing, true) {
            return;
        }
        while let Some(key) = self.exclusive.waiting_for_scratch.pop_front() {
            self.edge_over(key, Some(Errno::IO));
        }
        self.exclusive.is_failing = false;
    }

    pub(super) fn edge_completed(&mut self, key: Key, completion: Completion) {
        let Some(scratch) = completion.lease else {
            self.exclusive.scratch_is_lost = true;
            return self.edge_over(key, Some(Errno::IO));
        };
        let Some(State::Edge(edge)) = self.ops.get_mut(key).map(|op| &mut op.state) else { return };
        let error = error_of(&completion.result);
        if edge.writing || error.is_some() {
            self.exclusive.scratch = Some(scratch);
            self.edge_over(key, error);
            return;
        }
        copies::count(edge.bytes.len());
        scratch.slice(edge.at, edge.bytes.len()).copy_from(&edge.bytes);
        edge.writing = true;
        let block = edge.block;
        self.launch_past_holds(key, Operation::Write(scratch), block.offset, block.len);
    }

    /// The block is written (or is not); everybody else may go on.
    fn edge_over(&mut self, key: Key, error: Option<Errno>) {
        let holder = Holder { worker: self.exclusive.worker, edge: key };
        let Some(op) = self.ops.remove(key) else { return };
        let next = self.shared.exclusive().release(holder);
        for worker in (0..self.shared.mailboxes().len()).filter(|worker| *worker != holder.worker) {
            self.post(worker, DiskMessage::Release { holder });
        }
        self.release(holder);
        match next {
            Some(next) if next.worker == holder.worker => self.edge_granted(next.edge),
            Some(next) => self.post(next.worker, DiskMessage::Granted { edge: next.edge }),
            None => {}
        }
        self.start_scratch();
        if let State::Edge(edge) = op.state {
            self.edge_finished(edge.parent, error);
        }
    }

    fn edge_finished(&mut self, parent: Key, error: Option<Errno>) {
        let Some(op) = self.ops.get_mut(parent) else { return };
        op.in_flight -= 1;
        if let Some(errno) = error {
            op.error.get_or_insert(errno);
        }
        match op.state {
            State::Write(_) => self.finish_write_if_over(parent),
            State::Clear(_) => self.step_clear(parent),
            _ => {}
        }
    }

    fn release(&mut self, holder: Holder) {
        self.exclusive.held.retain(|held| held.holder != holder);
        for request in std::mem::take(&mut self.exclusive.parked) {
            if self.exclusive.must_wait(request.offset, request.len) {
                self.exclusive.parked.push_back(request);
            } else {
                self.todo.push_back(request);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    #[test]
    fn a_block_is_granted_to_one_at_a_time_in_the_order_of_asking() {
        let mut keys = Slab::new();
        let mut holder = |worker| Holder { worker, edge: keys.insert(()) };
        let (first, second, third, other) = (holder(0), holder(1), holder(0), holder(1));
        let (block, elsewhere) = (Block { offset: 512, len: 512 }, Block { offset: 0, len: 512 });
        let mut table = ExclusiveTable::default();
        assert!(table.ask(first, block));
        assert!(!table.ask(second, block));
        assert!(!table.ask(third, block));
        assert!(table.ask(other, elsewhere));
        assert_eq!(table.release(first), Some(second));
        assert_eq!(table.release(other), None);
        assert_eq!(table.release(second), Some(third));
        assert_eq!(table.release(third), None);
        let cut_off = Block { len: 100, ..block };
        assert!(table.ask(first, cut_off));
        assert!(!table.ask(second, block), "it is the same block, whatever the capacity is said to be");
    }
}
