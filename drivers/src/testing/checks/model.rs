//! Random operations against a model of the disk.

use std::sync::Arc;

use super::{Client, Fixture, PLAIN, setup, unit, usual_bytes};
use crate::driver::Started;
use crate::error::Errno;
use crate::queue::Now;
use crate::request::{Completion, Operation, Outcome, Request, RequestFlags};
use crate::testing::Random;

/// Operations of one thread.
const ROUNDS: usize = 1500;

/// What is known of a stretch that belongs to one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// All of it has this byte.
    Byte(u8),
    /// It was discarded.
    Anything,
}

/// One request that is being made.
enum Pending {
    Read,
    Change(Content),
    Other,
}

/// One thread's part of the disk: every `threads`-th cell, so that neighbours belong to others.
struct Part {
    client: Client,
    random: Random,
    cells: Vec<Content>,
    /// The request that a cell takes part in.
    busy: Vec<Option<(u64, Pending)>>,
    thread: usize,
    threads: usize,
    cell_bytes: u64,
}

pub(super) fn one_queue(fixture: &dyn Fixture) {
    let device = fixture.start(setup(fixture, 1));
    run(fixture, &device, 1);
}

pub(super) fn several_queues(fixture: &dyn Fixture) {
    let device = fixture.start(setup(fixture, 4));
    let threads = device.queues();
    run(fixture, &device, threads);
}

fn run(fixture: &dyn Fixture, device: &Arc<dyn Started>, threads: usize) {
    if !fixture.keeps_data() {
        return;
    }
    let seed = Random::seed();
    let bytes = device.limits().capacity_bytes.min(usual_bytes(fixture));
    println!("     seed {seed} (GATEWAY_SEED={seed} has the same numbers again)");
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let device = device.clone();
            scope.spawn(move || Part::new(&device, bytes, (thread, threads), seed).run());
        }
    });
}

impl Part {
    /// The part of one of several threads in the first `bytes` of the disk.
    fn new(device: &Arc<dyn Started>, bytes: u64, (thread, threads): (usize, usize), seed: u64) -> Part {
        let client = Client::new(device, thread);
        let holes = [
            client.limits.discard.map(|d| d.alignment_bytes),
            client.limits.write_zeroes.map(|z| z.alignment_bytes),
        ];
        let coarsest = holes.into_iter().flatten().map(u64::from).max().unwrap_or(1).max(unit(&client));
        // Cells smaller than a page, where the disk allows that, so that threads meet in one page.
        let cell_bytes = if coarsest == 1 { 1536 } else { coarsest.max(512) };
        let count = bytes / cell_bytes / threads as u64;
        Part {
            client,
            random: Random::new(seed.wrapping_add(thread as u64)),
            cells: vec![Content::Byte(0); count as usize],
            busy: (0..count).map(|_| None).collect(),
            thread,
            threads,
            cell_bytes,
        }
    }

    fn run(mut self) {
        let mut done = Vec::new();
        for _ in 0..ROUNDS {
            let cell = self.random.below(self.cells.len() as u64) as usize;
            if self.busy[cell].is_none() && !self.at_once(cell) {
                let request = self.begin(cell);
                self.client.submit(vec![request], &mut done);
            }
            if self.client.waiting() > self.random.below(24) as usize {
                self.client.wait(&mut done);
            }
            done.drain(..).for_each(|completion| self.end(&completion));
        }
        while self.client.waiting() > 0 {
            self.client.wait(&mut done);
            done.drain(..).for_each(|completion| self.end(&completion));
        }
        for cell in 0..self.cells.len() {
            let found = self.client.read(self.offset(cell), self.cell_bytes as usize).expect("a read");
            self.compare(cell, &found);
        }
    }

    fn offset(&self, cell: usize) -> u64 {
        (cell * self.threads + self.thread) as u64 * self.cell_bytes
    }

    /// Sometimes tries the way without a request. `true` when it was taken.
    fn at_once(&mut self, cell: usize) -> bool {
        let (offset, len) = (self.offset(cell), self.cell_bytes as usize);
        match self.random.below(6) {
            0 => {
                let byte = self.random.next_u64() as u8;
                let answer = self.client.queue.write_now(offset, &vec![byte; len]);
                self.changed_at_once(cell, &answer, Content::Byte(byte))
            }
            1 => {
                let lease = self.client.lease(len);
                let into = lease.slice(0, len);
                if self.client.queue.read_now(offset, &into) != Now::Done(()) {
                    return false;
                }
                let mut found = vec![0; len];
                into.copy_to(&mut found[..]);
                self.compare(cell, &found);
                true
            }
            2 => {
                let answer = self.client.queue.write_zeroes_now(offset, len as u64, self.zeroes_flags(cell));
                self.changed_at_once(cell, &answer, Content::Byte(0))
            }
            3 => {
                let answer = self.client.queue.discard_now(offset, len as u64);
                self.changed_at_once(cell, &answer, Content::Anything)
            }
            _ => false,
        }
    }

    fn changed_at_once(&mut self, cell: usize, answer: &Now<()>, content: Content) -> bool {
        match answer {
            Now::Done(()) => self.cells[cell] = content,
            Now::Later | Now::Failed(Errno::NOT_SUPPORTED) => return false,
            Now::Failed(errno) => panic!("cell {cell} at once: {errno}"),
        }
        true
    }

    fn zeroes_flags(&self, cell: usize) -> RequestFlags {
        RequestFlags {
            no_unmap: cell.is_multiple_of(2),
            fua: self.client.limits.fua && cell.is_multiple_of(7),
            fast: false,
        }
    }

    fn begin(&mut self, cell: usize) -> Request {
        let (offset, len) = (self.offset(cell), self.cell_bytes);
        let byte = self.random.next_u64() as u8;
        let fua = RequestFlags { fua: self.client.limits.fua && byte < 16, ..PLAIN };
        let (operation, flags, pending) = match self.random.below(20) {
            0..=7 => (Operation::Read(self.client.lease(len as usize)), PLAIN, Pending::Read),
            8..=13 => {
                let lease = self.client.lease(len as usize);
                lease.slice(0, len as usize).copy_from(&vec![byte; len as usize]);
                (Operation::Write(lease), fua, Pending::Change(Content::Byte(byte)))
            }
            14..=15 => (Operation::WriteZeroes, self.zeroes_flags(cell), Pending::Change(Content::Byte(0))),
            16..=17 => (Operation::Discard, PLAIN, Pending::Change(Content::Anything)),
            18 if self.client.limits.block_status => (Operation::BlockStatus, PLAIN, Pending::Other),
            _ => (Operation::Flush, PLAIN, Pending::Other),
        };
        let is_flush = matches!(operation, Operation::Flush);
        let request = match is_flush {
            true => self.client.request(operation, 0, 0, flags),
            false => self.client.request(operation, offset, len, flags),
        };
        self.busy[cell] = Some((request.id.0, pending));
        request
    }

    fn end(&mut self, completion: &Completion) {
        let id = completion.id.0;
        let is_this = |busy: &Option<(u64, Pending)>| busy.as_ref().is_some_and(|(busy, _)| *busy == id);
        let cell = self.busy.iter().position(is_this).expect("the answer belongs to a cell");
        let (_, pending) = self.busy[cell].take().expect("the cell is busy");
        match (pending, &completion.result) {
            (Pending::Read, Ok(Outcome::Done)) => {
                let lease = completion.lease.as_ref().expect("a read gives its lease back");
                let mut found = vec![0; self.cell_bytes as usize];
                lease.slice(0, found.len()).copy_to(&mut found[..]);
                self.compare(cell, &found);
            }
            (Pending::Change(content), Ok(_)) => self.cells[cell] = content,
            (Pending::Change(_), Err(Errno::NOT_SUPPORTED)) | (Pending::Other, Ok(_)) => {}
            (_, result) => panic!("cell {cell}: {result:?}"),
        }
    }

    fn compare(&self, cell: usize, found: &[u8]) {
        if let Content::Byte(byte) = self.cells[cell]
            && let Some(at) = found.iter().position(|found| *found != byte)
        {
            let offset = self.offset(cell) + at as u64;
            panic!("thread {}: byte {offset} is {:#04x}, not {byte:#04x}", self.thread, found[at]);
        }
    }
}
