//! The stream of replies: headers, payloads, and what they say about the requests in flight.

use std::collections::HashMap;

use super::pending::{Pending, RequestError, Violation};
use crate::errno::Errno;
use crate::reply::Extent;
use crate::request::Cookie;
use crate::status_query::StatusQuery;
use crate::transmission::{ReplyMode, Transmission};
use crate::validate::{Command, Request};
use crate::wire::{
    EXTENDED_REPLY_BYTES, EXTENDED_REPLY_MAGIC, Reader, ReplyFlags, SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC,
    STRING_BYTES_MAX, STRUCTURED_REPLY_BYTES, STRUCTURED_REPLY_MAGIC, chunk,
};

/// Longest block status chunk that is taken, in bytes: twice the 2^20 extents that a server should not exceed.
const STATUS_BYTES_MAX: u64 = 8 + 16 * (1 << 21);
/// Longest error chunk that is taken, in bytes.
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// The header of a reply, decoded and not yet judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyHeader {
    /// A simple reply; data follow a READ without error.
    Simple {
        /// The request.
        cookie: Cookie,
        /// Raw error number, 0 for success.
        error: u32,
    },
    /// A chunk.
    Chunk {
        /// The request.
        cookie: Cookie,
        /// Reply flags, including unknown ones.
        flags: u16,
        /// Type of the chunk, see [`chunk`].
        kind: u16,
        /// Extended chunks repeat the request's offset.
        request_offset: Option<u64>,
        /// Length of the payload in bytes.
        len: u64,
    },
}

impl ReplyHeader {
    /// Decodes the header at the start of `bytes`: `Ok(None)` if more bytes are needed, else with its length.
    ///
    /// # Errors
    /// The magic does not fit the agreed kind of reply: the stream is out of step.
    pub fn decode(mode: ReplyMode, bytes: &[u8]) -> Result<Option<(ReplyHeader, usize)>, Violation> {
        let mut reader = Reader::new(bytes);
        let Some(magic) = reader.u32() else {
            return Ok(None);
        };
        let header = match (magic, mode) {
            (SIMPLE_REPLY_MAGIC, ReplyMode::Simple | ReplyMode::Structured) => {
                Self::simple(&mut reader).map(|header| (header, SIMPLE_REPLY_BYTES))
            }
            (STRUCTURED_REPLY_MAGIC, ReplyMode::Structured) => {
                Self::chunk(&mut reader, mode).map(|header| (header, STRUCTURED_REPLY_BYTES))
            }
            (EXTENDED_REPLY_MAGIC, ReplyMode::Extended) => {
                Self::chunk(&mut reader, mode).map(|header| (header, EXTENDED_REPLY_BYTES))
            }
            _ => return Err(Violation { cookie: None, what: "a reply starts with a wrong magic" }),
        };
        Ok(header)
    }

    fn simple(reader: &mut Reader<'_>) -> Option<ReplyHeader> {
        let error = reader.u32()?;
        Some(ReplyHeader::Simple { cookie: Cookie(reader.u64()?), error })
    }

    fn chunk(reader: &mut Reader<'_>, mode: ReplyMode) -> Option<ReplyHeader> {
        let (flags, kind, cookie) = (reader.u16()?, reader.u16()?, Cookie(reader.u64()?));
        let (request_offset, len) = match mode {
            ReplyMode::Extended => (Some(reader.u64()?), reader.u64()?),
            _ => (None, u64::from(reader.u32()?)),
        };
        Some(ReplyHeader::Chunk { cookie, flags, kind, request_offset, len })
    }
}

/// News about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of data, as much as has arrived.
    Data {
        /// The request.
        cookie: Cookie,
        /// Where it belongs, counted from the export's start.
        offset: u64,
        /// The piece, a part of the input.
        bytes: &'a [u8],
    },
    /// A range reads as zeroes.
    Hole {
        /// The request.
        cookie: Cookie,
        /// Where, counted from the export's start.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Status of the range in one context.
    Status {
        /// The request.
        cookie: Cookie,
        /// The context.
        context_id: u32,
        /// From the request's offset on.
        extents: Vec<Extent>,
    },
    /// The request is over and forgotten; its cookie may be used again.
    Finished {
        /// What was asked.
        request: Request,
        /// How it ended; after an error data sent before are worthless.
        result: Result<(), RequestError>,
    },
}

/// Decodes replies and keeps account of the requests in flight.
#[derive(Debug)]
pub struct Replies {
    mode: ReplyMode,
    contexts: Vec<u32>,
    pending: HashMap<Cookie, Pending>,
    phase: Phase,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Header,
    /// Offset before the data of a chunk.
    DataOffset {
        cookie: Cookie,
        len: u64,
        done: bool,
    },
    Data {
        cookie: Cookie,
        offset: u64,
        left: u64,
        done: bool,
    },
    /// Payload that is looked at as a whole.
    Payload {
        cookie: Cookie,
        kind: u16,
        len: u64,
        done: bool,
    },
    Finish(Cookie),
}

impl Replies {
    /// No request is in flight on this session.
    pub fn new(session: &Transmission) -> Replies {
        Replies {
            mode: session.replies,
            contexts: session.contexts.iter().map(|context| context.id).collect(),
            pending: HashMap::new(),
            phase: Phase::Header,
            buffer: Vec::new(),
        }
    }

    /// A request was sent; its replies may come. DISC has none and is not counted.
    ///
    /// # Panics
    /// Its cookie is in use.
    pub fn sent(&mut self, request: &Request) {
        let owed = match request.command {
            Command::Disconnect => return,
            Command::BlockStatus { .. } => self.contexts.clone(),
            _ => Vec::new(),
        };
        self.insert(Pending::new(*request, request.len, owed));
    }

    /// A BLOCK_STATUS with this payload was sent.
    ///
    /// # Panics
    /// Its cookie is in use.
    pub fn sent_query(&mut self, request: &Request, query: &StatusQuery) {
        self.insert(Pending::new(*request, query.len, query.ids.clone()));
    }

    fn insert(&mut self, pending: Pending) {
        let earlier = self.pending.insert(pending.request.cookie, pending);
        assert!(earlier.is_none(), "a cookie is used for one request at a time");
    }

    /// Number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Takes bytes from the front of `input` until something is to be told; returns how many. Without an event all
    /// of them were taken.
    ///
    /// # Errors
    /// The server broke a rule: close the connection, nothing can be trusted any more.
    pub fn advance<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Violation> {
        let mut rest = input;
        loop {
            let before = rest.len();
            let event = match self.phase {
                Phase::Header => self.header(&mut rest)?,
                Phase::DataOffset { cookie, len, done } => {
                    self.data_offset(&mut rest, (cookie, len, done))?
                }
                Phase::Data { cookie, offset, left, done } => {
                    self.data(&mut rest, (cookie, offset, left, done))
                }
                Phase::Payload { cookie, kind, len, done } => {
                    self.payload(&mut rest, (cookie, kind, len, done))?
                }
                Phase::Finish(cookie) => Some(self.finish(cookie)?),
            };
            let stuck = rest.len() == before && rest.is_empty() && !self.can_go_on_without_input();
            if event.is_some() || stuck {
                return Ok((input.len() - rest.len(), event));
            }
        }
    }

    /// Whether the next step needs no byte.
    fn can_go_on_without_input(&self) -> bool {
        match self.phase {
            Phase::Finish(_) => true,
            Phase::Payload { len, .. } => self.buffer.len() as u64 == len,
            Phase::Data { left, .. } => left == 0,
            _ => false,
        }
    }

    /// Collects up to `need` bytes; whether they are all there.
    fn gather(&mut self, need: usize, rest: &mut &[u8]) -> bool {
        let missing = need.saturating_sub(self.buffer.len());
        let (head, tail) = rest.split_at(missing.min(rest.len()));
        self.buffer.extend_from_slice(head);
        *rest = tail;
        self.buffer.len() >= need
    }

    fn header(&mut self, rest: &mut &[u8]) -> Result<Option<Event<'static>>, Violation> {
        // The magic tells the length, so it comes first.
        if !self.gather(4, rest) {
            return Ok(None);
        }
        let magic_known = ReplyHeader::decode(self.mode, &self.buffer)?;
        debug_assert!(magic_known.is_none(), "a header is longer than its magic");
        let need = match self.buffer.first_chunk::<4>().map(|magic| u32::from_be_bytes(*magic)) {
            Some(SIMPLE_REPLY_MAGIC) => SIMPLE_REPLY_BYTES,
            Some(STRUCTURED_REPLY_MAGIC) => STRUCTURED_REPLY_BYTES,
            _ => EXTENDED_REPLY_BYTES,
        };
        if !self.gather(need, rest) {
            return Ok(None);
        }
        let header = ReplyHeader::decode(self.mode, &self.buffer)?;
        self.buffer.clear();
        match header {
            Some((ReplyHeader::Simple { cookie, error }, _)) => self.simple(cookie, error)?,
            Some((ReplyHeader::Chunk { cookie, flags, kind, request_offset, len }, _)) => {
                let done = ReplyFlags::from_bits_truncate(flags).contains(ReplyFlags::DONE);
                self.phase = self
                    .chunk((cookie, kind, len, done), request_offset)
                    .map_err(|what| Violation { cookie: Some(cookie), what })?;
            }
            None => {}
        }
        Ok(None)
    }

    fn simple(&mut self, cookie: Cookie, error: u32) -> Result<(), Violation> {
        let violation = |what| Violation { cookie: Some(cookie), what };
        let structured = self.mode == ReplyMode::Structured;
        let pending = self.pending.get_mut(&cookie).ok_or(violation("no request has this cookie"))?;
        if structured && pending.needs_chunks() {
            return Err(violation("a simple reply to READ or BLOCK_STATUS although chunks were agreed"));
        }
        if pending.chunked {
            return Err(violation("a simple reply after chunks"));
        }
        let Request { offset, len, .. } = pending.request;
        self.phase = Phase::Finish(cookie);
        if error != 0 {
            let error = RequestError { errno: Errno::from_code(error), text: String::new(), offset: None };
            pending.fail(error).map_err(violation)?;
        } else if pending.is_read() && len > 0 {
            pending.content(offset, len).map_err(violation)?;
            self.phase = Phase::Data { cookie, offset, left: len, done: true };
        }
        Ok(())
    }

    /// Judges what can be judged by a chunk's header alone, before its payload is waited for.
    fn chunk(
        &mut self,
        (cookie, kind, len, done): (Cookie, u16, u64, bool),
        request_offset: Option<u64>,
    ) -> Result<Phase, &'static str> {
        let extended = self.mode == ReplyMode::Extended;
        let pending = self.pending.get_mut(&cookie).ok_or("no request has this cookie")?;
        if request_offset.is_some_and(|offset| offset != pending.request.offset) {
            return Err("a chunk repeats another offset than the request's");
        }
        pending.chunked = true;
        let range = match kind {
            chunk::NONE if !done => return Err("a NONE chunk that is not the last"),
            chunk::NONE => 0..=0,
            chunk::OFFSET_DATA => {
                if !pending.is_read() {
                    return Err("content in the reply to a command that has none");
                }
                9..=pending.request.len.saturating_add(8)
            }
            chunk::OFFSET_HOLE => 12..=12,
            chunk::BLOCK_STATUS if !extended => 12..=STATUS_BYTES_MAX,
            chunk::BLOCK_STATUS_EXT if extended => 24..=STATUS_BYTES_MAX,
            chunk::ERROR => 6..=ERROR_BYTES_MAX,
            chunk::ERROR_OFFSET => 14..=ERROR_BYTES_MAX,
            unknown if unknown & chunk::ERROR_BIT != 0 => 6..=ERROR_BYTES_MAX,
            _ => return Err("a chunk of a type that is unknown or not for this kind of reply"),
        };
        if !range.contains(&len) {
            return Err("a chunk of a length that its type or its request cannot have");
        }
        Ok(match kind {
            chunk::NONE => Phase::Finish(cookie),
            chunk::OFFSET_DATA => Phase::DataOffset { cookie, len: len - 8, done },
            _ => Phase::Payload { cookie, kind, len, done },
        })
    }

    fn data_offset(
        &mut self,
        rest: &mut &[u8],
        (cookie, len, done): (Cookie, u64, bool),
    ) -> Result<Option<Event<'static>>, Violation> {
        if !self.gather(8, rest) {
            return Ok(None);
        }
        let offset = Reader::new(&self.buffer).u64().expect("eight bytes were gathered");
        self.buffer.clear();
        self.judge(cookie, |pending| pending.content(offset, len))?;
        self.phase = Phase::Data { cookie, offset, left: len, done };
        Ok(None)
    }

    fn data<'a>(
        &mut self,
        rest: &mut &'a [u8],
        (cookie, offset, left, done): (Cookie, u64, u64, bool),
    ) -> Option<Event<'a>> {
        if left == 0 {
            self.phase = if done { Phase::Finish(cookie) } else { Phase::Header };
            return None;
        }
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let (bytes, tail) = rest.split_at(take);
        *rest = tail;
        let taken = take as u64;
        self.phase = Phase::Data { cookie, offset: offset + taken, left: left - taken, done };
        (take > 0).then_some(Event::Data { cookie, offset, bytes })
    }

    fn payload(
        &mut self,
        rest: &mut &[u8],
        (cookie, kind, len, done): (Cookie, u16, u64, bool),
    ) -> Result<Option<Event<'static>>, Violation> {
        if !self.gather(len as usize, rest) {
            return Ok(None);
        }
        let payload = std::mem::take(&mut self.buffer);
        self.phase = if done { Phase::Finish(cookie) } else { Phase::Header };
        match kind {
            chunk::OFFSET_HOLE => self.hole(cookie, &payload).map(Some),
            chunk::BLOCK_STATUS | chunk::BLOCK_STATUS_EXT => self.status(cookie, &payload).map(Some),
            _ => self.error(cookie, kind, &payload).map(|()| None),
        }
    }

    fn hole(&mut self, cookie: Cookie, payload: &[u8]) -> Result<Event<'static>, Violation> {
        let mut reader = Reader::new(payload);
        let (Some(offset), Some(len)) = (reader.u64(), reader.u32().map(u64::from)) else {
            return Err(Violation { cookie: Some(cookie), what: "a hole of a wrong length" });
        };
        self.judge(cookie, |pending| pending.content(offset, len))?;
        Ok(Event::Hole { cookie, offset, len })
    }

    fn status(&mut self, cookie: Cookie, payload: &[u8]) -> Result<Event<'static>, Violation> {
        let extended = self.mode == ReplyMode::Extended;
        let parsed = if extended { parse_status_64(payload) } else { parse_status_32(payload) };
        let (context_id, extents) = parsed
            .ok_or(Violation { cookie: Some(cookie), what: "lengths inside a block status do not match" })?;
        self.judge(cookie, |pending| pending.status(context_id, &extents))?;
        Ok(Event::Status { cookie, context_id, extents })
    }

    fn error(&mut self, cookie: Cookie, kind: u16, payload: &[u8]) -> Result<(), Violation> {
        let error = parse_error(kind, payload).map_err(|what| Violation { cookie: Some(cookie), what })?;
        self.judge(cookie, |pending| pending.fail(error))
    }

    fn judge(
        &mut self,
        cookie: Cookie,
        check: impl FnOnce(&mut Pending) -> Result<(), &'static str>,
    ) -> Result<(), Violation> {
        let pending = self.pending.get_mut(&cookie).ok_or("no request has this cookie");
        pending.and_then(check).map_err(|what| Violation { cookie: Some(cookie), what })
    }

    fn finish(&mut self, cookie: Cookie) -> Result<Event<'static>, Violation> {
        self.phase = Phase::Header;
        let pending = self.pending.remove(&cookie).ok_or("no request has this cookie");
        let (request, result) =
            pending.and_then(Pending::finish).map_err(|what| Violation { cookie: Some(cookie), what })?;
        Ok(Event::Finished { request, result })
    }
}

fn parse_status_32(payload: &[u8]) -> Option<(u32, Vec<Extent>)> {
    let mut reader = Reader::new(payload);
    let context_id = reader.u32()?;
    let (pairs, stray) = reader.rest().as_chunks::<8>();
    let extent = |bytes: &[u8; 8]| {
        let mut reader = Reader::new(bytes);
        Some(Extent { len: u64::from(reader.u32()?), flags: u64::from(reader.u32()?) })
    };
    let extents = pairs.iter().map(extent).collect::<Option<_>>()?;
    stray.is_empty().then_some((context_id, extents))
}

fn parse_status_64(payload: &[u8]) -> Option<(u32, Vec<Extent>)> {
    let mut reader = Reader::new(payload);
    let (context_id, count) = (reader.u32()?, reader.u32()?);
    let (pairs, stray) = reader.rest().as_chunks::<16>();
    let extent = |bytes: &[u8; 16]| {
        let mut reader = Reader::new(bytes);
        Some(Extent { len: reader.u64()?, flags: reader.u64()? })
    };
    let extents = pairs.iter().map(extent).collect::<Option<_>>()?;
    (stray.is_empty() && pairs.len() as u64 == u64::from(count)).then_some((context_id, extents))
}

/// An error chunk; one of an unknown type is read as far as all have the same layout.
fn parse_error(kind: u16, payload: &[u8]) -> Result<RequestError, &'static str> {
    let misfit = "the message of an error chunk is longer than the chunk";
    let mut reader = Reader::new(payload);
    let (Some(code), Some(text_bytes)) = (reader.u32(), reader.u16().map(usize::from)) else {
        return Err(misfit);
    };
    let text = reader.take(text_bytes).filter(|text| text.len() <= STRING_BYTES_MAX).ok_or(misfit)?;
    if code == 0 {
        return Err("an error chunk that reports success");
    }
    let offset = if kind == chunk::ERROR_OFFSET { Some(reader.u64().ok_or(misfit)?) } else { None };
    Ok(RequestError {
        errno: Errno::from_code(code),
        text: String::from_utf8_lossy(text).into_owned(),
        offset,
    })
}
