//! The caller of a queue: requests, and what must hold of their ends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use drivers::{Completion, Lease, Operation, Pool, Queue, Region, Request, RequestFlags, RequestId};

use crate::knobs::Knobs;

/// What memory holds that nobody was to write.
const UNTOUCHED: u8 = 0xa5;

/// What is written: nothing else comes from the disk, but zeroes.
const WRITTEN: u8 = 0x3c;

/// Most requests that wait for room in the queue.
const WAITING_MAX: usize = 16;

/// Data of a request: only this much of its lease is the controller's.
#[derive(Clone, Copy, Debug)]
struct Data {
    len: usize,
    is_read: bool,
}

/// The caller.
pub(super) struct Caller {
    pub(super) queue: Box<dyn Queue>,
    pool: Pool,
    /// Lent to nobody, between what is lent to requests.
    guards: Vec<Lease>,
    todo: VecDeque<Request>,
    /// Requests that did not come back.
    waiting: HashMap<u64, Data>,
    next_id: u64,
}

fn fill(lease: &Lease, byte: u8) {
    lease.slice(0, lease.len()).copy_from(&vec![byte; lease.len()][..]);
}

fn bytes(lease: &Lease) -> Vec<u8> {
    let mut bytes = vec![0; lease.len()];
    lease.slice(0, lease.len()).copy_to(&mut bytes[..]);
    bytes
}

impl Caller {
    pub(super) fn new(queue: Box<dyn Queue>, region: &Arc<Region>) -> Caller {
        let pool = Pool::new(region.clone(), 0);
        // Every other one is given back.
        let mut leases: Vec<Option<Lease>> = (0..4).map(|_| pool.lease(4096)).collect();
        let guards = leases.iter_mut().step_by(2).filter_map(Option::take).collect::<Vec<_>>();
        guards.iter().for_each(|guard| fill(guard, UNTOUCHED));
        Caller { queue, pool, guards, todo: VecDeque::new(), waiting: HashMap::new(), next_id: 0 }
    }

    /// Whether requests did not come back.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A request as the knobs say (6 bytes), with room in the queue or not.
    pub(super) fn submit(&mut self, knobs: &mut Knobs<'_>) {
        let (what, offset, len) = (knobs.u8(), knobs.u16(), knobs.u16());
        let flags = knobs.u8();
        if self.todo.len() >= WAITING_MAX {
            return self.push();
        }
        // Most are whole blocks.
        let unit = if flags & 0xc0 == 0xc0 { 1 } else { 4096 };
        let (offset, len) = (u64::from(offset % 20) * unit, u64::from(len % 20) * unit);
        let Some(operation) = self.operation(what, len as usize) else { return };
        let (offset, len) = if matches!(operation, Operation::Flush) { (0, 0) } else { (offset, len) };
        let flags =
            RequestFlags { fua: flags & 1 != 0, no_unmap: flags & 2 != 0, fast: flags & 0x14 == 0x14 };
        self.next_id += 1;
        let data = Data { len: len as usize, is_read: matches!(operation, Operation::Read(_)) };
        self.waiting.insert(self.next_id, data);
        self.todo.push_back(Request { id: RequestId(self.next_id), operation, flags, offset, len });
        self.push();
    }

    /// `None`: there is no memory for it.
    fn operation(&self, what: u8, len: usize) -> Option<Operation> {
        let lease = |byte| {
            let lease = self.pool.lease(len.max(1))?;
            fill(&lease, UNTOUCHED);
            lease.slice(0, len).copy_from(&vec![byte; len][..]);
            Some(lease)
        };
        Some(match what % 8 {
            0..=2 => Operation::Read(lease(UNTOUCHED)?),
            3 | 4 => Operation::Write(lease(WRITTEN)?),
            5 => Operation::Flush,
            6 => Operation::WriteZeroes,
            _ => Operation::Discard,
        })
    }

    /// Gives the queue what waits for it.
    pub(super) fn push(&mut self) {
        if self.queue.submit(&mut self.todo).is_err() {
            // Nobody takes them any more.
            for request in self.todo.drain(..) {
                self.waiting.remove(&request.id.0).expect("it was waited for");
            }
        }
    }

    /// Takes what has ended. `is_honest`: what the controller ended it has done.
    pub(super) fn reap(&mut self, is_honest: bool) {
        let mut done = Vec::new();
        self.queue.reap(&mut done);
        for completion in done {
            let data = self.waiting.remove(&completion.id.0).expect("a request ends once");
            if is_honest {
                check(&completion, data);
            }
        }
        self.push();
    }

    /// Nothing is left: all memory has come back, and nobody has written where he must not.
    pub(super) fn end(self, is_honest: bool) {
        assert!(self.waiting.is_empty() && self.queue.in_flight() == 0, "{:?}", self.waiting);
        for guard in self.guards.iter().filter(|_| is_honest) {
            assert!(bytes(guard).iter().all(|byte| *byte == UNTOUCHED), "memory that nobody lent is written");
        }
        drop(self.guards);
        assert_eq!(self.pool.lent_bytes(), 0, "memory is still lent");
    }
}

/// A read that succeeded has what the disk has; nothing is written behind the data of a request.
fn check(completion: &Completion, data: Data) {
    let Some(lease) = &completion.lease else { return };
    let bytes = bytes(lease);
    assert!(bytes[data.len..].iter().all(|byte| *byte == UNTOUCHED), "written behind {data:?}");
    let is_read = data.is_read && completion.result.is_ok();
    let of_disk = |byte: &u8| *byte == 0 || *byte == WRITTEN;
    assert!(!is_read || bytes[..data.len].iter().all(of_disk), "a read has not read all of {data:?}");
}
