//! Option haggling: one option at a time, right or wrong on purpose.

use nbd::ReplyMode;
use nbd::wire::{ClientFlags, HandshakeFlags, IHAVEOPT, NBDMAGIC, OPTION_REPLY_MAGIC, info, opt, rep};

use super::check::{Outcome, demand, failed};
use super::target::{Announced, Target};
use super::wire::Wire;

/// Longest option reply that any server has a reason to send.
const REPLY_BYTES_MAX: u32 = 1 << 20;

/// A reply to an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OptionReply {
    pub(super) kind: u32,
    pub(super) data: Vec<u8>,
}

impl OptionReply {
    pub(super) const fn is_error(&self) -> bool {
        self.kind & rep::ERROR_BIT != 0
    }
}

/// A connection in the handshake, behind the client's flags.
#[derive(Debug)]
pub(super) struct Haggle {
    pub(super) wire: Wire,
    pub(super) server_flags: HandshakeFlags,
}

impl Haggle {
    /// Connects and sets the flags that every client of today sets.
    pub(super) fn start(target: &Target) -> Outcome<Haggle> {
        let (mut wire, offered) = greeted(target)?;
        let flags = ClientFlags::from_bits_truncate(u32::from(offered.bits()));
        wire.send(&flags.bits().to_be_bytes())?;
        Ok(Haggle { wire, server_flags: offered })
    }

    /// Connects and sets these flags.
    pub(super) fn start_with(target: &Target, flags: u32) -> Outcome<Haggle> {
        let (mut wire, server_flags) = greeted(target)?;
        wire.send(&flags.to_be_bytes())?;
        Ok(Haggle { wire, server_flags })
    }

    pub(super) fn send(&mut self, option: u32, data: &[u8]) -> Outcome {
        self.wire.send(&encode(option, data))
    }

    /// Takes one reply to this option.
    pub(super) fn reply(&mut self, option: u32) -> Outcome<OptionReply> {
        let magic = self.wire.receive_u64()?;
        demand!(magic == OPTION_REPLY_MAGIC, "expected the magic of an option reply, got {magic:#018x}");
        let echoed = self.wire.receive_u32()?;
        demand!(echoed == option, "expected a reply to option {option}, got one to option {echoed}");
        let kind = self.wire.receive_u32()?;
        let len = self.wire.receive_u32()?;
        demand!(len <= REPLY_BYTES_MAX, "an option reply of {len} bytes");
        let data = self.wire.receive(len as usize)?;
        if kind & rep::ERROR_BIT != 0 {
            let text = std::str::from_utf8(&data);
            demand!(text.is_ok(), "the text of error {kind:#x} is not UTF-8: {data:02x?}");
        }
        demand!(kind != rep::ACK || data.is_empty(), "an ACK with {} bytes of data", data.len());
        Ok(OptionReply { kind, data })
    }

    /// Takes all replies to this option, up to ACK or an error.
    pub(super) fn replies(&mut self, option: u32) -> Outcome<Vec<OptionReply>> {
        let mut replies = Vec::new();
        loop {
            let reply = self.reply(option)?;
            let last = reply.kind == rep::ACK || reply.is_error();
            replies.push(reply);
            if last {
                return Ok(replies);
            }
            demand!(replies.len() < 100_000, "replies to option {option} without end");
        }
    }

    /// Sends an option and takes all replies.
    pub(super) fn ask(&mut self, option: u32, data: &[u8]) -> Outcome<Vec<OptionReply>> {
        self.send(option, data)?;
        self.replies(option)
    }

    /// Sends an option; type of the last reply.
    pub(super) fn ask_kind(&mut self, option: u32, data: &[u8]) -> Outcome<u32> {
        let replies = self.ask(option, data)?;
        Ok(replies.last().map_or(0, |reply| reply.kind))
    }

    /// Agrees on a kind of replies; `false` if the server does not have it.
    pub(super) fn agree(&mut self, mode: ReplyMode) -> Outcome<bool> {
        match mode {
            ReplyMode::Simple => Ok(true),
            ReplyMode::Structured => Ok(self.ask_kind(opt::STRUCTURED_REPLY, &[])? == rep::ACK),
            ReplyMode::Extended => Ok(self.ask_kind(opt::EXTENDED_HEADERS, &[])? == rep::ACK),
        }
    }

    /// Selects contexts; those that the server has, with their ids.
    pub(super) fn select(&mut self, name: &[u8], queries: &[&str]) -> Outcome<Vec<(u32, String)>> {
        let queries: Vec<&[u8]> = queries.iter().map(|query| query.as_bytes()).collect();
        let replies = self.ask(opt::SET_META_CONTEXT, &meta_data(name, &queries))?;
        contexts(&replies)
    }

    /// Opens the export; what the server announces, or the error.
    pub(super) fn go(&mut self, name: &[u8]) -> Outcome<Result<Announced, u32>> {
        let replies = self.ask(opt::GO, &info_data(name, &[info::BLOCK_SIZE]))?;
        announced(&replies)
    }

    /// Shows that the server is still in haggling and in step: an option that is always answered.
    pub(super) fn in_step(&mut self) -> Outcome {
        let kind = self.ask_kind(0x7fff_0001, b"any data")?;
        demand!(kind == rep::ERR_UNSUP, "out of step: an unknown option got {kind:#x} instead of ERR_UNSUP");
        Ok(())
    }

    /// Says goodbye and expects the end.
    pub(super) fn abort(mut self) -> Outcome {
        self.send(opt::ABORT, &[])?;
        let reply = self.reply(opt::ABORT)?;
        demand!(reply.kind == rep::ACK, "ABORT got {:#x} instead of ACK", reply.kind);
        self.wire.finish_sending();
        self.wire.expect_end()
    }
}

/// Connects and takes the greeting.
pub(super) fn greeted(target: &Target) -> Outcome<(Wire, HandshakeFlags)> {
    let mut wire = Wire::connect(&target.address)?;
    let magic = wire.receive_u64()?;
    demand!(magic == NBDMAGIC, "expected NBDMAGIC, got {magic:#018x}");
    let magic = wire.receive_u64()?;
    demand!(magic == IHAVEOPT, "expected IHAVEOPT, got {magic:#018x}");
    let flags = wire.receive_u16()?;
    match HandshakeFlags::from_bits(flags) {
        Some(flags) => Ok((wire, flags)),
        None => failed(format!("unknown handshake flags: {flags:#06x}")),
    }
}

/// An option with its data.
pub(super) fn encode(option: u32, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).expect("options of the suite are short");
    let mut bytes = header(option, len);
    bytes.extend_from_slice(data);
    bytes
}

/// The header of an option with any length.
pub(super) fn header(option: u32, len: u32) -> Vec<u8> {
    let mut bytes = IHAVEOPT.to_be_bytes().to_vec();
    bytes.extend_from_slice(&option.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes
}

/// Data of INFO and GO.
pub(super) fn info_data(name: &[u8], types: &[u16]) -> Vec<u8> {
    let mut data = counted(name);
    let count = u16::try_from(types.len()).expect("few information types");
    data.extend_from_slice(&count.to_be_bytes());
    data.extend(types.iter().flat_map(|kind| kind.to_be_bytes()));
    data
}

/// Data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub(super) fn meta_data(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut data = counted(name);
    data.extend_from_slice(&u32::try_from(queries.len()).expect("few queries").to_be_bytes());
    data.extend(queries.iter().flat_map(|query| counted(query)));
    data
}

/// A 32-bit length and as many bytes.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("strings of the suite are short");
    [&len.to_be_bytes(), bytes].concat()
}

/// Contexts in replies that end with ACK; none if they end with an error.
pub(super) fn contexts(replies: &[OptionReply]) -> Outcome<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for reply in replies.iter().filter(|reply| reply.kind != rep::ACK && !reply.is_error()) {
        demand!(
            reply.kind == rep::META_CONTEXT,
            "expected META_CONTEXT replies, got a reply of type {:#x}",
            reply.kind
        );
        let Some((id, name)) = reply.data.split_first_chunk() else {
            return failed("a META_CONTEXT reply that is too short for its id");
        };
        let Ok(name) = std::str::from_utf8(name) else {
            return failed("a context whose name is not UTF-8");
        };
        found.push((u32::from_be_bytes(*id), name.to_owned()));
    }
    if replies.last().is_some_and(OptionReply::is_error) { Ok(Vec::new()) } else { Ok(found) }
}

/// What the replies to INFO or GO announce, or the error they end with.
pub(super) fn announced(replies: &[OptionReply]) -> Outcome<Result<Announced, u32>> {
    let mut facts = Announced::default();
    let mut size = None;
    for reply in replies {
        if reply.is_error() {
            return Ok(Err(reply.kind));
        }
        if reply.kind == rep::ACK {
            continue;
        }
        demand!(reply.kind == rep::INFO, "expected INFO replies, got a reply of type {:#x}", reply.kind);
        let Some((kind, data)) = reply.data.split_first_chunk() else {
            return failed("an INFO reply that is too short for its type");
        };
        match u16::from_be_bytes(*kind) {
            info::EXPORT => {
                demand!(data.len() == 10, "INFO_EXPORT of {} bytes instead of 12", data.len() + 2);
                let (bytes, flags) = data.split_at(8);
                size = Some(u64::from_be_bytes(bytes.try_into().expect("8 bytes")));
                facts.flags = u16::from_be_bytes(flags.try_into().expect("2 bytes"));
            }
            info::BLOCK_SIZE => {
                demand!(data.len() == 12, "INFO_BLOCK_SIZE of {} bytes instead of 14", data.len() + 2);
                let field = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("4 bytes"));
                facts.block_sizes = Some([field(0), field(4), field(8)]);
            }
            _ => {}
        }
    }
    match size {
        Some(size) => {
            facts.size = size;
            Ok(Ok(facts))
        }
        None => failed("an ACK without INFO_EXPORT before it"),
    }
}
