//! Reads: at once where the data is at hand, in parts where they are long, in whole blocks where the device asks.

use std::collections::VecDeque;

use drivers::queue::View;
use drivers::{Completion, Errno, Extent, Lease, Now, Operation, Outcome, RequestFlags};

use super::{Disk, Flight, Op, PART_BYTES, PARTS_IN_FLIGHT, State, Ticket, What};
use crate::session::output::Body;
use crate::slab::Key;

/// Longest read that is complete before its first byte is delivered, if it must not fail half-way.
pub(crate) const WHOLE_BYTES: u64 = 1 << 20;

/// In which order parts are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As they come.
    Any,
    /// From the first byte to the last.
    Sequence,
    /// From the first byte to the last; up to 1 MiB nothing is delivered before all of it is there, so that an error
    /// can still be told.
    Careful,
}

/// The answer to a short read.
#[derive(Debug)]
pub(crate) enum ReadNow {
    /// Here it is.
    Body(Body),
    /// It failed.
    Failed(Errno),
    /// It is on its way and will be delivered.
    Started,
    /// It takes more than one part, or there is no lease for it in one: use [`Disk::start_read`].
    Split,
}

/// How far a pump came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// As far as it can for now: a completion or another pump moves it on.
    Waiting,
    /// A part was delivered at once; pump again when it is sent.
    Again,
    /// Nothing is left to start.
    Exhausted,
    /// There is no lease.
    Starved,
}

#[derive(Debug)]
pub(super) struct ReadOp {
    /// What the client wants.
    start: u64,
    end: u64,
    /// First byte that no part covers yet, on the device's blocks.
    next: u64,
    /// Where the last part ends, on the device's blocks.
    stop: u64,
    order: Order,
    /// Ask for block status first, so that holes need not be read.
    holes: bool,
    /// Read for its effect on a cache only.
    discard: bool,
    /// What is known about the range from `next` on.
    plan: VecDeque<Extent>,
    /// A block status request is under way.
    asking: bool,
    /// Parts not delivered yet, by offset.
    parts: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    offset: u64,
    len: u64,
    body: Option<Body>,
}

impl Disk {
    /// A read of at most [`PART_BYTES`] that needs no cutting: the fast path.
    pub(crate) fn read_short(&mut self, ticket: Ticket) -> ReadNow {
        let (offset, len) = (ticket.offset, ticket.len as usize);
        if self.dead {
            return ReadNow::Failed(Errno::IO);
        }
        if !self.is_aligned(offset, ticket.len) || len > self.limits.max_transfer_bytes as usize {
            return ReadNow::Split;
        }
        match self.queue.view_now(offset, len) {
            Now::Done(View::Store(got)) if got >= len => return ReadNow::Body(Body::Store { offset, len }),
            Now::Done(View::Zero(got)) if got >= len => return ReadNow::Body(Body::Zero { len }),
            Now::Done(_) => return ReadNow::Split,
            Now::Failed(errno) => return ReadNow::Failed(errno),
            Now::Later => {}
        }
        let Some(lease) = self.lease(len) else { return ReadNow::Split };
        match self.queue.read_now(offset, &lease.slice(0, len)) {
            Now::Done(()) => ReadNow::Body(Body::Lease { lease, start: 0, len, offset }),
            Now::Failed(errno) => ReadNow::Failed(errno),
            Now::Later => {
                let read = ReadOp::new(ticket, Order::Any, &self.limits);
                self.launch_only_part(ticket, read, lease)
            }
        }
    }

    /// Reads the beginning of a range, as much of it as one lease of those that are left takes. `None`: none is left.
    pub(crate) fn read_beginning(&mut self, ticket: Ticket) -> Option<ReadNow> {
        if self.dead {
            return Some(ReadNow::Failed(Errno::IO));
        }
        let mut read = ReadOp::new(ticket, Order::Any, &self.limits);
        let (from, most) = (read.next, self.part_room(read.next) as u64);
        let lease = self.part_lease((read.stop - from).min(most) as usize)?;
        read.stop = read.stop.min(from + most).min(from + lease.len() as u64);
        read.end = read.end.min(read.stop);
        let len = read.stop - from;
        Some(match self.queue.read_now(from, &lease.slice(0, len as usize)) {
            Now::Done(()) => {
                let (start, len) = ((read.start - from) as usize, (read.end - read.start) as usize);
                ReadNow::Body(Body::Lease { lease, start, len, offset: read.start })
            }
            Now::Failed(errno) => ReadNow::Failed(errno),
            Now::Later => self.launch_only_part(ticket, read, lease),
        })
    }

    /// Sends a read to the driver that is one part.
    fn launch_only_part(&mut self, ticket: Ticket, mut read: ReadOp, lease: Lease) -> ReadNow {
        let (offset, len) = (read.next, read.stop - read.next);
        read.next = read.stop;
        read.parts.push_back(Part { offset, len, body: None });
        let key = self.insert_read(ticket, read);
        self.launch(key, Operation::Read(lease), offset, len, RequestFlags::default());
        ReadNow::Started
    }

    /// A read of any length; [`Disk::pump_read`] moves it on. `holes`: deliver holes as zeroes without reading them.
    pub(crate) fn start_read(&mut self, ticket: Ticket, order: Order, holes: bool) -> Key {
        let mut read = ReadOp::new(ticket, order, &self.limits);
        read.holes = holes && self.limits.block_status;
        if order == Order::Careful && ticket.len > WHOLE_BYTES {
            read.order = Order::Sequence;
        }
        self.insert_read(ticket, read)
    }

    /// Reads the range for its effect on the device's cache; the data is dropped.
    pub(crate) fn start_cache(&mut self, ticket: Ticket) -> Key {
        let mut read = ReadOp::new(ticket, Order::Any, &self.limits);
        read.discard = true;
        self.insert_read(ticket, read)
    }

    fn insert_read(&mut self, ticket: Ticket, read: ReadOp) -> Key {
        self.ops.insert(Op { ticket, state: State::Read(read), in_flight: 0, error: None })
    }

    /// Starts as many parts as may be under way at a time. The front-end calls it when its client has taken what was
    /// delivered, so that no more than that is ever held for one operation.
    pub(crate) fn pump_read(&mut self, key: Key) -> Pumped {
        loop {
            let Some(op) = self.ops.get(key) else { return Pumped::Exhausted };
            let State::Read(read) = &op.state else { return Pumped::Exhausted };
            if read.next >= read.stop || op.error.is_some() {
                self.finish_read_if_over(key);
                return Pumped::Exhausted;
            }
            // A careful read delivers nothing before it has all its parts, so they do not count here.
            let held = if read.order == Order::Careful { 0 } else { read.parts.len() };
            if op.in_flight >= PARTS_IN_FLIGHT || read.asking || held >= PARTS_IN_FLIGHT as usize {
                return Pumped::Waiting;
            }
            if let Some(pumped) = self.pump_part(key) {
                return pumped;
            }
        }
    }

    /// Starts the next part; `None` means: go on with the one after it.
    fn pump_part(&mut self, key: Key) -> Option<Pumped> {
        if self.dead {
            return Some(self.fail_read(key, Errno::IO));
        }
        let Some(State::Read(read)) = self.ops.get(key).map(|op| &op.state) else {
            return Some(Pumped::Exhausted);
        };
        let (offset, left) = (read.next, read.stop - read.next);
        if read.holes && read.plan.is_empty() {
            return self.ask_status(key, offset, left);
        }
        let extent = read.plan.front().copied();
        let left = extent.map_or(left, |extent| extent.len.min(left));
        if extent.is_some_and(|extent| extent.zero) {
            return self.part_done_now(key, offset, left, |len| Body::Zero { len });
        }
        let most = u64::from(self.limits.max_transfer_bytes).min(PART_BYTES as u64);
        // Parts end on multiples of the part size, so that later ones are aligned.
        let len = left.min(most - offset % most);
        match self.queue.view_now(offset, len as usize) {
            Now::Done(View::Store(got)) => {
                let got = (got as u64).min(len);
                return self.part_done_now(key, offset, got, |len| Body::Store { offset, len });
            }
            Now::Done(View::Zero(got)) => {
                let got = (got as u64).min(len);
                return self.part_done_now(key, offset, got, |len| Body::Zero { len });
            }
            Now::Failed(errno) => return Some(self.fail_read(key, errno)),
            Now::Later => {}
        }
        let Some(lease) = self.part_lease(len as usize).or_else(|| {
            self.shed_read(key);
            self.part_lease(len as usize)
        }) else {
            return Some(Pumped::Starved);
        };
        let len = len.min(lease.len() as u64);
        match self.queue.read_now(offset, &lease.slice(0, len as usize)) {
            Now::Done(()) => {
                self.part_done_now(key, offset, len, |len| Body::Lease { lease, start: 0, len, offset })
            }
            Now::Failed(errno) => Some(self.fail_read(key, errno)),
            Now::Later => {
                let read = self.read_mut(key)?;
                read.advance(len);
                read.parts.push_back(Part { offset, len, body: None });
                self.launch(key, Operation::Read(lease), offset, len, RequestFlags::default());
                None
            }
        }
    }

    /// Gives back the leases of parts that wait for others of their read: who waits for a lease with others in hand
    /// may wait for ever, since its like may hold all the rest. What they held is read again when it is sent.
    pub(crate) fn shed_read(&mut self, key: Key) {
        let Some(read) = self.read_mut(key) else { return };
        read.parts.iter_mut().filter_map(|part| part.body.as_mut()).for_each(Body::shed_lease);
    }

    /// A part that needed no request.
    fn part_done_now(
        &mut self,
        key: Key,
        offset: u64,
        len: u64,
        body: impl FnOnce(usize) -> Body,
    ) -> Option<Pumped> {
        let read = self.read_mut(key)?;
        // A hole may be longer than what one reply chunk can say.
        let len = len.min(1 << 30);
        read.advance(len);
        let body = body(len as usize);
        read.parts.push_back(Part { offset, len, body: Some(body) });
        self.deliver_ready(key);
        Some(Pumped::Again)
    }

    fn ask_status(&mut self, key: Key, offset: u64, len: u64) -> Option<Pumped> {
        let mut extents = Vec::new();
        match self.queue.block_status_now(offset, len, &mut extents) {
            Now::Done(()) => {
                self.read_mut(key)?.take_plan(extents);
                None
            }
            Now::Failed(_) => {
                self.read_mut(key)?.holes = false;
                None
            }
            Now::Later => {
                self.read_mut(key)?.asking = true;
                self.launch(key, Operation::BlockStatus, offset, len, RequestFlags::default());
                Some(Pumped::Waiting)
            }
        }
    }

    fn fail_read(&mut self, key: Key, errno: Errno) -> Pumped {
        if let Some(op) = self.ops.get_mut(key) {
            op.error.get_or_insert(errno);
        }
        self.finish_read_if_over(key);
        Pumped::Exhausted
    }

    pub(super) fn read_completed(&mut self, key: Key, flight: &Flight, completion: Completion) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let State::Read(read) = &mut op.state else { return };
        match completion.result {
            Ok(Outcome::Extents(extents)) => read.take_plan(extents),
            Ok(outcome) => {
                let body = part_body(outcome, completion.lease, flight);
                if let Some(part) = read.parts.iter_mut().find(|part| part.offset == flight.offset) {
                    part.body = Some(body);
                }
            }
            // What holds no answer about holes is read as data.
            Err(_) if read.asking => {
                read.asking = false;
                read.holes = false;
            }
            Err(errno) => {
                op.error.get_or_insert(errno);
            }
        }
        let (ticket, more) = (op.ticket, read.next < read.stop);
        if more {
            self.deliver(ticket, What::More);
        }
        self.deliver_ready(key);
        self.finish_read_if_over(key);
    }

    /// Delivers the parts whose turn it is.
    fn deliver_ready(&mut self, key: Key) {
        let Some(op) = self.ops.get_mut(key) else { return };
        if op.error.is_some() {
            return;
        }
        let State::Read(read) = &mut op.state else { return };
        let complete = read.next >= read.stop && read.parts.iter().all(|part| part.body.is_some());
        if read.order == Order::Careful && !complete {
            return;
        }
        let mut index = 0;
        while index < read.parts.len() {
            if read.parts[index].body.is_none() {
                if read.order != Order::Any {
                    break;
                }
                index += 1;
                continue;
            }
            let Some(part) = read.parts.remove(index) else { break };
            let last = read.next >= read.stop && read.parts.is_empty();
            if read.discard {
                continue;
            }
            if let Some((offset, body)) = read.cut(part) {
                self.deliveries.push_back(super::Delivery {
                    ticket: op.ticket,
                    what: What::Data { offset, body, last },
                });
            }
        }
        if complete && read.parts.is_empty() && op.in_flight == 0 {
            let (ticket, discard) = (op.ticket, read.discard);
            self.ops.remove(key);
            if discard {
                self.deliver(ticket, What::Done(Ok(())));
            }
        }
    }

    /// Ends a read that failed and has nothing under way any more.
    fn finish_read_if_over(&mut self, key: Key) {
        let Some(op) = self.ops.get(key) else { return };
        if let (Some(errno), 0) = (op.error, op.in_flight) {
            self.finish(key, Err(errno));
        }
    }

    /// Drops an operation whose client is gone; what is under way ends by itself.
    pub(crate) fn abandon_read(&mut self, key: Key) {
        self.fail_read(key, Errno::IO);
    }

    fn read_mut(&mut self, key: Key) -> Option<&mut ReadOp> {
        match self.ops.get_mut(key).map(|op| &mut op.state) {
            Some(State::Read(read)) => Some(read),
            _ => None,
        }
    }
}

fn part_body(outcome: Outcome, lease: Option<Lease>, flight: &Flight) -> Body {
    let len = flight.len as usize;
    match (outcome, lease) {
        (Outcome::View { offset, len }, _) => Body::Store { offset, len: len as usize },
        (_, Some(lease)) => Body::Lease { lease, start: 0, len, offset: flight.offset },
        (_, None) => Body::Zero { len },
    }
}

impl ReadOp {
    fn new(ticket: Ticket, order: Order, limits: &drivers::Limits) -> ReadOp {
        let mask = u64::from(limits.request_alignment_bytes) - 1;
        let (start, end) = (ticket.offset, ticket.offset + ticket.len);
        ReadOp {
            start,
            end,
            next: start & !mask,
            stop: ((end + mask) & !mask).min(limits.capacity_bytes.max(end)),
            order,
            holes: false,
            discard: false,
            plan: VecDeque::new(),
            asking: false,
            parts: VecDeque::new(),
        }
    }

    fn advance(&mut self, len: u64) {
        self.next += len;
        let mut left = len;
        while let Some(extent) = self.plan.front_mut() {
            if left < extent.len {
                extent.len -= left;
                return;
            }
            left -= extent.len;
            self.plan.pop_front();
        }
    }

    /// Extents from `next` on. Those that do not end on the device's blocks are data: they cannot be skipped.
    fn take_plan(&mut self, extents: Vec<Extent>) {
        self.asking = false;
        if extents.iter().any(|extent| extent.len == 0) || extents.is_empty() {
            self.holes = false;
            return;
        }
        self.plan = extents.into();
    }

    /// What the client wants of a part.
    fn cut(&self, part: Part) -> Option<(u64, Body)> {
        let start = part.offset.max(self.start);
        let end = (part.offset + part.len).min(self.end);
        if start >= end {
            return None;
        }
        let (skip, len) = ((start - part.offset) as usize, (end - start) as usize);
        let body = match part.body? {
            Body::Lease { lease, start: at, .. } => {
                Body::Lease { lease, start: at + skip, len, offset: start }
            }
            Body::Store { .. } => Body::Store { offset: start, len },
            Body::Again { .. } => Body::Again { offset: start, len },
            _ => Body::Zero { len },
        };
        Some((start, body))
    }
}
