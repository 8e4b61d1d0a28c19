//! A worker's view of one disk: what every front-end needs between its clients and a driver's queue.
//!
//! Splitting by the device's limits, requests finer than the device's block, fallbacks for zeroes and FUA, merged
//! flushes, block status, leases. Nothing here knows NBD: a front-end hands in a [`Ticket`] with each operation and
//! gets [`Delivery`]s that carry it.
//!
//! An *operation* is what a client asked for; a *flight* is one request of it inside the driver. Reads of more than
//! one part and write payloads are driven by the front-end (it knows when its client takes or gives data); everything
//! else is driven from here.

mod clear;
mod exclusive;
mod flush;
mod read;
mod shared;
mod status;
#[cfg(test)]
mod tests;
mod write;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use drivers::{
    Completion, Errno, Extent, Lease, Limits, Operation, Outcome, Pool, Queue, Request, RequestFlags,
    RequestId, Store,
};

use crate::metrics::{Moment, Traffic};
use crate::session::output::Body;
use crate::slab::{Key, Slab};

pub(crate) use clear::Clear;
pub(crate) use exclusive::DiskMessage;
pub(crate) use read::{Order, Pumped, ReadNow, WHOLE_BYTES};
pub(crate) use shared::DiskShared;

/// Longest part of a read or write: half of it would cost more requests, twice of it would leave the processor's
/// cache before it is sent.
pub(crate) const PART_BYTES: usize = drivers::mem::LARGEST_LEASE_BYTES;

/// Longest leases that are kept for requests that do not wait for clients.
const LEASES_KEPT: usize = 4;

/// Parts of one operation inside the driver at a time.
const PARTS_IN_FLIGHT: u32 = 4;

/// Whose operation it is, opaque to the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// The session.
    pub(crate) session: Key,
    /// The session's name for the operation (NBD: the cookie).
    pub(crate) tag: u64,
    /// First byte of the range the client named.
    pub(crate) offset: u64,
    /// Length of that range.
    pub(crate) len: u64,
    /// What it was.
    pub(crate) verb: Verb,
    /// When it came.
    pub(crate) since: Moment,
}

/// What a client asked for, for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Read {
        whole_chunk: bool,
    },
    Write {
        fua: bool,
    },
    Flush,
    Trim {
        fua: bool,
    },
    Zero {
        fua: bool,
        fast: bool,
    },
    Cache,
    Status,
    /// The session reads something again for itself.
    Refill,
}

impl Verb {
    /// Whether success promises that data is on stable storage.
    pub(crate) fn promises_durability(self) -> bool {
        matches!(
            self,
            Verb::Flush | Verb::Write { fua: true } | Verb::Trim { fua: true } | Verb::Zero { fua: true, .. }
        )
    }
}

/// Something for a front-end to tell its client.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) ticket: Ticket,
    pub(crate) what: What,
}

/// What there is to tell.
#[derive(Debug)]
pub(crate) enum What {
    /// A part of a read. `last`: everything before it succeeded too, and nothing follows.
    Data { offset: u64, body: Body, last: bool },
    /// A read can be pumped again.
    More,
    /// The operation ended; a read that succeeded ends with its last `Data` instead.
    Done(Result<(), Errno>),
    /// The end of a block status request.
    Extents(Vec<Extent>),
}

/// A client's operation in progress.
#[derive(Debug)]
struct Op {
    ticket: Ticket,
    state: State,
    /// Requests inside the driver, and edges waiting for their turn.
    in_flight: u32,
    /// The first error.
    error: Option<Errno>,
}

#[derive(Debug)]
enum State {
    Read(read::ReadOp),
    Write(write::WriteOp),
    Clear(clear::ClearOp),
    /// Waits for a flush; the end of several kinds of operations.
    Flush,
    Status,
    /// A flush on behalf of all operations in `flush.covered`.
    SharedFlush,
    Edge(exclusive::EdgeOp),
}

/// One request inside the driver.
#[derive(Debug)]
struct Flight {
    op: Key,
    offset: u64,
    len: u64,
    /// It changes the range.
    writes: bool,
}

/// A worker's view of one disk.
pub(crate) struct Disk {
    shared: Arc<DiskShared>,
    /// Which of the device's queues this is.
    index: usize,
    limits: Limits,
    queue: Box<dyn Queue>,
    pool: Pool,
    ops: Slab<Op>,
    flights: Slab<Flight>,
    todo: VecDeque<Request>,
    done: Vec<Completion>,
    deliveries: VecDeque<Delivery>,
    /// Operations that could go on if there were a lease, or that gave way to others.
    runnable: VecDeque<Key>,
    /// One of them gave way although it could have gone on.
    has_yielded: bool,
    flush: flush::Flusher,
    exclusive: exclusive::Exclusive,
    /// Memory for an answer that is looked at and forgotten.
    extents: Vec<Extent>,
    dead: bool,
}

impl Disk {
    /// The view of the worker that has queue `queue`. Call on the worker's thread.
    pub(crate) fn open(shared: Arc<DiskShared>, queue: usize) -> Result<Disk, drivers::Error> {
        let pool = Pool::new(shared.device().region().clone(), queue);
        let limits = shared.limits();
        Ok(Disk {
            limits,
            queue: shared.device().queue(queue)?,
            ops: Slab::new(),
            flights: Slab::new(),
            todo: VecDeque::new(),
            done: Vec::new(),
            deliveries: VecDeque::new(),
            runnable: VecDeque::new(),
            has_yielded: false,
            flush: flush::Flusher::default(),
            extents: Vec::new(),
            exclusive: exclusive::Exclusive::new(queue, &pool, limits),
            pool,
            shared,
            index: queue,
            dead: false,
        })
    }

    /// The facts about the disk.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Asks for the facts anew; new sessions see a capacity that changed.
    pub(crate) fn refresh(&mut self) {
        self.limits.capacity_bytes = self.shared.limits().capacity_bytes;
    }

    /// What all workers share of this disk.
    pub(crate) fn shared(&self) -> &Arc<DiskShared> {
        &self.shared
    }

    /// What the clients of this worker ask of the disk.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.shared.traffic()[self.index]
    }

    /// The driver's own memory.
    pub(crate) fn store(&self) -> Option<&dyn Store> {
        self.shared.device().store()
    }

    /// Whether leases are so scarce that clients must not be waited for with one in hand: of a pool of a few leases
    /// even one is missed.
    pub(crate) fn is_short_of_leases(&self) -> bool {
        let (lent, all) = (self.pool.lent_bytes(), self.pool.len_bytes());
        lent > (all / 2).min(all.saturating_sub(LEASES_KEPT * PART_BYTES))
    }

    /// Leases that came back so far.
    pub(crate) fn leases_returned(&self) -> u64 {
        self.pool.returns()
    }

    /// Whether a turn would do nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.todo.is_empty()
            && self.deliveries.is_empty()
            && self.runnable.is_empty()
            && !self.is_waiting()
            && !self.queue.has_news()
    }

    /// Whether operations are under way. They may wait for other workers while nothing is to be done here.
    pub(crate) fn has_operations(&self) -> bool {
        !self.ops.is_empty()
    }

    /// Whether a turn may do something: one that is dead is asked whether it still is.
    pub(crate) fn has_something_to_do(&self) -> bool {
        self.dead || !self.is_idle()
    }

    /// Whether completions are on their way.
    pub(crate) fn is_waiting(&self) -> bool {
        self.queue.in_flight() > 0
    }

    /// Readable when the driver has completions; `None` for a driver that must be polled.
    pub(crate) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.queue.event()
    }

    /// Asks for a wake-up; `true` means there is work already.
    pub(crate) fn arm(&mut self) -> bool {
        self.queue.arm()
    }

    /// The next thing to tell a client.
    pub(crate) fn next_delivery(&mut self) -> Option<Delivery> {
        self.deliveries.pop_front()
    }

    /// The next thing to tell a client, if it is for this session.
    pub(crate) fn next_delivery_for(&mut self, session: Key) -> Option<Delivery> {
        let is_next = self.deliveries.front().is_some_and(|delivery| delivery.ticket.session == session);
        if is_next { self.deliveries.pop_front() } else { None }
    }

    /// Hands requests to the driver, takes completions, and moves operations on. Returns whether anything happened.
    pub(crate) fn turn(&mut self) -> bool {
        let mut happened = self.run_runnable();
        happened |= self.submit();
        self.queue.reap(&mut self.done);
        let mut done = std::mem::take(&mut self.done);
        match self.queue.is_dead() {
            true => self.die("it was lost with what it held"),
            false => self.dead = false,
        }
        happened |= !done.is_empty();
        for completion in done.drain(..) {
            self.complete(completion);
        }
        self.done = done;
        happened |= self.submit();
        self.traffic().set_depth(self.flights.len());
        happened
    }

    /// Hands requests to the driver.
    fn submit(&mut self) -> bool {
        if self.todo.is_empty() {
            return false;
        }
        let before = self.todo.len();
        if let Err(dead) = self.queue.submit(&mut self.todo) {
            self.die(&dead.reason);
            for request in std::mem::take(&mut self.todo) {
                let lease = match request.operation {
                    Operation::Read(lease) | Operation::Write(lease) => Some(lease),
                    _ => None,
                };
                self.complete(Completion { id: request.id, result: Err(Errno::IO), lease });
            }
            return true;
        }
        self.todo.len() < before
    }

    /// The queue is beyond use until its device comes back, and every request ends with an error. None may wait for a
    /// lease meanwhile: what the device held does not come back.
    fn die(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.dead, true) {
            tracing::error!(
                "a queue of the device failed: {reason}; its requests end with input/output errors"
            );
        }
    }

    /// Whether every request ends with an error.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Moves operations on that gave way. Returns whether any of them did something; one that only waits for a lease
    /// does not count, or the worker would never sleep.
    fn run_runnable(&mut self) -> bool {
        let count = self.runnable.len();
        self.has_yielded = false;
        for _ in 0..count {
            let Some(op) = self.runnable.pop_front() else { break };
            self.step(op);
        }
        self.has_yielded || count > self.runnable.len()
    }

    /// Lets others have their turn, or waits for a lease.
    fn give_way(&mut self, key: Key) {
        if !self.runnable.contains(&key) {
            self.runnable.push_back(key);
        }
    }

    /// Moves an operation on that gave way.
    fn step(&mut self, key: Key) {
        if let Some(State::Clear(_)) = self.ops.get(key).map(|op| &op.state) {
            self.step_clear(key);
        }
    }

    /// Sends one request of an operation to the driver (at the end of the turn).
    fn launch(&mut self, op: Key, operation: Operation, offset: u64, len: u64, flags: RequestFlags) {
        let writes = matches!(operation, Operation::Write(_) | Operation::WriteZeroes | Operation::Discard);
        if let Some(entry) = self.ops.get_mut(op) {
            entry.in_flight += 1;
        }
        let flight = self.flights.insert(Flight { op, offset, len, writes });
        let request = Request { id: RequestId(flight.to_word()), operation, flags, offset, len };
        if writes && self.exclusive.must_wait(offset, len) {
            self.exclusive.park(request);
        } else {
            self.todo.push_back(request);
        }
    }

    /// As `launch`, for the holder of the block.
    fn launch_past_holds(&mut self, op: Key, operation: Operation, offset: u64, len: u64) {
        if let Some(entry) = self.ops.get_mut(op) {
            entry.in_flight += 1;
        }
        let flight = self.flights.insert(Flight { op, offset, len, writes: true });
        let id = RequestId(flight.to_word());
        self.todo.push_back(Request { id, operation, flags: RequestFlags::default(), offset, len });
    }

    fn complete(&mut self, completion: Completion) {
        let Some(flight) = self.flights.remove(Key::from_word(completion.id.0)) else {
            debug_assert!(false, "a driver returned a request twice");
            return;
        };
        if flight.writes {
            self.exclusive_progress();
        }
        let Some(op) = self.ops.get_mut(flight.op) else { return };
        op.in_flight -= 1;
        match op.state {
            State::Read(_) => self.read_completed(flight.op, &flight, completion),
            State::Write(_) => self.write_completed(flight.op, completion),
            State::Clear(_) => self.clear_completed(flight.op, &flight, completion),
            State::SharedFlush => self.flush_completed(flight.op, completion),
            State::Status => self.status_completed(flight.op, completion),
            State::Edge(_) => self.edge_completed(flight.op, completion),
            State::Flush => {}
        }
    }

    /// Ends an operation.
    fn finish(&mut self, key: Key, result: Result<(), Errno>) {
        if let Some(op) = self.ops.remove(key) {
            self.deliver(op.ticket, What::Done(result));
        }
    }

    fn deliver(&mut self, ticket: Ticket, what: What) {
        self.deliveries.push_back(Delivery { ticket, what });
    }

    /// A lease of at least `len` bytes.
    fn lease(&self, len: usize) -> Option<Lease> {
        self.pool.lease(len)
    }

    /// A lease for a part of `len` bytes. If there is none although little is lent, the pool is in pieces, and the
    /// lease is for the beginning of the part; if much is lent, waiting for its return is better.
    fn part_lease(&self, len: usize) -> Option<Lease> {
        let least =
            if self.is_short_of_leases() { len } else { self.limits.request_alignment_bytes as usize };
        self.pool.lease_up_to(len, least)
    }

    fn is_aligned(&self, offset: u64, len: u64) -> bool {
        let mask = u64::from(self.limits.request_alignment_bytes) - 1;
        let end = offset + len;
        offset & mask == 0 && (end & mask == 0 || end == self.limits.capacity_bytes)
    }
}

/// The error of a completion.
fn error_of(result: &Result<Outcome, Errno>) -> Option<Errno> {
    result.as_ref().err().copied()
}
