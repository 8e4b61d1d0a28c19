//! From deliveries to replies.

use drivers::Errno as DeviceErrno;
use nbd::{Cookie, ErrnoContext};

use super::output::Body;
use super::{Hangup, Session};
use crate::disk::{Delivery, Disk, ReadNow, Ticket, Verb, What};
use crate::metrics::Moment;

/// Most extents in one block status reply; a client asks again for the rest.
const EXTENTS_MAX: usize = 1 << 16;

/// Status bits of `base:allocation` (doc/proto.md, section "base:allocation metadata context").
const STATE_HOLE: u64 = 1;
const STATE_ZERO: u64 = 2;

impl Session {
    /// Takes something the disk has for this session and adds it to the output.
    pub(crate) fn deliver(&mut self, delivery: Delivery, disk: &mut Disk) -> Result<(), Hangup> {
        if matches!(delivery.what, What::More) {
            return Ok(());
        }
        if delivery.ticket.verb == Verb::Refill {
            return self.refilled(delivery);
        }
        if self.open_reply.is_some_and(|open| open != delivery.ticket.tag) {
            self.defer(delivery, disk);
            return Ok(());
        }
        self.reply(delivery, disk)?;
        while self.open_reply.is_none() {
            let Some(delivery) = self.deferred.pop_front() else { break };
            self.reply(delivery, disk)?;
        }
        Ok(())
    }

    /// Keeps a delivery for later; not with a lease in hand when those are scarce.
    fn defer(&mut self, mut delivery: Delivery, disk: &Disk) {
        if let What::Data { body, .. } = &mut delivery.what
            && disk.is_short_of_leases()
        {
            body.shed_lease();
        }
        self.deferred.push_back(delivery);
    }

    /// Gives all leases back that wait for the client; what they held is read again when it takes that.
    pub(super) fn shed_leases(&mut self, disk: &mut Disk) {
        self.output.shed_leases();
        self.reads.iter().for_each(|read| disk.shed_read(*read));
        for delivery in &mut self.deferred {
            if let What::Data { body, .. } = &mut delivery.what {
                body.shed_lease();
            }
        }
    }

    fn reply(&mut self, delivery: Delivery, disk: &Disk) -> Result<(), Hangup> {
        let Delivery { ticket, what } = delivery;
        match what {
            What::Data { offset, body, last } => {
                self.reply_data(&ticket, offset, body, last);
                if last {
                    self.ended(&ticket);
                }
            }
            What::More => {}
            What::Extents(extents) => {
                self.ended(&ticket);
                self.reply_status(&ticket, &extents);
            }
            What::Done(result) => {
                self.ended(&ticket);
                self.reply_done(&ticket, result, disk)?;
            }
        }
        Ok(())
    }

    /// Books an operation that will be delivered.
    pub(super) fn began(&mut self, ticket: &Ticket) {
        self.operations += 1;
        self.operation_bytes += lease_bytes(ticket);
    }

    fn ended(&mut self, ticket: &Ticket) {
        self.operations -= 1;
        self.operation_bytes -= lease_bytes(ticket);
    }

    /// Adds data of a read, in the form the client understands.
    pub(super) fn reply_data(&mut self, ticket: &Ticket, offset: u64, body: Body, last: bool) {
        let (replies, cookie) = (self.transmission.replies, Cookie(ticket.tag));
        if last {
            self.trace.end(cookie, Ok(()), &self.visit);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "parts are at most 1 GiB, reads at most u32::MAX"
        )]
        let (len, whole) = (body.len() as u32, ticket.len as u32);
        let in_one = !replies.is_chunked() || ticket.verb == Verb::Read { whole_chunk: true };
        if !in_one {
            match body {
                Body::Zero { .. } => {
                    if planted!("hole-chunk-sent-twice") {
                        let hole = replies.hole(cookie, ticket.offset, offset, len, false);
                        self.output.push(hole, Body::Empty);
                    }
                    self.output.push(replies.hole(cookie, ticket.offset, offset, len, last), Body::Empty);
                }
                body => self.output.push(replies.data(cookie, ticket.offset, offset, len, last), body),
            }
            if last {
                self.output.ends(ticket, false);
            }
            return;
        }
        if offset == ticket.offset {
            let done = len == whole && last;
            self.output.push(replies.data(cookie, ticket.offset, offset, whole, done), body);
            self.open_reply = (!last).then_some(ticket.tag);
            if last {
                self.output.ends(ticket, false);
            }
            return;
        }
        self.output.push_body(body);
        if last {
            self.open_reply = None;
            if replies.is_chunked() {
                self.output.push(replies.success(cookie, ticket.offset), Body::Empty);
            }
            self.output.ends(ticket, false);
        }
    }

    fn reply_status(&mut self, ticket: &Ticket, extents: &[drivers::Extent]) {
        let (replies, cookie) = (self.transmission.replies, Cookie(ticket.tag));
        let Some(query) = self.take_status_query(ticket.tag) else { return };
        self.trace.end(cookie, Ok(()), &self.visit);
        let req_one = query.req_one && !planted!("req-one-ignored");
        let mut answer = nbd::Extents::new(ticket.len, req_one, EXTENTS_MAX);
        for extent in extents {
            let flags = if extent.hole { STATE_HOLE } else { 0 } | if extent.zero { STATE_ZERO } else { 0 };
            let excess = if planted!("status-past-the-end") { 4096 } else { 0 };
            if !answer.push(extent.len + excess, flags) {
                break;
            }
        }
        let count = query.ids.len();
        for (at, id) in query.ids.into_iter().enumerate() {
            let last = at + 1 == count;
            self.output.push_bytes(replies.block_status(cookie, ticket.offset, id, answer.as_slice(), last));
        }
        self.output.ends(ticket, false);
    }

    fn take_status_query(&mut self, tag: u64) -> Option<super::PendingStatus> {
        let at = self.status_queries.iter().position(|query| query.tag == tag)?;
        Some(self.status_queries.swap_remove(at))
    }

    fn reply_done(
        &mut self,
        ticket: &Ticket,
        result: Result<(), DeviceErrno>,
        disk: &Disk,
    ) -> Result<(), Hangup> {
        if ticket.verb == Verb::Status {
            self.take_status_query(ticket.tag);
        }
        match self.judge_durability(ticket, result, disk) {
            Ok(()) => {
                self.succeed(ticket);
                Ok(())
            }
            Err(_) if self.open_reply == Some(ticket.tag) => Err(Hangup::because(
                "a read failed after a part of its data was sent, and this client's replies cannot say so",
            )),
            Err(errno) => {
                self.reply_error(ticket, errno);
                Ok(())
            }
        }
    }

    /// A success that promises durability is none while a failed flush has not been told to this client.
    fn judge_durability(
        &mut self,
        ticket: &Ticket,
        result: Result<(), DeviceErrno>,
        disk: &Disk,
    ) -> Result<(), DeviceErrno> {
        if !ticket.verb.promises_durability() {
            return result;
        }
        let failures = disk.shared().flush_failures();
        let news = failures != self.flush_failures_seen && !planted!("failed-flush-told-once");
        self.flush_failures_seen = failures;
        if news { result.and(Err(DeviceErrno::IO)) } else { result }
    }

    /// Adds the error reply to an operation that failed on the device.
    pub(super) fn reply_error(&mut self, ticket: &Ticket, errno: DeviceErrno) {
        let context = match ticket.verb {
            Verb::Zero { fast: true, .. } => ErrnoContext::FastZero,
            _ => ErrnoContext::Plain,
        };
        let code = nbd::Errno::from_os(errno.raw(), context);
        let text = format!("{} at offset {} failed: {errno}", verb_name(ticket.verb), ticket.offset);
        tracing::debug!("{text}");
        self.reply_refusal(Cookie(ticket.tag), ticket.offset, code, &text);
        self.output.ends(ticket, true);
    }

    /// Adds the reply to an operation that went well and has no data.
    pub(super) fn succeed(&mut self, ticket: &Ticket) {
        self.trace.end(Cookie(ticket.tag), Ok(()), &self.visit);
        let head = self.transmission.replies.success(Cookie(ticket.tag), ticket.offset);
        self.output.push(head, Body::Empty);
        if planted!("double-reply") {
            self.output.push(head, Body::Empty);
        }
        self.output.ends(ticket, false);
    }

    /// Adds an error reply.
    pub(super) fn reply_refusal(&mut self, cookie: Cookie, offset: u64, errno: nbd::Errno, text: &str) {
        self.trace.end(cookie, Err(errno), &self.visit);
        self.output.push_error(self.transmission.replies.error(cookie, offset, errno, text));
    }

    /// Reads again what had to be given up while the client did not take it. `false`: it will be delivered.
    pub(super) fn read_again(&mut self, disk: &mut Disk, offset: u64, len: usize) -> Result<bool, Hangup> {
        if self.refilling {
            return Ok(false);
        }
        let (tag, len, since) = (0, len as u64, Moment::now());
        let ticket = Ticket { session: self.key, tag, offset, len, verb: Verb::Refill, since };
        match disk.read_beginning(ticket) {
            Some(ReadNow::Body(body)) => {
                self.output.refill(offset, body);
                return Ok(true);
            }
            Some(ReadNow::Failed(errno)) => {
                return Err(Hangup::because(format!("cannot read data again: {errno}")));
            }
            Some(ReadNow::Started | ReadNow::Split) => self.refilling = true,
            None => self.shed_leases(disk),
        }
        Ok(false)
    }

    fn refilled(&mut self, delivery: Delivery) -> Result<(), Hangup> {
        self.refilling = false;
        match delivery.what {
            What::Data { offset, body, .. } => self.output.refill(offset, body),
            What::Done(Err(errno)) => {
                return Err(Hangup::because(format!("cannot read data again: {errno}")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Bytes of leases an operation may occupy.
fn lease_bytes(ticket: &Ticket) -> u64 {
    match ticket.verb {
        Verb::Read { .. } | Verb::Write { .. } | Verb::Cache => ticket.len.min(1 << 20),
        _ => 0,
    }
}

fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Read { .. } | Verb::Refill => "read",
        Verb::Write { .. } => "write",
        Verb::Flush => "flush",
        Verb::Trim { .. } => "trim",
        Verb::Zero { .. } => "write zeroes",
        Verb::Cache => "cache",
        Verb::Status => "block status",
    }
}
