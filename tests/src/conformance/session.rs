//! Transmission: requests out, right or wrong on purpose; replies in, judged.

use std::collections::HashMap;
use std::fmt;

use nbd::ReplyMode;
use nbd::wire::{
    CommandFlags, EXTENDED_REPLY_MAGIC, EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC, TransmissionFlags, chunk, cmd, context,
};

use super::check::{Outcome, demand, failed, needs};
use super::haggle::Haggle;
use super::reply::Reply;
use super::target::{Announced, Target};
use super::wire::Wire;

/// Longest chunk of a reply that is no data.
const CHUNK_BYTES_MAX: u64 = 32 << 20;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) offset: u64,
    /// The length field.
    pub(super) len: u64,
    /// What follows the header.
    pub(super) payload: Vec<u8>,
    /// Chosen by the session if not given.
    pub(super) cookie: Option<u64>,
}

impl Ask {
    /// A request without payload.
    pub(super) fn new(kind: u16, offset: u64, len: u64) -> Ask {
        Ask { kind, flags: 0, offset, len, payload: Vec::new(), cookie: None }
    }

    pub(super) fn read(offset: u64, len: u64) -> Ask {
        Ask::new(cmd::READ, offset, len)
    }

    pub(super) fn write(offset: u64, data: impl Into<Vec<u8>>) -> Ask {
        let payload = data.into();
        Ask { payload: payload.clone(), ..Ask::new(cmd::WRITE, offset, payload.len() as u64) }
    }

    pub(super) fn flush() -> Ask {
        Ask::new(cmd::FLUSH, 0, 0)
    }

    pub(super) fn zeroes(offset: u64, len: u64) -> Ask {
        Ask::new(cmd::WRITE_ZEROES, offset, len)
    }

    pub(super) fn trim(offset: u64, len: u64) -> Ask {
        Ask::new(cmd::TRIM, offset, len)
    }

    pub(super) fn status(offset: u64, len: u64) -> Ask {
        Ask::new(cmd::BLOCK_STATUS, offset, len)
    }

    /// BLOCK_STATUS with a payload that names range and contexts.
    pub(super) fn status_query(offset: u64, len: u64, ids: &[u32]) -> Ask {
        let mut payload = len.to_be_bytes().to_vec();
        payload.extend(ids.iter().flat_map(|id| id.to_be_bytes()));
        let ask = Ask::status(offset, payload.len() as u64).with(CommandFlags::PAYLOAD_LEN);
        Ask { payload, ..ask }
    }

    pub(super) fn with(self, flags: CommandFlags) -> Ask {
        self.with_bits(flags.bits())
    }

    pub(super) fn with_bits(mut self, bits: u16) -> Ask {
        self.flags |= bits;
        self
    }

    pub(super) fn with_cookie(mut self, cookie: u64) -> Ask {
        self.cookie = Some(cookie);
        self
    }

    /// Bytes of the export that it is about.
    pub(super) fn range_len(&self) -> u64 {
        match self.payload.split_first_chunk() {
            Some((len, _)) if self.kind == cmd::BLOCK_STATUS => u64::from_be_bytes(*len),
            _ => self.len,
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 9] =
            ["READ", "WRITE", "DISC", "FLUSH", "TRIM", "CACHE", "WRITE_ZEROES", "BLOCK_STATUS", "RESIZE"];
        let name = NAMES.get(usize::from(self.kind)).copied().unwrap_or("command");
        write!(formatter, "{name}({}) {:#x}+{:#x} flags {:#x}", self.kind, self.offset, self.len, self.flags)
    }
}

/// A connection in transmission.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) wire: Wire,
    pub(super) mode: ReplyMode,
    pub(super) facts: Announced,
    /// Selected contexts: ids and names.
    pub(super) contexts: Vec<(u32, String)>,
    next_cookie: u64,
    in_flight: HashMap<u64, Reply>,
}

impl Session {
    /// Connects and opens the export with this kind of replies, and with `base:allocation` if the server has it.
    pub(super) fn open(target: &Target, mode: ReplyMode) -> Outcome<Session> {
        let contexts: &[&str] = if mode.is_chunked() { &[context::BASE_ALLOCATION] } else { &[] };
        Self::open_with(target, mode, contexts)
    }

    /// Connects and opens the export with these contexts.
    pub(super) fn open_with(target: &Target, mode: ReplyMode, contexts: &[&str]) -> Outcome<Session> {
        let mut haggle = Haggle::start(target)?;
        let agreed = haggle.agree(mode)?;
        needs!(agreed, "the server has no {mode:?} replies");
        let selected =
            if contexts.is_empty() { Vec::new() } else { haggle.select(&target.name, contexts)? };
        Self::go(haggle, target, mode, selected)
    }

    /// Opens the export at the end of a handshake.
    pub(super) fn go(
        mut haggle: Haggle,
        target: &Target,
        mode: ReplyMode,
        contexts: Vec<(u32, String)>,
    ) -> Outcome<Session> {
        match haggle.go(&target.name)? {
            Ok(facts) => Ok(Self::new(haggle.wire, mode, facts, contexts)),
            Err(kind) => failed(format!("GO got error {kind:#x}")),
        }
    }

    /// A connection whose handshake is over.
    pub(super) fn new(
        wire: Wire,
        mode: ReplyMode,
        facts: Announced,
        contexts: Vec<(u32, String)>,
    ) -> Session {
        // Neither 0 nor small, so that a server that answers with a cookie of its own is found out.
        let next_cookie = 0x5a5a_0000_0000_0001;
        Session { wire, mode, facts, contexts, next_cookie, in_flight: HashMap::new() }
    }

    /// Size of the export in bytes.
    pub(super) fn size(&self) -> u64 {
        self.facts.size
    }

    pub(super) fn has(&self, flag: TransmissionFlags) -> bool {
        self.facts.has(flag)
    }

    /// Whether writing is possible.
    pub(super) fn is_writable(&self) -> bool {
        !self.has(TransmissionFlags::READ_ONLY)
    }

    /// Skips the check unless the export can be written and has at least this many bytes.
    pub(super) fn needs_writable(&self, size: u64) -> Outcome {
        needs!(self.is_writable(), "the export is read-only");
        needs!(self.size() >= size, "the export is smaller than {size} bytes");
        Ok(())
    }

    /// Skips the check unless the server announces a feature.
    pub(super) fn needs_flag(&self, flag: TransmissionFlags) -> Outcome {
        needs!(self.has(flag), "the server does not announce {flag:?}");
        Ok(())
    }

    /// Length of a request header in bytes.
    pub(super) fn header_bytes(&self) -> usize {
        if self.mode == ReplyMode::Extended { 32 } else { 28 }
    }

    /// Puts a request on the books; its cookie and its bytes.
    pub(super) fn encode(&mut self, ask: &Ask) -> Outcome<(u64, Vec<u8>)> {
        let cookie = ask.cookie.unwrap_or(self.next_cookie);
        self.next_cookie = self.next_cookie.wrapping_add(0x1_0000_0001);
        let mut bytes = header_bytes(self.mode, ask, cookie);
        bytes.extend_from_slice(&ask.payload);
        if ask.kind != cmd::DISC {
            let owed = self.owed(ask);
            let before = self.in_flight.insert(cookie, Reply::new(cookie, ask.clone(), owed));
            assert!(before.is_none(), "the suite uses cookie {cookie:#x} twice at a time");
        }
        Ok((cookie, bytes))
    }

    /// Contexts that a success of this request must describe.
    fn owed(&self, ask: &Ask) -> Vec<u32> {
        if ask.kind != cmd::BLOCK_STATUS {
            return Vec::new();
        }
        let named: Vec<u32> = ask
            .payload
            .get(8..)
            .unwrap_or_default()
            .chunks_exact(4)
            .map(|id| u32::from_be_bytes(id.try_into().expect("4 bytes")))
            .collect();
        if ask.payload.is_empty() { self.contexts.iter().map(|(id, _)| *id).collect() } else { named }
    }

    /// Sends a request; its cookie.
    pub(super) fn send(&mut self, ask: &Ask) -> Outcome<u64> {
        let (cookie, bytes) = self.encode(ask)?;
        self.wire.send(&bytes)?;
        Ok(cookie)
    }

    /// Sends a request and takes its reply; no other may be in flight.
    pub(super) fn ask(&mut self, ask: &Ask) -> Outcome<Reply> {
        let cookie = self.send(ask)?;
        let reply = self.receive()?;
        demand!(reply.cookie == cookie, "expected a reply to {cookie:#x}, got one to {:#x}", reply.cookie);
        Ok(reply)
    }

    /// Sends a request, which must succeed.
    pub(super) fn done(&mut self, ask: &Ask) -> Outcome {
        self.ask(ask)?.success().map(|_| ())
    }

    /// Sends many requests from a second thread and takes all replies, in the order in which they came.
    pub(super) fn ask_all(&mut self, asks: &[Ask]) -> Outcome<Vec<Reply>> {
        let mut stream = Vec::new();
        for ask in asks {
            stream.extend_from_slice(&self.encode(ask)?.1);
        }
        self.exchange(&stream, asks.len())
    }

    /// Sends encoded requests from a second thread and takes so many replies, in the order in which they came.
    pub(super) fn exchange(&mut self, stream: &[u8], count: usize) -> Outcome<Vec<Reply>> {
        let mut second = self.wire.second()?;
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || second.send(stream));
            let replies: Outcome<Vec<Reply>> = (0..count).map(|_| self.receive()).collect();
            if replies.is_err() {
                // The server may wait for a reader that has given up, and the sender for the server.
                self.wire.hang_up();
            }
            let sent = sender.join().expect("the sender does not panic");
            // A wrong reply says more than what could not be sent after it.
            let replies = replies?;
            sent?;
            Ok(replies)
        })
    }

    pub(super) fn read(&mut self, offset: u64, len: u64) -> Outcome<Vec<u8>> {
        Ok(self.ask(&Ask::read(offset, len))?.success()?.data)
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Outcome {
        self.done(&Ask::write(offset, data))
    }

    /// Reads a range and compares it.
    pub(super) fn expect_data(&mut self, what: &str, offset: u64, expected: &[u8]) -> Outcome {
        let got = self.read(offset, expected.len() as u64)?;
        match got.iter().zip(expected).position(|(got, expected)| got != expected) {
            None => Ok(()),
            Some(at) => failed(format!(
                "{what}: byte {:#x} is {:#04x} instead of {:#04x}",
                offset + at as u64,
                got[at],
                expected[at]
            )),
        }
    }

    /// Takes chunks until some request is answered.
    pub(super) fn receive(&mut self) -> Outcome<Reply> {
        loop {
            let magic = self.wire.receive_u32()?;
            let finished = match (magic, self.mode) {
                (SIMPLE_REPLY_MAGIC, ReplyMode::Simple | ReplyMode::Structured) => Some(self.take_simple()?),
                (STRUCTURED_REPLY_MAGIC, ReplyMode::Structured)
                | (EXTENDED_REPLY_MAGIC, ReplyMode::Extended) => self.take_chunk()?,
                _ => {
                    return failed(format!("a reply that starts with {magic:#010x} in {:?} mode", self.mode));
                }
            };
            if let Some(cookie) = finished {
                let reply = self.in_flight.remove(&cookie).expect("it was there a moment ago");
                reply.finish()?;
                return Ok(reply);
            }
        }
    }

    fn reply_to(&mut self, cookie: u64) -> Outcome<&mut Reply> {
        match self.in_flight.get_mut(&cookie) {
            Some(reply) => Ok(reply),
            None => failed(format!("a reply with cookie {cookie:#x}, which is not in flight")),
        }
    }

    fn take_simple(&mut self) -> Outcome<u64> {
        let error = self.wire.receive_u32()?;
        let cookie = self.wire.receive_u64()?;
        let mode = self.mode;
        let reply = self.reply_to(cookie)?;
        let needs_chunks = matches!(reply.asked.kind, cmd::READ | cmd::BLOCK_STATUS);
        demand!(mode == ReplyMode::Simple || !needs_chunks, "a simple reply to {}", reply.asked);
        demand!(reply.chunks == 0, "a simple reply after chunks to {}", reply.asked);
        if error != 0 {
            reply.set_error(error)?;
        } else if reply.asked.kind == cmd::READ && reply.asked.len > 0 {
            let (offset, len) = (reply.asked.offset, reply.asked.len);
            reply.take_piece(offset, len, false)?;
            let data = self.wire.receive(len as usize)?;
            self.reply_to(cookie)?.take_data(offset, &data);
        }
        Ok(cookie)
    }

    /// Takes a chunk; the cookie if it was the last one.
    fn take_chunk(&mut self) -> Outcome<Option<u64>> {
        let flags = self.wire.receive_u16()?;
        let kind = self.wire.receive_u16()?;
        let cookie = self.wire.receive_u64()?;
        demand!(flags & !1 == 0, "a chunk with the unknown flags {flags:#x}");
        let extended = self.mode == ReplyMode::Extended;
        let asked = self.reply_to(cookie)?.asked.clone();
        let len = if extended {
            let offset = self.wire.receive_u64()?;
            demand!(offset == asked.offset, "a chunk repeats offset {offset:#x} instead of that of {asked}");
            self.wire.receive_u64()?
        } else {
            u64::from(self.wire.receive_u32()?)
        };
        let done = flags & 1 != 0;
        demand!(kind != chunk::NONE || done, "a NONE chunk without DONE in the reply to {asked}");
        let wrong_status = if extended { chunk::BLOCK_STATUS } else { chunk::BLOCK_STATUS_EXT };
        demand!(kind != wrong_status, "a block status chunk of the wrong kind ({kind}) for the mode");
        self.reply_to(cookie)?.chunks += 1;
        if kind == chunk::OFFSET_DATA {
            demand!(len >= 9, "an OFFSET_DATA chunk of {len} bytes");
            let offset = self.wire.receive_u64()?;
            self.reply_to(cookie)?.take_piece(offset, len - 8, false)?;
            let data = self.wire.receive((len - 8) as usize)?;
            self.reply_to(cookie)?.take_data(offset, &data);
        } else {
            demand!(len <= CHUNK_BYTES_MAX, "a chunk of type {kind:#x} with {len} bytes");
            let payload = self.wire.receive(len as usize)?;
            self.reply_to(cookie)?.take_chunk(kind, &payload)?;
        }
        Ok(done.then_some(cookie))
    }

    /// Shows that the stream is in step and that nothing more is sent: one last request, then the end.
    pub(super) fn close(mut self) -> Outcome {
        let len = self.size().min(self.facts.minimum().max(512));
        self.read(0, len)?;
        self.disconnect()
    }

    /// Says goodbye as most clients do, and expects the end.
    pub(super) fn disconnect(mut self) -> Outcome {
        self.send(&Ask::new(cmd::DISC, 0, 0))?;
        self.wire.finish_sending();
        self.wire.expect_end()
    }
}

/// The header of a request; the length field is cut to what the layout has.
pub(super) fn header_bytes(mode: ReplyMode, ask: &Ask, cookie: u64) -> Vec<u8> {
    let extended = mode == ReplyMode::Extended;
    let mut flags = ask.flags;
    if extended && ask.kind == cmd::WRITE {
        flags |= CommandFlags::PAYLOAD_LEN.bits();
    }
    let magic = if extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
    let mut bytes = magic.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&ask.kind.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&ask.offset.to_be_bytes());
    if extended {
        bytes.extend_from_slice(&ask.len.to_be_bytes());
    } else {
        bytes.extend_from_slice(&(ask.len as u32).to_be_bytes());
    }
    bytes
}
