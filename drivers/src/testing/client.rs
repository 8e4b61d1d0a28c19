//! [`Client`]: drives one queue as a worker does, and checks what every answer must obey.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::driver::Started;
use crate::error::Errno;
use crate::limits::Limits;
use crate::mem::{LARGEST_LEASE_BYTES, Lease, Pool};
use crate::queue::Queue;
use crate::request::{Completion, Extent, Operation, Outcome, Request, RequestFlags, RequestId};
use crate::sys::poll;

/// How long to wait for a wake-up before it counts as lost.
pub const PATIENCE_MS: i32 = 20_000;

/// No flags.
pub const PLAIN: RequestFlags = RequestFlags { fua: false, no_unmap: false, fast: false };

/// A queue with its pool.
pub struct Client {
    /// The queue, for the methods that answer at once.
    pub queue: Box<dyn Queue>,
    /// The memory of this worker.
    pub pool: Pool,
    /// The limits when the client was made.
    pub limits: Limits,
    next_id: u64,
    waiting: HashSet<u64>,
}

impl Client {
    /// Makes queue `index` of `device`, on the thread that calls.
    ///
    /// # Panics
    /// When the queue cannot be made, as all methods here do when an answer is not as it must be.
    #[must_use]
    pub fn new(device: &Arc<dyn Started>, index: usize) -> Client {
        let queue = device.queue(index).unwrap_or_else(|error| panic!("queue {index}: {error}"));
        Client {
            queue,
            pool: Pool::new(device.region().clone(), index),
            limits: device.limits(),
            next_id: 1,
            waiting: HashSet::new(),
        }
    }

    /// A request with an id of its own.
    pub fn request(&mut self, operation: Operation, offset: u64, len: u64, flags: RequestFlags) -> Request {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        Request { id, operation, flags, offset, len }
    }

    /// A lease of at least `len` bytes.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn lease(&self, len: usize) -> Lease {
        self.pool.lease(len.max(1)).expect("the pool has room for a test")
    }

    /// Submits requests, all of them in the end; answers are fetched meanwhile.
    ///
    /// # Panics
    /// When the queue is dead.
    pub fn submit(&mut self, requests: Vec<Request>, done: &mut Vec<Completion>) {
        self.waiting.extend(requests.iter().map(|request| request.id.0));
        let mut todo = VecDeque::from(requests);
        while !todo.is_empty() {
            let before = todo.len();
            self.queue.submit(&mut todo).expect("the queue lives");
            if !todo.is_empty() && todo.len() == before {
                self.wait(done);
            }
        }
    }

    /// Sleeps as a worker does until there is at least one answer, and fetches what there is.
    ///
    /// # Panics
    /// When the wake-up does not come, or an answer is not for a request in flight.
    pub fn wait(&mut self, done: &mut Vec<Completion>) {
        let before = done.len();
        loop {
            self.queue.reap(done);
            if done.len() > before {
                break;
            }
            assert!(self.queue.in_flight() > 0, "nothing is in flight, so nothing will come");
            if self.queue.arm() {
                continue;
            }
            match self.queue.event() {
                Some(event) => {
                    let woken = poll::readable(event, PATIENCE_MS).expect("an event can be waited for");
                    assert!(woken, "no wake-up came for {} requests in flight", self.queue.in_flight());
                }
                None => std::thread::yield_now(),
            }
        }
        for completion in &done[before..] {
            assert!(self.waiting.remove(&completion.id.0), "request {} came back twice", completion.id.0);
        }
    }

    /// Runs requests to their end, and gives the answers in the order of the ids.
    ///
    /// # Panics
    /// As `submit` and `wait`.
    pub fn run(&mut self, requests: Vec<Request>) -> Vec<Completion> {
        let mut done = Vec::new();
        self.submit(requests, &mut done);
        while !self.waiting.is_empty() {
            self.wait(&mut done);
        }
        assert_eq!(self.queue.in_flight(), 0, "everything has come back");
        done.sort_by_key(|completion| completion.id.0);
        done
    }

    /// Runs one request without memory.
    ///
    /// # Errors
    /// What the queue answered.
    ///
    /// # Panics
    /// As `run`.
    pub fn plain(
        &mut self,
        operation: Operation,
        offset: u64,
        len: u64,
        flags: RequestFlags,
    ) -> Result<Outcome, Errno> {
        let request = self.request(operation, offset, len, flags);
        self.run(vec![request]).remove(0).result
    }

    /// Flushes.
    ///
    /// # Errors
    /// What the queue answered.
    pub fn flush(&mut self) -> Result<(), Errno> {
        self.plain(Operation::Flush, 0, 0, PLAIN).map(drop)
    }

    /// Writes zeroes.
    ///
    /// # Errors
    /// What the queue answered.
    pub fn zero(&mut self, offset: u64, len: u64, flags: RequestFlags) -> Result<(), Errno> {
        let most = self.limits.write_zeroes.map_or(0, |zeroes| zeroes.max_bytes);
        ranges(offset, len, most)
            .try_for_each(|(offset, len)| self.plain(Operation::WriteZeroes, offset, len, flags).map(drop))
    }

    /// Discards.
    ///
    /// # Errors
    /// What the queue answered.
    pub fn discard(&mut self, offset: u64, len: u64) -> Result<(), Errno> {
        let most = self.limits.discard.map_or(0, |discard| discard.max_bytes);
        ranges(offset, len, most)
            .try_for_each(|(offset, len)| self.plain(Operation::Discard, offset, len, PLAIN).map(drop))
    }

    /// Asks for the status of the whole range, as often as it takes.
    ///
    /// # Errors
    /// What the queue answered.
    ///
    /// # Panics
    /// When an answer has no extent, an empty one, or goes beyond the range.
    pub fn status(&mut self, offset: u64, len: u64) -> Result<Vec<Extent>, Errno> {
        let (mut extents, mut known) = (Vec::new(), 0);
        while known < len {
            let part = match self.plain(Operation::BlockStatus, offset + known, len - known, PLAIN)? {
                Outcome::Extents(part) => part,
                other => panic!("a block status request was answered by {other:?}"),
            };
            assert!(!part.is_empty(), "an answer has at least one extent");
            assert!(part.iter().all(|extent| extent.len > 0), "no extent is empty");
            known += part.iter().map(|extent| extent.len).sum::<u64>();
            assert!(known <= len, "extents lie inside the range");
            extents.extend(part);
        }
        Ok(extents)
    }

    /// Reads, in pieces of a lease, all in flight at once as far as there is memory.
    ///
    /// # Errors
    /// What the queue answered to the first piece that failed.
    ///
    /// # Panics
    /// As `run`.
    pub fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0xa5; len];
        for (at, piece) in self.pieces(len) {
            let lease = self.lease(piece);
            lease.slice(0, piece).copy_from(&vec![0xa5_u8; piece][..]);
            let request = self.request(Operation::Read(lease), offset + at as u64, piece as u64, PLAIN);
            let completion = self.run(vec![request]).remove(0);
            completion.result?;
            let lease = completion.lease.expect("a read gives its lease back");
            lease.slice(0, piece).copy_to(&mut bytes[at..at + piece]);
        }
        Ok(bytes)
    }

    /// Writes, in pieces of a lease.
    ///
    /// # Errors
    /// What the queue answered to the first piece that failed.
    ///
    /// # Panics
    /// As `run`.
    pub fn write(&mut self, offset: u64, bytes: &[u8], flags: RequestFlags) -> Result<(), Errno> {
        for (at, piece) in self.pieces(bytes.len()) {
            let lease = self.lease(piece);
            lease.slice(0, piece).copy_from(&bytes[at..at + piece]);
            let request = self.request(Operation::Write(lease), offset + at as u64, piece as u64, flags);
            let completion = self.run(vec![request]).remove(0);
            completion.result?;
            assert!(completion.lease.is_some(), "a write gives its lease back");
        }
        Ok(())
    }

    /// `0..len` in pieces that fit into a lease and into a request: begin and length.
    fn pieces(&self, len: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let most = LARGEST_LEASE_BYTES.min(self.limits.max_transfer_bytes as usize);
        (0..len).step_by(most).map(move |at| (at, most.min(len - at)))
    }

    /// How many requests have not come back.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// A range in pieces of at most `most` bytes (0: any length): offset and length; one piece for a range of no length.
fn ranges(offset: u64, len: u64, most: u64) -> impl Iterator<Item = (u64, u64)> {
    let most = if most == 0 { len.max(1) } else { most };
    (0..len.max(1))
        .step_by(usize::try_from(most).unwrap_or(usize::MAX))
        .map(move |at| (offset + at, most.min(len - at)))
}
