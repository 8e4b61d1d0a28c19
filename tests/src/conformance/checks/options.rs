//! Options in general: unknown, malformed, too long, repeated, out of order.

use nbd::ReplyMode;
use nbd::wire::{OPTION_HEADER_BYTES, opt, rep};

use crate::conformance::check::{Check, Level, Outcome, demand, handshake, needs};
use crate::conformance::haggle::{Haggle, OptionReply, encode, header, info_data, meta_data};
use crate::conformance::session::Session;
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "options/unknown",
        Level::Must,
        "Option haggling: an unknown option gets ERR_UNSUP, and exactly its data is skipped",
        unknown,
    ),
    handshake(
        "options/peek-export",
        Level::Must,
        "Option types: PEEK_EXPORT is withdrawn and gets ERR_UNSUP",
        peek_export,
    ),
    handshake(
        "options/data-where-none-belongs",
        Level::Should,
        "Option types: LIST, STRUCTURED_REPLY and EXTENDED_HEADERS with data get ERR_INVALID",
        unwanted_data,
    ),
    handshake(
        "options/no-data-where-some-belongs",
        Level::Must,
        "Option types: INFO, GO and the meta context options without data get ERR_INVALID",
        missing_data,
    ),
    handshake(
        "options/wrong-magic-ends",
        Level::Chosen,
        "Option haggling: an option that does not start with IHAVEOPT ends the connection",
        wrong_magic,
    ),
    handshake(
        "options/endless-length-ends",
        Level::Chosen,
        "Option haggling: an option of 4 GiB ends the connection instead of being read",
        endless_length,
    ),
    handshake(
        "options/truncated",
        Level::Must,
        "Option haggling: a client may vanish inside an option; the server then closes",
        truncated,
    ),
    handshake(
        "options/abort",
        Level::Must,
        "Option types: ABORT gets ACK, with or without data, and the connection ends",
        abort,
    ),
    handshake(
        "options/abort-without-waiting",
        Level::Must,
        "Option types: the server tolerates a client that does not wait for the ACK of its ABORT",
        abort_without_waiting,
    ),
    handshake(
        "options/in-one-piece",
        Level::Must,
        "Option haggling: the server tolerates options that are in its buffer already",
        in_one_piece,
    ),
    handshake(
        "options/without-fixed-newstyle",
        Level::Chosen,
        "Fixed newstyle negotiation: without the client's flag only EXPORT_NAME is legal; others get ERR_INVALID",
        without_fixed_newstyle,
    ),
    handshake(
        "options/structured-repeated",
        Level::Must,
        "Option types: a second STRUCTURED_REPLY gets ACK or ERR_INVALID and changes nothing",
        structured_repeated,
    ),
    handshake(
        "options/structured-after-extended",
        Level::Must,
        "Option types: STRUCTURED_REPLY after EXTENDED_HEADERS gets ERR_EXT_HEADER_REQD",
        structured_after_extended,
    ),
    handshake(
        "options/extended-after-structured",
        Level::Must,
        "Option types: EXTENDED_HEADERS after STRUCTURED_REPLY is taken; replies are then extended",
        extended_after_structured,
    ),
    handshake(
        "options/extended-repeated",
        Level::Must,
        "Option types: a second EXTENDED_HEADERS gets ACK or ERR_INVALID and changes nothing",
        extended_repeated,
    ),
];

fn unknown(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    for option in [0, 12, 255, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for len in [0, 1, 1000] {
            let kind = haggle.ask_kind(option, &vec![0xee; len])?;
            demand!(kind == rep::ERR_UNSUP, "option {option:#x} with {len} bytes got {kind:#x}");
        }
    }
    haggle.abort()
}

fn peek_export(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let kind = haggle.ask_kind(opt::PEEK_EXPORT, b"name")?;
    demand!(kind == rep::ERR_UNSUP, "PEEK_EXPORT got {kind:#x}");
    haggle.abort()
}

fn unwanted_data(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    for option in [opt::LIST, opt::STRUCTURED_REPLY, opt::EXTENDED_HEADERS] {
        for len in [1, 4, 5000] {
            let kind = haggle.ask_kind(option, &vec![0; len])?;
            let fine = [rep::ERR_INVALID, rep::ERR_UNSUP, rep::ERR_POLICY, rep::ERR_TOO_BIG].contains(&kind);
            demand!(fine, "option {option} with {len} bytes of data got {kind:#x}");
            haggle.in_step()?;
        }
    }
    haggle.abort()
}

fn missing_data(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    // Without structured replies the meta context options may be refused for that reason.
    haggle.agree(ReplyMode::Structured)?;
    for option in [opt::INFO, opt::GO, opt::LIST_META_CONTEXT, opt::SET_META_CONTEXT] {
        for len in 0..6 {
            let kind = haggle.ask_kind(option, &vec![0; len])?;
            let fine = [rep::ERR_INVALID, rep::ERR_UNSUP].contains(&kind);
            demand!(fine, "option {option} with {len} bytes of data got {kind:#x}");
        }
    }
    haggle.in_step()?;
    haggle.abort()
}

fn wrong_magic(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let mut bytes = encode(opt::LIST, &[]);
    bytes[7] ^= 1;
    haggle.wire.send(&bytes)?;
    haggle.wire.drain().map(|_| ())
}

fn endless_length(target: &Target) -> Outcome {
    for option in [opt::EXPORT_NAME, opt::LIST, opt::GO, opt::SET_META_CONTEXT, 999] {
        let mut haggle = Haggle::start(target)?;
        haggle.wire.send(&header(option, u32::MAX))?;
        haggle.wire.drain()?;
    }
    Ok(())
}

fn truncated(target: &Target) -> Outcome {
    let options = [
        encode(opt::GO, &info_data(&target.name, &[3])),
        encode(opt::SET_META_CONTEXT, &meta_data(&target.name, &[b"base:allocation"])),
        encode(opt::LIST, &[]),
        encode(opt::EXPORT_NAME, b"a name"),
    ];
    for bytes in options {
        for len in (0..bytes.len()).step_by(3).chain([OPTION_HEADER_BYTES - 1, bytes.len() - 1]) {
            let mut haggle = Haggle::start(target)?;
            haggle.wire.send(&bytes[..len.min(bytes.len() - 1)])?;
            haggle.wire.finish_sending();
            haggle.wire.drain()?;
        }
    }
    Ok(())
}

fn abort(target: &Target) -> Outcome {
    for data in [&b""[..], b"goodbye"] {
        let mut haggle = Haggle::start(target)?;
        haggle.send(opt::ABORT, data)?;
        let reply = haggle.reply(opt::ABORT)?;
        demand!(reply.kind == rep::ACK, "ABORT with {} bytes got {:#x}", data.len(), reply.kind);
        haggle.wire.finish_sending();
        haggle.wire.expect_end()?;
    }
    Ok(())
}

fn abort_without_waiting(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    haggle.send(opt::ABORT, &[])?;
    drop(haggle);
    Ok(())
}

fn in_one_piece(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let unknown = [0x7fff_0003, 0x7fff_0004, 0x7fff_0005];
    let bytes: Vec<u8> = unknown.iter().flat_map(|option| encode(*option, b"data")).collect();
    haggle.wire.send(&bytes)?;
    for option in unknown {
        let replies = haggle.replies(option)?;
        demand!(replies[0].kind == rep::ERR_UNSUP, "option {option:#x} got {:#x}", replies[0].kind);
    }
    haggle.abort()
}

fn without_fixed_newstyle(target: &Target) -> Outcome {
    let mut haggle = Haggle::start_with(target, 0)?;
    let options = [(opt::LIST, Vec::new()), (opt::GO, info_data(&target.name, &[])), (999, vec![1, 2, 3])];
    for (option, data) in options {
        let kind = haggle.ask_kind(option, &data)?;
        demand!(kind == rep::ERR_INVALID, "option {option} without fixed newstyle got {kind:#x}");
    }
    Ok(())
}

fn ack_or_invalid(replies: &[OptionReply]) -> bool {
    replies.last().is_some_and(|reply| [rep::ACK, rep::ERR_INVALID].contains(&reply.kind))
}

fn structured_repeated(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    needs!(haggle.agree(ReplyMode::Structured)?, "the server has no structured replies");
    let replies = haggle.ask(opt::STRUCTURED_REPLY, &[])?;
    demand!(ack_or_invalid(&replies), "a second STRUCTURED_REPLY got {replies:?}");
    let mut session = Session::go(haggle, target, ReplyMode::Structured, Vec::new())?;
    session.read(0, session.size().min(512))?;
    session.close()
}

fn structured_after_extended(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    needs!(haggle.agree(ReplyMode::Extended)?, "the server has no extended headers");
    let kind = haggle.ask_kind(opt::STRUCTURED_REPLY, &[])?;
    demand!(kind == rep::ERR_EXT_HEADER_REQD, "STRUCTURED_REPLY after EXTENDED_HEADERS got {kind:#x}");
    let mut session = Session::go(haggle, target, ReplyMode::Extended, Vec::new())?;
    session.read(0, session.size().min(512))?;
    session.close()
}

fn extended_after_structured(target: &Target) -> Outcome {
    needs!(target.has_mode(ReplyMode::Extended), "the server has no extended headers");
    let mut haggle = Haggle::start(target)?;
    needs!(haggle.agree(ReplyMode::Structured)?, "the server has no structured replies");
    demand!(haggle.agree(ReplyMode::Extended)?, "EXTENDED_HEADERS after STRUCTURED_REPLY was refused");
    let mut session = Session::go(haggle, target, ReplyMode::Extended, Vec::new())?;
    session.read(0, session.size().min(512))?;
    session.close()
}

fn extended_repeated(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    needs!(haggle.agree(ReplyMode::Extended)?, "the server has no extended headers");
    let replies = haggle.ask(opt::EXTENDED_HEADERS, &[])?;
    demand!(ack_or_invalid(&replies), "a second EXTENDED_HEADERS got {replies:?}");
    let mut session = Session::go(haggle, target, ReplyMode::Extended, Vec::new())?;
    session.read(0, session.size().min(512))?;
    session.close()
}
