//! [`FileQueue`]: one worker's queue of the file driver.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use vm_memory::VolatileSlice;

use super::disk::{Disk, Way};
use super::extents::{self, Found, KnownData};
use super::flights::{Flight, Flights, Stage};
use super::inline::Inline;
use crate::error::Errno;
use crate::helpers::{Helpers, Mailbox};
use crate::queue::{Now, Queue, QueueDead};
use crate::request::{Completion, Extent, Operation, Outcome, Request};
use crate::slots::Key;
use crate::sys::{block, eventfd::EventFd};
use crate::tally::QueueTally;

/// Most completions of one `reap`, so that a fast disk does not keep its worker from everything else.
const REAP_BOUND: usize = 256;

/// Most passes through deferred work of one `reap`.
const PASS_BOUND: usize = 8;

/// How often a request is tried again before the kernel's "try again" becomes an error.
const MOST_RETRIES: u32 = 1000;

/// The answer of a helper.
pub(super) struct Letter {
    key: Key,
    result: Result<Answer, Errno>,
}

enum Answer {
    Discarded,
    Searched { found: Found, holes_made: u64 },
}

/// A queue with its rings, its helpers' mailbox and its inline path.
pub(super) struct FileQueue {
    disk: Arc<Disk>,
    helpers: Arc<Helpers>,
    flights: Flights,
    event: Arc<EventFd>,
    mailbox: Arc<Mailbox<Letter>>,
    /// Finished without the kernel; fetched by the next `reap`.
    ready: Vec<Completion>,
    inline: Inline,
    known: KnownData,
    dead: Option<QueueDead>,
    tally: Arc<QueueTally>,
}

impl FileQueue {
    pub(super) fn new(
        disk: Arc<Disk>,
        helpers: Arc<Helpers>,
        flights: Flights,
        event: Arc<EventFd>,
        tally: Arc<QueueTally>,
    ) -> FileQueue {
        FileQueue {
            disk,
            helpers,
            flights,
            mailbox: Arc::new(Mailbox::new(event.clone())),
            event,
            ready: Vec::new(),
            inline: Inline::new(),
            known: KnownData::new(),
            dead: None,
            tally,
        }
    }

    /// Takes a request that has been checked. There is a slot for it.
    fn start(&mut self, request: Request) {
        let way = match &request.operation {
            Operation::Read(_) | Operation::Write(_) | Operation::Discard | Operation::WriteZeroes
                if request.len == 0 =>
            {
                return self.ready.push(request.complete(Ok(Outcome::Done)));
            }
            Operation::Read(_) | Operation::Write(_) => return self.launch(request, Stage::Transfer),
            Operation::Flush => return self.launch(request, Stage::Sync),
            Operation::BlockStatus => return self.search(request),
            Operation::Discard => self.disk.discard_way(),
            Operation::WriteZeroes => self.disk.zeroes_way(request.flags.no_unmap, request.flags.fast),
        };
        self.disk.note_hole();
        match way {
            Way::Fallocate(mode) => self.launch(request, Stage::Fallocate(mode)),
            Way::Ioctl => self.discard(request),
            Way::None => self.ready.push(request.complete(Err(Errno::NOT_SUPPORTED))),
        }
    }

    fn launch(&mut self, request: Request, stage: Stage) {
        if let Some(key) = self.flights.insert(Flight::new(request, stage)) {
            self.flights.queue(key, self.disk.direct_until());
        }
    }

    fn discard(&mut self, request: Request) {
        let (offset, len) = (request.offset, request.len);
        self.ask_helper(request, move |disk| {
            Ok(block::discard(disk.file(), offset, len).map(|()| Answer::Discarded)?)
        });
    }

    fn search(&mut self, request: Request) {
        let (offset, len) = (request.offset, request.len);
        self.ask_helper(request, move |disk| {
            let holes_made = disk.holes_made();
            extents::search(disk, offset, len).map(|found| Answer::Searched { found, holes_made })
        });
    }

    fn ask_helper(
        &mut self,
        request: Request,
        work: impl FnOnce(&Disk) -> Result<Answer, Errno> + Send + 'static,
    ) {
        let Some(key) = self.flights.insert(Flight::new(request, Stage::Helper)) else { return };
        let (disk, mailbox) = (self.disk.clone(), self.mailbox.clone());
        self.helpers.run(move || mailbox.put(Letter { key, result: work(&disk) }));
    }

    /// Looks at one result of the kernel: the flight goes on, or it has ended.
    fn landed(&mut self, key: Key, result: i32, done: &mut Vec<Completion>) {
        let Some(flight) = self.flights.get_mut(key) else {
            tracing::error!("the kernel completed an operation that was not in flight");
            return;
        };
        let verdict = match result {
            0.. => succeeded(flight, u64::from(result.unsigned_abs()), &self.disk),
            _ => failed(flight, Errno::from_raw(-result), &self.disk),
        };
        match verdict {
            Verdict::GoesOn => self.flights.queue(key, self.disk.direct_until()),
            Verdict::Ends(result) => self.end(key, result.map(|()| Outcome::Done), done),
        }
    }

    /// Gives a request back whose last operation has ended.
    fn end(&mut self, key: Key, result: Result<Outcome, Errno>, done: &mut Vec<Completion>) {
        let Some(flight) = self.flights.remove(key) else { return };
        if matches!(flight.request.operation, Operation::Discard | Operation::WriteZeroes) {
            self.disk.note_hole();
        }
        done.push(flight.request.complete(result));
    }

    fn take_letters(&mut self, done: &mut Vec<Completion>) {
        for Letter { key, result } in self.mailbox.take() {
            if result.as_ref().is_err_and(|errno| errno.raw() == libc::EOPNOTSUPP)
                && self
                    .flights
                    .get_mut(key)
                    .is_some_and(|f| matches!(f.request.operation, Operation::Discard))
            {
                self.disk.downgrade(Way::Ioctl);
            }
            let result = result.map(|answer| match answer {
                Answer::Discarded => Outcome::Done,
                Answer::Searched { found, holes_made } => {
                    if let Some(data) = found.data {
                        self.known.remember(holes_made, data);
                    }
                    Outcome::Extents(found.extents)
                }
            });
            self.end(key, result, done);
        }
    }

    fn hand_over(&mut self) -> Result<(), QueueDead> {
        self.tally.submissions.add(self.flights.has_unsubmitted().into());
        let Err(error) = self.flights.submit() else { return Ok(()) };
        let dead = QueueDead { reason: format!("the ring of {} broke down: {error}", self.disk.target.name) };
        tracing::error!("{dead}");
        for request in self.flights.abandon() {
            self.ready.push(request.complete(Err(Errno::IO)));
        }
        self.dead = Some(dead.clone());
        Err(dead)
    }
}

/// What becomes of a flight.
enum Verdict {
    /// Its next entry is due.
    GoesOn,
    Ends(Result<(), Errno>),
}

fn succeeded(flight: &mut Flight, count: u64, disk: &Disk) -> Verdict {
    match flight.stage {
        Stage::Transfer => {
            let left = flight.request.len - flight.done;
            // A kernel does not transfer more than it was asked to; one that says so is not believed.
            if count > left {
                return Verdict::Ends(Err(Errno::IO));
            }
            flight.done += count;
            flight.retries = 0;
            if count == left {
                return Verdict::Ends(Ok(()));
            }
            let at = flight.request.offset + flight.done;
            if count == 0 && matches!(flight.request.operation, Operation::Write(_)) {
                return Verdict::Ends(Err(Errno::NO_SPACE));
            }
            // Only the end of the file stops a read at nothing, or a direct one inside a block.
            if count == 0 || !disk.is_aligned(at) {
                disk.tell_shrunk(at);
                return Verdict::Ends(Err(Errno::IO));
            }
            Verdict::GoesOn
        }
        Stage::Fallocate(_) if flight.request.flags.fua => {
            flight.stage = Stage::Sync;
            Verdict::GoesOn
        }
        Stage::Fallocate(_) | Stage::Sync | Stage::Helper => Verdict::Ends(Ok(())),
    }
}

fn failed(flight: &mut Flight, errno: Errno, disk: &Disk) -> Verdict {
    match (errno.raw(), flight.stage) {
        (libc::EAGAIN | libc::EINTR, _) if flight.retries < MOST_RETRIES => {
            flight.retries += 1;
            Verdict::GoesOn
        }
        (libc::EOPNOTSUPP, Stage::Transfer) if !flight.unpollable => {
            // A device whose polling was switched off: the other ring does it.
            flight.unpollable = true;
            Verdict::GoesOn
        }
        (libc::EAGAIN, _) => Verdict::Ends(Err(Errno::IO)),
        (libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV, Stage::Fallocate(mode)) => {
            disk.downgrade(Way::Fallocate(mode));
            // Another way may be left: a block device writes zeroes one way or the other.
            match disk.zeroes_way(flight.request.flags.no_unmap, flight.request.flags.fast) {
                Way::Fallocate(other) if other != mode && is_zeroes(flight) => {
                    flight.stage = Stage::Fallocate(other);
                    Verdict::GoesOn
                }
                _ => Verdict::Ends(Err(Errno::NOT_SUPPORTED)),
            }
        }
        _ => Verdict::Ends(Err(errno)),
    }
}

fn is_zeroes(flight: &Flight) -> bool {
    matches!(flight.request.operation, Operation::WriteZeroes)
}

impl Queue for FileQueue {
    #[inline]
    fn read_now(&mut self, offset: u64, into: &VolatileSlice<'_>) -> Now<()> {
        if !self.disk.is_buffered() {
            return Now::Later;
        }
        if !self.disk.contains(offset, into.len()) {
            return Now::Failed(Errno::INVALID);
        }
        self.inline.read(self.disk.file(), offset, into)
    }

    #[inline]
    fn write_now(&mut self, offset: u64, from: &[u8]) -> Now<()> {
        if self.disk.target.read_only {
            return Now::Failed(Errno::READ_ONLY);
        }
        if !self.disk.is_buffered() {
            return Now::Later;
        }
        if !self.disk.contains(offset, from.len()) {
            return Now::Failed(Errno::INVALID);
        }
        self.inline.write(self.disk.file(), offset, from)
    }

    fn block_status_now(&mut self, offset: u64, len: u64, extents: &mut Vec<Extent>) -> Now<()> {
        match self.known.end_at(self.disk.holes_made(), offset) {
            Some(end) if len > 0 && self.disk.limits().contains(offset, len) => {
                extents.push(Extent { len: len.min(end - offset), hole: false, zero: false });
                Now::Done(())
            }
            _ => Now::Later,
        }
    }

    fn submit(&mut self, todo: &mut VecDeque<Request>) -> Result<(), QueueDead> {
        if let Some(dead) = &self.dead {
            return Err(dead.clone());
        }
        let limits = self.disk.limits();
        while !self.flights.is_full()
            && let Some(request) = todo.pop_front()
        {
            match request.check(&limits) {
                Ok(()) => self.start(request),
                Err(errno) => self.ready.push(request.complete(Err(errno))),
            }
        }
        self.hand_over()
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.ready);
        self.take_letters(done);
        if self.dead.is_some() {
            return;
        }
        self.flights.poll_device();
        let mut count = 0;
        for _ in 0..PASS_BOUND {
            let before = count;
            while count < REAP_BOUND
                && let Some((key, result)) = self.flights.next()
            {
                self.landed(key, result, done);
                count += 1;
            }
            // An empty queue says nothing about deferred work, so that is asked for before giving up.
            let more = self.flights.fetch_deferred();
            if count >= REAP_BOUND || (!more && count == before) {
                break;
            }
        }
        self.tally.completions.add(count as u64);
        if self.flights.normal().has_unsubmitted() || self.flights.polls() {
            // A ring that breaks down here puts its requests into `ready`, and `arm` tells of them.
            let _ = self.hand_over();
        }
    }

    fn in_flight(&self) -> usize {
        self.flights.len() + self.ready.len()
    }

    fn is_dead(&self) -> bool {
        self.dead.is_some()
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        if self.flights.polls() { None } else { Some(self.event.as_fd()) }
    }

    fn arm(&mut self) -> bool {
        if !self.ready.is_empty() || self.flights.normal().has_unsubmitted() {
            return true;
        }
        if self.flights.polls() {
            return self.flights.len() > 0;
        }
        // First the event, then the look: what comes between the two signals again.
        self.tally.notifications.add(self.event.take());
        self.flights.normal().arm() || !self.mailbox.is_empty()
    }
}
