//! From received bytes to operations.

use drivers::Now;
use nbd::{Command, RequestHeader, StatusQuery, Verdict, validate};

use super::input::{Payload, ReceiveBuffer, Received, Receiving, Refusal, STREAM_BYTES};
use super::{Hangup, Session};
use crate::disk::{Clear, Disk, Order, PART_BYTES, ReadNow, Ticket, Verb, WHOLE_BYTES};
use crate::metrics::{Kind, Moment};

/// Reads at least this long ask for holes first, when the client understands them.
const HOLES_BYTES: u64 = 64 << 10;

/// A block status request that is not answered yet.
#[derive(Debug)]
pub(super) struct PendingStatus {
    pub(super) tag: u64,
    pub(super) ids: Vec<u32>,
    pub(super) req_one: bool,
}

impl Session {
    /// Receives what there is. 0: nothing at the moment.
    pub(super) fn receive(&mut self, buffer: &mut ReceiveBuffer) -> Result<usize, Hangup> {
        loop {
            let received = match &mut self.input.state {
                Receiving::Payload(Payload { filling: Some(filling), .. }) => {
                    let rest = filling.lease.slice(filling.lead + filling.got, filling.len - filling.got);
                    let received = self.stream.receive_volatile(&rest);
                    if let Ok(got) = received {
                        filling.got += got;
                    }
                    received
                }
                _ => {
                    let room = self.input.room(buffer);
                    let asked = room.len();
                    let received = self.stream.receive(room);
                    if let Ok(got) = received {
                        buffer.fill(got);
                        self.input.filled_window(asked, got);
                    }
                    received
                }
            };
            match received {
                Ok(0) => return Err(self.end_of_stream(buffer)),
                Ok(got) => {
                    self.received_at = Moment::now();
                    return Ok(got);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Err(Hangup::left());
                }
                Err(error) => return Err(Hangup::because(format!("cannot receive: {error}"))),
            }
        }
    }

    fn end_of_stream(&self, buffer: &ReceiveBuffer) -> Hangup {
        let between = matches!(self.input.state, Receiving::Header) && buffer.filled().is_empty();
        if between { Hangup::left() } else { Hangup::because("the client left in the middle of a request") }
    }

    /// Deals with the next request, or the next piece of a payload.
    pub(super) fn next_request(
        &mut self,
        disk: &mut Disk,
        buffer: &mut ReceiveBuffer,
    ) -> Result<Received, Hangup> {
        match &mut self.input.state {
            Receiving::Header => self.header(disk, buffer),
            Receiving::Skip { .. } => Ok(self.skip(buffer)),
            Receiving::Payload(_) => self.payload(disk, buffer),
        }
    }

    fn header(&mut self, disk: &mut Disk, buffer: &mut ReceiveBuffer) -> Result<Received, Hangup> {
        let format = self.input.format;
        let bytes = buffer.filled();
        if bytes.len() < format.len() {
            return Ok(Received::NeedMore);
        }
        let header =
            RequestHeader::decode(format, bytes).map_err(|error| Hangup::because(error.to_string()))?;
        self.trace.begin(&header, &self.visit);
        match validate(&header, &self.transmission) {
            Verdict::Accept(request) if self.shutting_down && request.command != Command::Disconnect => {
                disk.traffic().refused();
                buffer.consume(format.len());
                let (errno, message) = (nbd::Errno::Shutdown, "the server is shutting down");
                let refusal = Refusal { cookie: header.cookie, offset: header.offset, errno, message };
                self.input.state = Receiving::Skip { left: payload_bytes_of(&request), refusal };
                Ok(Received::Request)
            }
            Verdict::Accept(request) => {
                let received = self.request(disk, buffer, &request)?;
                if received == Received::Request
                    && let Some(kind) = verb_of(&request.command).and_then(Kind::of)
                {
                    self.open.asked(disk.traffic(), kind);
                }
                Ok(received)
            }
            Verdict::Refuse { errno, message, payload_bytes } => {
                disk.traffic().refused();
                buffer.consume(format.len());
                let refusal = Refusal { cookie: header.cookie, offset: header.offset, errno, message };
                self.input.state = Receiving::Skip { left: payload_bytes, refusal };
                Ok(Received::Request)
            }
            Verdict::HardDisconnect(reason) => Err(Hangup::because(reason)),
        }
    }

    /// Reads the payload of a refused request away, then refuses it.
    fn skip(&mut self, buffer: &mut ReceiveBuffer) -> Received {
        let Receiving::Skip { left, refusal } = &mut self.input.state else { return Received::NeedMore };
        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.filled().len());
        buffer.consume(here);
        *left -= here as u64;
        if *left > 0 {
            return Received::NeedMore;
        }
        let (cookie, offset, errno, message) =
            (refusal.cookie, refusal.offset, refusal.errno, refusal.message);
        self.input.state = Receiving::Header;
        tracing::debug!("refusing a request: {message}");
        self.reply_refusal(cookie, offset, errno, message);
        Received::Request
    }

    /// Deals with an accepted request. Consumes its header (and what belongs to it) unless it must wait.
    fn request(
        &mut self,
        disk: &mut Disk,
        buffer: &mut ReceiveBuffer,
        request: &nbd::Request,
    ) -> Result<Received, Hangup> {
        let ticket = |verb| Ticket {
            session: self.key,
            tag: request.cookie.0,
            offset: request.offset,
            len: request.len,
            verb,
            since: self.received_at,
        };
        let empty = request.len == 0;
        match request.command {
            Command::Read { .. } | Command::Trim { .. } | Command::Cache | Command::WriteZeroes { .. }
                if empty =>
            {
                if let Some(verb) = verb_of(&request.command) {
                    self.succeed(&ticket(verb));
                }
            }
            Command::Read { df } => {
                let df = df && !planted!("df-in-several-chunks");
                let ticket = ticket(Verb::Read { whole_chunk: df });
                self.read(disk, ticket, df);
            }
            Command::Write { fua } => {
                let fua = fua && !planted!("lost-fua");
                if planted!("flush-misses-other-connections") {
                    crate::planted::note_write(self.key.to_word());
                }
                let ticket = ticket(Verb::Write { fua });
                return self.write(disk, buffer, ticket, fua);
            }
            Command::Disconnect if planted!("disconnect-drops-requests") => return Err(Hangup::left()),
            Command::Disconnect => self.draining = true,
            Command::Flush if planted!("lost-flush") => self.succeed(&ticket(Verb::Flush)),
            Command::Flush
                if planted!("flush-misses-other-connections")
                    && !crate::planted::take_written(self.key.to_word()) =>
            {
                self.succeed(&ticket(Verb::Flush));
            }
            Command::Flush => self.begin(disk, ticket(Verb::Flush), Disk::flush)?,
            Command::Trim { fua } => {
                let ticket = ticket(Verb::Trim { fua });
                self.begin(disk, ticket, |disk, ticket| disk.clear(ticket, Clear::Trim, fua))?;
            }
            Command::WriteZeroes { fua, no_hole, fast } => {
                let fua = fua && !planted!("lost-fua-of-zeroes");
                let ticket = ticket(Verb::Zero { fua, fast });
                let what = Clear::Zero { no_unmap: no_hole, fast };
                self.begin(disk, ticket, |disk, ticket| disk.clear(ticket, what, fua))?;
            }
            Command::Cache => {
                let ticket = ticket(Verb::Cache);
                self.began(&ticket);
                self.reads.push_back(disk.start_cache(ticket));
            }
            Command::BlockStatus { req_one, payload_bytes } => {
                let ticket = ticket(Verb::Status);
                return self.block_status(disk, buffer, request, ticket, (req_one, payload_bytes));
            }
            Command::Resize => self.reply_refusal(
                request.cookie,
                request.offset,
                nbd::Errno::Inval,
                "this export cannot be resized",
            ),
        }
        buffer.consume(self.input.format.len());
        Ok(Received::Request)
    }

    /// Starts an operation that the disk drives by itself.
    fn begin(
        &mut self,
        disk: &mut Disk,
        ticket: Ticket,
        start: impl FnOnce(&mut Disk, Ticket),
    ) -> Result<(), Hangup> {
        self.began(&ticket);
        start(disk, ticket);
        self.take_deliveries(disk)
    }

    fn read(&mut self, disk: &mut Disk, mut ticket: Ticket, df: bool) {
        if ticket.len >= STREAM_BYTES && !self.input.immediate {
            self.input.saw_long_request();
        }
        let chunked = self.transmission.replies.is_chunked();
        let mut holes = chunked && !df && ticket.len >= HOLES_BYTES && disk.limits().block_status;
        let mut whole = df || !chunked;
        if holes && ticket.len <= WHOLE_BYTES && disk.is_data_now(ticket.offset, ticket.len) {
            // Nothing is gained by pieces, and each costs a header and a send.
            (holes, whole) = (false, true);
            ticket.verb = Verb::Read { whole_chunk: true };
        }
        if ticket.len <= PART_BYTES as u64 && !holes {
            match disk.read_short(ticket) {
                ReadNow::Body(body) => {
                    self.turn_bytes += ticket.len;
                    return self.reply_data(&ticket, ticket.offset, body, true);
                }
                ReadNow::Failed(errno) => return self.reply_error(&ticket, errno),
                ReadNow::Started => return self.began(&ticket),
                ReadNow::Split => {}
            }
        }
        let order = if whole { Order::Careful } else { Order::Any };
        if ticket.len > PART_BYTES as u64 {
            self.stream.widen();
        }
        self.began(&ticket);
        self.reads.push_back(disk.start_read(ticket, order, holes));
    }

    fn block_status(
        &mut self,
        disk: &mut Disk,
        buffer: &mut ReceiveBuffer,
        request: &nbd::Request,
        mut ticket: Ticket,
        (req_one, payload_bytes): (bool, Option<u64>),
    ) -> Result<Received, Hangup> {
        let header = self.input.format.len();
        // `validate` bounds the payload to a few words.
        let payload = usize::try_from(payload_bytes.unwrap_or(0)).unwrap_or(0);
        let Some(bytes) = buffer.filled().get(header..header + payload) else {
            return Ok(Received::NeedMore);
        };
        let query = StatusQuery::decode(request, bytes, &self.transmission);
        buffer.consume(header + payload);
        match query {
            Ok(query) => {
                ticket.len = query.len;
                self.status_queries.push(PendingStatus { tag: ticket.tag, ids: query.ids, req_one });
                self.begin(disk, ticket, Disk::block_status)?;
            }
            Err(bad) => {
                self.reply_refusal(request.cookie, request.offset, bad.errno, bad.message);
                self.output.ends(&ticket, true);
            }
        }
        Ok(Received::Request)
    }

    fn write(
        &mut self,
        disk: &mut Disk,
        buffer: &mut ReceiveBuffer,
        ticket: Ticket,
        fua: bool,
    ) -> Result<Received, Hangup> {
        let header = self.input.format.len();
        let is_large = ticket.len >= STREAM_BYTES;
        if is_large {
            self.input.saw_long_request();
        }
        if is_large || buffer.is_scarce() {
            buffer.consume(header);
            self.start_payload(disk, ticket, fua);
            return Ok(Received::Request);
        }
        let total = header + ticket.len as usize;
        let Some(payload) = buffer.filled().get(header..total) else { return Ok(Received::NeedMore) };
        if !fua && disk.limits().immediate {
            match disk.write_now(ticket.offset, payload) {
                Now::Done(()) => {
                    buffer.consume(total);
                    self.turn_bytes += ticket.len;
                    self.succeed(&ticket);
                    return Ok(Received::Request);
                }
                Now::Failed(errno) => {
                    buffer.consume(total);
                    self.reply_error(&ticket, errno);
                    return Ok(Received::Request);
                }
                Now::Later => {}
            }
        }
        buffer.consume(header);
        self.start_payload(disk, ticket, fua);
        Ok(Received::Request)
    }
}

/// What a client asks for, if it is something with an answer.
fn verb_of(command: &Command) -> Option<Verb> {
    Some(match *command {
        Command::Read { df } => Verb::Read { whole_chunk: df },
        Command::Write { fua } => Verb::Write { fua },
        Command::Flush => Verb::Flush,
        Command::Trim { fua } => Verb::Trim { fua },
        Command::WriteZeroes { fua, fast, .. } => Verb::Zero { fua, fast },
        Command::Cache => Verb::Cache,
        Command::BlockStatus { .. } => Verb::Status,
        Command::Disconnect | Command::Resize => return None,
    })
}

/// Bytes that follow the header of an accepted request.
fn payload_bytes_of(request: &nbd::Request) -> u64 {
    match request.command {
        Command::Write { .. } => request.len,
        Command::BlockStatus { payload_bytes, .. } => payload_bytes.unwrap_or(0),
        _ => 0,
    }
}
