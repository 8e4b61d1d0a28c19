//! A session: one NBD client in transmission.
//!
//! The session turns requests into operations on its worker's [`Disk`], and what the disk delivers into replies. It
//! never waits: [`Session::run`] goes on until there is nothing to receive, no room to send, or it has had its turn,
//! and says which.

mod activity;
pub(crate) mod input;
pub(crate) mod output;
mod payload;
mod reply;
mod requests;
mod rest;
mod trace;

use std::collections::VecDeque;

use nbd::Transmission;

use crate::disk::{Delivery, Disk, Pumped};
use crate::metrics::{Answered, Moment, Open};
use crate::net::complaint::complain;
use crate::net::stream::Stream;
use crate::net::visit::Visit;
use crate::slab::Key;
pub(crate) use activity::Activity;
use input::{Input, ReceiveBuffer, Received};
use output::{Flushed, Output};
use requests::PendingStatus;
pub(crate) use rest::Rest;
use trace::Trace;

/// Operations of one session under way at a time; a client that sends more waits on its socket.
const OPERATIONS_MAX: u32 = 256;

/// Bytes of one session's operations under way at a time, where they occupy leases.
const BYTES_MAX: u64 = 4 << 20;

/// Requests a session may work off before others get their turn.
const TURN_REQUESTS: u32 = 256;

/// Bytes a session may move before others get their turn.
const TURN_BYTES: u64 = 4 << 20;

/// How often a session looks for more requests before it sends fewer replies than are worth a send, if it has had
/// several already. A client that sends its requests one by one (fio, by libnbd) would be woken for each reply: with
/// these looks, which take about 2 µs in all, it gets 188 k instead of 160 k replies a second (4 KiB, depth 32) at 10 %
/// less CPU on both sides. More of them bring nothing.
const MORE_TRIES: u32 = 8;

/// Why a session stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It had its turn; there may be more to do.
    Again,
    /// It waits for its client to send.
    Idle,
    /// It waits for its client to receive.
    Blocked,
    /// It waits for operations of its own to end.
    Full,
    /// It waits for a lease.
    Starved,
    /// It is over.
    Closed,
}

/// Why a session must end at once.
#[derive(Debug)]
pub(crate) struct Hangup {
    /// For the log; `None` when the client simply left.
    reason: Option<String>,
}

impl Hangup {
    fn because(reason: impl Into<String>) -> Hangup {
        Hangup { reason: Some(reason.into()) }
    }

    /// Says why, unless the client simply left.
    pub(crate) fn log(&self, visit: &Visit) {
        if let Some(reason) = &self.reason {
            let client = visit.client();
            complain(client, format_args!("closing the connection of {client}: {reason}"));
        }
    }

    fn left() -> Hangup {
        Hangup { reason: None }
    }
}

/// One NBD client in transmission.
pub(crate) struct Session {
    key: Key,
    pub(crate) stream: Stream,
    pub(crate) visit: Visit,
    trace: Trace,
    transmission: Box<Transmission>,
    /// Which of the worker's disks it uses.
    pub(crate) disk: usize,
    input: Input,
    output: Output,
    /// Operations that will be delivered.
    operations: u32,
    /// Their bytes.
    operation_bytes: u64,
    /// Long reads, which go on as the client takes their data.
    reads: VecDeque<Key>,
    /// The reply whose data is being sent in pieces without headers of their own; nothing may come between.
    open_reply: Option<u64>,
    /// What was delivered meanwhile.
    deferred: VecDeque<Delivery>,
    /// Block status requests that are not answered.
    status_queries: Vec<PendingStatus>,
    /// A read to fill a gap in the output is under way.
    refilling: bool,
    /// Failed flushes this client has been told of.
    flush_failures_seen: u64,
    /// No more requests are taken; the session ends when all are answered.
    draining: bool,
    /// The server ends: requests are refused, and the session ends when no more come and all are answered.
    shutting_down: bool,
    /// Requests that are not answered, and when the bytes came of which the next one is made.
    open: Open,
    received_at: Moment,
    /// No request is taken for now.
    held: bool,
    /// Requests and bytes of this turn.
    turn_requests: u32,
    turn_bytes: u64,
    /// Waits that are armed on the data ring.
    pub(crate) waits_readable: bool,
    pub(crate) waits_writable: bool,
    /// It is in the worker's list of sessions with something to do, or of those that wait for a lease.
    pub(crate) is_queued: bool,
    /// It is in the worker's list of sessions that were busy a moment ago.
    pub(crate) is_hot: bool,
    /// How long the client has done nothing, as far as the worker has looked.
    pub(crate) rest: Rest,
}

impl Session {
    /// A session behind a handshake; `received` are the bytes that came after it.
    pub(crate) fn new(
        key: Key,
        (stream, visit): (Stream, Visit),
        transmission: Box<Transmission>,
        disk: &Disk,
        received: Vec<u8>,
    ) -> Session {
        let input = Input::new(received, transmission.header_format(), disk.limits().immediate);
        Session {
            key,
            stream,
            visit,
            trace: Trace::default(),
            transmission,
            disk: disk.shared().index(),
            input,
            output: Output::default(),
            operations: 0,
            operation_bytes: 0,
            reads: VecDeque::new(),
            open_reply: None,
            deferred: VecDeque::new(),
            status_queries: Vec::new(),
            refilling: false,
            flush_failures_seen: disk.shared().flush_failures(),
            draining: false,
            shutting_down: false,
            open: Open::default(),
            received_at: Moment::now(),
            held: false,
            turn_requests: 0,
            turn_bytes: 0,
            waits_readable: false,
            waits_writable: false,
            is_queued: false,
            is_hot: false,
            rest: Rest::default(),
        }
    }

    /// Refuses requests from now on; ends when those taken before are answered.
    pub(crate) fn drain(&mut self) {
        self.shutting_down = true;
    }

    /// Whether it refuses requests.
    pub(crate) fn is_draining(&self) -> bool {
        self.shutting_down
    }

    /// Whether the last run took requests.
    pub(crate) fn has_taken_requests(&self) -> bool {
        self.turn_requests > 0
    }

    /// Takes no more requests for now, or goes on. What was begun is completed.
    pub(crate) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether a request must wait until clients are served again. One that is to be refused need not.
    pub(crate) fn is_held(&self) -> bool {
        self.held && !self.shutting_down && matches!(self.input.state, input::Receiving::Header)
    }

    /// Whether the last run moved anything.
    pub(crate) fn has_worked(&self) -> bool {
        self.turn_requests > 0 || self.turn_bytes > 0
    }

    /// The socket takes more.
    pub(crate) fn writable(&mut self) {
        self.waits_writable = false;
        self.output.unblock();
    }

    /// Takes a delivery, and sends if enough has come together.
    pub(crate) fn take(&mut self, delivery: Delivery, disk: &mut Disk) -> Result<(), Hangup> {
        self.deliver(delivery, disk)?;
        if self.output.is_due() && !self.output.is_blocked() {
            self.flush(disk)?;
        }
        Ok(())
    }

    /// Works until there is nothing to do or the turn is over.
    pub(crate) fn run(&mut self, disk: &mut Disk, buffer: &mut ReceiveBuffer) -> Turn {
        self.turn_requests = 0;
        self.turn_bytes = 0;
        self.trace.look();
        self.input.resume(buffer);
        let turn = match self.work(disk, buffer) {
            Ok(turn) => turn,
            Err(hangup) => {
                hangup.log(&self.visit);
                Turn::Closed
            }
        };
        if self.has_worked() {
            self.rest.is_broken = true;
        }
        if turn == Turn::Closed {
            buffer.consume(buffer.filled().len());
        } else {
            self.input.pause(buffer);
            if turn == Turn::Idle {
                self.output.rest();
                self.stream.rest();
            }
        }
        turn
    }

    fn work(&mut self, disk: &mut Disk, buffer: &mut ReceiveBuffer) -> Result<Turn, Hangup> {
        let mut tries = 0;
        loop {
            if let Some(turn) = self.send(disk, self.output.is_due())? {
                return Ok(turn);
            }
            if let Some(turn) = self.pump(disk)? {
                return Ok(turn);
            }
            if let Some(turn) = self.must_pause() {
                if let Some(other) = self.send(disk, true)? {
                    return Ok(other);
                }
                return Ok(if self.is_over() { self.farewell() } else { turn });
            }
            match self.next_request(disk, buffer)? {
                Received::Request => self.turn_requests += 1,
                Received::Starved => {
                    return Ok(self.send(disk, true)?.unwrap_or(Turn::Starved));
                }
                // First what else has come, or is about to: see `MORE_TRIES`.
                Received::NeedMore => match self.receive(buffer)? {
                    0 if tries < MORE_TRIES && self.turn_requests > 1 && !self.output.is_empty() => {
                        tries += 1
                    }
                    0 => {
                        let turn = self.send(disk, true)?;
                        let is_over = self.shutting_down && self.is_at_rest();
                        return Ok(turn.unwrap_or_else(|| if is_over { self.farewell() } else { Turn::Idle }));
                    }
                    bytes => {
                        tries = 0;
                        self.turn_bytes += bytes as u64;
                    }
                },
            }
        }
    }

    /// Whether requests must wait, and for what.
    fn must_pause(&self) -> Option<Turn> {
        if self.draining || self.is_held() {
            return Some(Turn::Full);
        }
        if self.operations >= OPERATIONS_MAX || self.operation_bytes >= BYTES_MAX || self.open_reply.is_some()
        {
            return Some(Turn::Full);
        }
        if self.turn_requests >= TURN_REQUESTS || self.turn_bytes >= TURN_BYTES {
            return Some(Turn::Again);
        }
        None
    }

    /// The end of a session that owes its client nothing but goodbye.
    fn farewell(&mut self) -> Turn {
        if self.stream.says_goodbye() { Turn::Closed } else { Turn::Blocked }
    }

    /// Whether everything that was taken is answered, and no more will be taken.
    fn is_over(&self) -> bool {
        self.draining && self.is_answered()
    }

    /// Whether the client waits for nothing.
    pub(crate) fn is_answered(&self) -> bool {
        self.operations == 0 && self.output.is_empty() && self.deferred.is_empty()
    }

    /// Whether the client waits for nothing, and nothing is waited for that it began to send.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_answered() && matches!(self.input.state, input::Receiving::Header)
    }

    /// Sends if `now`; says so if the client must take something first.
    fn send(&mut self, disk: &mut Disk, now: bool) -> Result<Option<Turn>, Hangup> {
        if !now && !self.output.is_blocked() {
            return Ok(None);
        }
        self.flush(disk)?;
        Ok(match () {
            () if self.output.is_empty() => None,
            () if self.output.is_blocked() => Some(Turn::Blocked),
            () if self.refilling => Some(Turn::Full),
            () => Some(Turn::Starved),
        })
    }

    /// Sends what the client takes.
    pub(crate) fn flush(&mut self, disk: &mut Disk) -> Result<(), Hangup> {
        loop {
            let (open, traffic) = (&mut self.open, disk.traffic());
            let answered = |answered: &Answered, now| open.answered(traffic, answered, now);
            match self.output.flush(&mut self.stream, disk.store(), answered) {
                Ok(Flushed::All) => break,
                Ok(Flushed::Blocked) => {
                    if disk.is_short_of_leases() {
                        self.shed_leases(disk);
                    }
                    break;
                }
                Ok(Flushed::ReadAgain { offset, len }) => {
                    if !self.read_again(disk, offset, len)? {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Err(Hangup::left()),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Err(Hangup::left());
                }
                Err(error) => return Err(Hangup::because(format!("cannot send: {error}"))),
            }
        }
        Ok(())
    }

    /// Moves long reads on, as far as the client takes their data.
    fn pump(&mut self, disk: &mut Disk) -> Result<Option<Turn>, Hangup> {
        let mut waiting = 0;
        while waiting < self.reads.len() {
            let key = self.reads[waiting];
            let pumped = disk.pump_read(key);
            self.take_deliveries(disk)?;
            if let Some(turn) = self.send(disk, self.output.is_due())? {
                return Ok(Some(turn));
            }
            match pumped {
                Pumped::Exhausted => {
                    self.reads.remove(waiting);
                }
                Pumped::Again => {}
                // With data sent in pieces one reply must end before the next may begin.
                Pumped::Waiting if self.transmission.replies.is_chunked() => waiting += 1,
                Pumped::Waiting => break,
                Pumped::Starved => {
                    let turn = self.send(disk, true)?.unwrap_or(Turn::Starved);
                    // Whoever waits for a lease has none in hand.
                    self.shed_leases(disk);
                    return Ok(Some(turn));
                }
            }
        }
        Ok(None)
    }

    /// Takes what calls into the disk delivered at once.
    fn take_deliveries(&mut self, disk: &mut Disk) -> Result<(), Hangup> {
        while let Some(delivery) = disk.next_delivery_for(self.key) {
            self.deliver(delivery, disk)?;
        }
        Ok(())
    }

    /// Gives up what is under way; called when the session is closed.
    pub(crate) fn close(&mut self, disk: &mut Disk, buffer: &mut ReceiveBuffer) {
        for read in self.reads.drain(..) {
            disk.abandon_read(read);
        }
        self.open.abandon(disk.traffic());
        self.input.forget_parked(buffer);
        self.input.close(disk);
        self.stream.shutdown();
    }
}
