//! Takes replies of any form out of the bytes of a connection, and checks their payload.
//!
//! The parser does no I/O. It eats what is complete, payloads piece by piece, and leaves less than one header.

use std::time::Instant;

use anyhow::{anyhow, bail, ensure};
use nbd::client::ReplyHeader;
use nbd::wire::{self, ReplyFlags, chunk};
use nbd::{Cookie, ReplyMode};

use super::pattern::{Check, Pattern};
use super::slots::Slots;

/// The most bytes that [`Parser::feed`] can leave: a chunk header with its offset, less one.
pub(crate) const LEFT_MAX_BYTES: usize = wire::EXTENDED_REPLY_BYTES + OFFSET_BYTES - 1;

/// Length of the offset before the data of a chunk.
const OFFSET_BYTES: usize = 8;

/// A payload of which a part has not arrived.
#[derive(Debug, Clone, Copy)]
struct Payload {
    slot: usize,
    offset: u64,
    remaining_bytes: usize,
    ends_reply: bool,
}

/// The fields of a chunk's header.
struct Chunk {
    slot: usize,
    kind: u16,
    len: u64,
    done: bool,
}

/// The parser of one connection.
pub(crate) struct Parser {
    mode: ReplyMode,
    pattern: Pattern,
    check: Check,
    /// Payload of a complete reply: the block size for reads, 0 for writes.
    payload_bytes: u32,
    payload: Option<Payload>,
}

/// Told about each finished request: when it was issued, if that is noted at all.
pub(crate) trait Finished {
    /// One request has its complete reply.
    fn finished(&mut self, issued: Option<Instant>);
}

impl Parser {
    /// A parser for replies with `payload_bytes` each (0 for writes).
    pub(crate) fn new(mode: ReplyMode, pattern: Pattern, check: Check, payload_bytes: u32) -> Self {
        Self { mode, pattern, check, payload_bytes, payload: None }
    }

    /// Parses what is complete in `bytes` and gives the number of bytes eaten.
    ///
    /// # Errors
    /// The server broke the protocol, answered with an error, or sent the wrong data.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        slots: &mut Slots,
        to: &mut impl Finished,
    ) -> anyhow::Result<usize> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let eaten = match self.payload {
                Some(payload) => self.payload(payload, rest, slots, to)?,
                None => self.header(rest, slots, to)?,
            };
            if eaten == 0 {
                return Ok(at);
            }
            at += eaten;
        }
    }

    fn header(&mut self, bytes: &[u8], slots: &mut Slots, to: &mut impl Finished) -> anyhow::Result<usize> {
        let decoded =
            ReplyHeader::decode(self.mode, bytes).map_err(|violation| anyhow!("{}", violation.what))?;
        let Some((header, header_bytes)) = decoded else { return Ok(0) };
        match header {
            ReplyHeader::Simple { cookie: Cookie(cookie), error } => {
                let slot = slots.find(cookie)?;
                let offset = slots.offset(slot);
                ensure!(error == 0, "the server answers a request at {offset:#x} with error {error}");
                self.begin(slot, offset, self.payload_bytes, true, slots, to)?;
                Ok(header_bytes)
            }
            ReplyHeader::Chunk { cookie: Cookie(cookie), flags, kind, len, .. } => {
                let slot = slots.find(cookie)?;
                let done = ReplyFlags::from_bits_truncate(flags).contains(ReplyFlags::DONE);
                let chunk = Chunk { slot, kind, len, done };
                let eaten = self.chunk(&chunk, &bytes[header_bytes..], slots, to)?;
                Ok(eaten.map_or(0, |eaten| header_bytes + eaten))
            }
        }
    }

    /// `rest` is what follows the header; gives how much of it was eaten, or nothing when it is too short.
    fn chunk(
        &mut self,
        chunk: &Chunk,
        rest: &[u8],
        slots: &mut Slots,
        to: &mut impl Finished,
    ) -> anyhow::Result<Option<usize>> {
        let &Chunk { slot, kind, len, done } = chunk;
        let request_offset = slots.offset(slot);
        match (kind, u32::try_from(len.saturating_sub(OFFSET_BYTES as u64))) {
            (chunk::NONE, _) if len == 0 && done => {
                self.begin(slot, request_offset, 0, true, slots, to)?;
                Ok(Some(0))
            }
            (chunk::OFFSET_DATA, Ok(data_bytes)) if data_bytes > 0 => {
                let Some(offset) = rest.first_chunk() else { return Ok(None) };
                self.begin(slot, u64::from_be_bytes(*offset), data_bytes, done, slots, to)?;
                Ok(Some(OFFSET_BYTES))
            }
            (chunk::OFFSET_HOLE, _) => bail!("the server reports a hole: this image has none"),
            _ => bail!("chunk of type {kind:#06x} with {len} bytes for a request at {request_offset:#x}"),
        }
    }

    /// A header has been read: `len` bytes of payload follow.
    fn begin(
        &mut self,
        slot: usize,
        offset: u64,
        len: u32,
        ends_reply: bool,
        slots: &mut Slots,
        to: &mut impl Finished,
    ) -> anyhow::Result<()> {
        if len == 0 {
            to.finished(slots.finish(slot, self.payload_bytes)?);
            return Ok(());
        }
        slots.receive(slot, offset, len)?;
        self.payload = Some(Payload { slot, offset, remaining_bytes: len as usize, ends_reply });
        Ok(())
    }

    fn payload(
        &mut self,
        payload: Payload,
        bytes: &[u8],
        slots: &mut Slots,
        to: &mut impl Finished,
    ) -> anyhow::Result<usize> {
        // Whole words only: the few bytes of a word that is cut stay for the next call.
        let len = bytes.len().min(payload.remaining_bytes) & !7;
        self.pattern
            .check(self.check, payload.offset, &bytes[..len])
            .map_err(|mismatch| anyhow!("the server returned wrong data {mismatch}"))?;
        let remaining_bytes = payload.remaining_bytes - len;
        self.payload = Some(Payload { offset: payload.offset + len as u64, remaining_bytes, ..payload });
        if remaining_bytes == 0 {
            self.payload = None;
            if payload.ends_reply {
                to.finished(slots.finish(payload.slot, self.payload_bytes)?);
            }
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 512;

    #[derive(Default)]
    struct Count(usize);

    impl Finished for Count {
        fn finished(&mut self, _: Option<Instant>) {
            self.0 += 1;
        }
    }

    fn simple(cookie: u64, payload: &[u8]) -> Vec<u8> {
        let mut reply = wire::SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
        reply.extend(0u32.to_be_bytes());
        reply.extend(cookie.to_be_bytes());
        reply.extend(payload);
        reply
    }

    fn chunk(flags: u16, kind: u16, cookie: u64, content: &[u8]) -> Vec<u8> {
        let mut reply = wire::STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
        reply.extend(flags.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend(cookie.to_be_bytes());
        reply.extend((content.len() as u32).to_be_bytes());
        reply.extend(content);
        reply
    }

    fn data_chunk(flags: u16, cookie: u64, offset: u64, len: usize) -> Vec<u8> {
        let mut content = offset.to_be_bytes().to_vec();
        content.resize(8 + len, 0);
        Pattern::new(1).fill(offset, &mut content[8..]);
        chunk(flags, chunk::OFFSET_DATA, cookie, &content)
    }

    fn block(offset: u64) -> Vec<u8> {
        let mut block = vec![0; BLOCK as usize];
        Pattern::new(1).fill(offset, &mut block);
        block
    }

    /// Feeds `stream` in pieces of `piece` bytes, as a socket would, and gives the number of finished requests.
    fn run(stream: &[u8], piece: usize, slots: &mut Slots) -> anyhow::Result<usize> {
        let mut parser = Parser::new(ReplyMode::Structured, Pattern::new(1), Check::Full, BLOCK);
        let (mut count, mut held) = (Count::default(), Vec::new());
        for part in stream.chunks(piece) {
            held.extend(part);
            let eaten = parser.feed(&held, slots, &mut count)?;
            held.drain(..eaten);
            assert!(held.len() <= LEFT_MAX_BYTES);
        }
        Ok(count.0)
    }

    #[test]
    fn replies_out_of_order_and_cut_anywhere_are_parsed() {
        for piece in [1, 7, 16, 100, 4096] {
            let mut slots = Slots::new(2, BLOCK);
            let (first, second) = (slots.take(0, None).unwrap(), slots.take(1024, None).unwrap());
            let stream = [simple(second, &block(1024)), simple(first, &block(0))].concat();
            assert_eq!(run(&stream, piece, &mut slots).unwrap(), 2, "pieces of {piece} bytes");
            assert_eq!(slots.busy_count(), 0);
        }
    }

    #[test]
    fn chunks_of_one_reply_may_come_in_any_order() {
        for piece in [1, 27, 4096] {
            let mut slots = Slots::new(1, BLOCK);
            let cookie = slots.take(4096, None).unwrap();
            let stream = [
                data_chunk(0, cookie, 4096 + 256, 256),
                data_chunk(0, cookie, 4096, 256),
                chunk(ReplyFlags::DONE.bits(), chunk::NONE, cookie, &[]),
            ];
            assert_eq!(run(&stream.concat(), piece, &mut slots).unwrap(), 1, "pieces of {piece} bytes");
        }
    }

    fn failure(stream: impl Fn(u64) -> Vec<u8>) -> String {
        let mut slots = Slots::new(1, BLOCK);
        let cookie = slots.take(0, None).unwrap();
        run(&stream(cookie), 4096, &mut slots).unwrap_err().to_string()
    }

    #[test]
    fn defects_of_a_server_are_named() {
        assert!(failure(|cookie| simple(cookie, &block(512))).contains("wrong data"));
        assert!(failure(|cookie| simple(cookie + 1, &block(0))).contains("unknown cookie"));
        assert!(
            failure(|cookie| [simple(cookie, &block(0)), simple(cookie, &block(0))].concat())
                .contains("in flight")
        );
        assert!(
            failure(|cookie| data_chunk(ReplyFlags::DONE.bits(), cookie, 0, 256))
                .contains("256 bytes of payload")
        );
        assert!(
            failure(|cookie| data_chunk(ReplyFlags::DONE.bits(), cookie, 256, 512))
                .contains("for a request at 0x0")
        );
        assert!(failure(|_| vec![0; 16]).contains("wrong magic"));
    }
}
