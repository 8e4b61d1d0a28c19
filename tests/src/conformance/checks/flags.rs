//! Each command with each flag, and unknown commands.

use nbd::ReplyMode;
use nbd::wire::{CommandFlags, TransmissionFlags, cmd};

use super::bounds::needs_command;
use crate::conformance::check::{Check, Level, Outcome, demand, failed, needs, transmission};
use crate::conformance::reply::{EINVAL, ENOTSUP, EOVERFLOW, EPERM};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "flags/read",
        Level::Must,
        "Command flags: READ takes DF and FUA where announced; any other flag gets EINVAL",
        |target, mode| each_bit(target, mode, cmd::READ),
    ),
    transmission(
        "flags/write",
        Level::Must,
        "Command flags: WRITE takes FUA where announced; any other flag gets EINVAL, and the payload is read away",
        |target, mode| each_bit(target, mode, cmd::WRITE),
    ),
    transmission(
        "flags/flush",
        Level::Must,
        "Command flags: FLUSH takes FUA where announced; any other flag gets EINVAL",
        |target, mode| each_bit(target, mode, cmd::FLUSH),
    ),
    transmission(
        "flags/trim",
        Level::Must,
        "Command flags: TRIM takes FUA where announced; any other flag gets EINVAL",
        |target, mode| each_bit(target, mode, cmd::TRIM),
    ),
    transmission(
        "flags/cache",
        Level::Must,
        "Command flags: CACHE takes FUA where announced; any other flag gets EINVAL",
        |target, mode| each_bit(target, mode, cmd::CACHE),
    ),
    transmission(
        "flags/zeroes",
        Level::Must,
        "Command flags: WRITE_ZEROES takes FUA, NO_HOLE and FAST_ZERO where announced; any other flag gets EINVAL",
        |target, mode| each_bit(target, mode, cmd::WRITE_ZEROES),
    ),
    transmission(
        "flags/status",
        Level::Must,
        "Command flags: BLOCK_STATUS takes REQ_ONE and FUA where announced; any other flag gets EINVAL",
        |target, mode| each_bit(target, mode, cmd::BLOCK_STATUS),
    ),
    transmission(
        "flags/fast-zero-not-announced",
        Level::Must,
        "Command flags: FAST_ZERO that was not announced gets EINVAL",
        fast_zero,
    ),
    transmission(
        "flags/unknown-command",
        Level::Must,
        "Request types: an unknown command gets EINVAL; its length field says nothing about a payload",
        unknown_command,
    ),
    transmission(
        "flags/commands-not-announced",
        Level::Should,
        "Transmission flags: a command that was not announced gets EINVAL",
        not_announced,
    ),
];

/// What a server says to a flag on a command.
enum Expected {
    Success,
    Invalid,
    /// It is legal, but may fail for reasons of its own.
    Either(&'static [u32]),
}

fn expected(session: &Session, kind: u16, flag: CommandFlags) -> Expected {
    let given = |bit| if session.has(bit) { Expected::Success } else { Expected::Invalid };
    match (kind, flag) {
        // "the server MUST accept" FUA on every command, where announced; some take it on CACHE for an unknown flag.
        (cmd::CACHE, CommandFlags::FUA) => Expected::Either(&[0, EINVAL]),
        (_, CommandFlags::FUA) => given(TransmissionFlags::SEND_FUA),
        (cmd::READ, CommandFlags::DF) => given(TransmissionFlags::SEND_DF),
        (cmd::WRITE_ZEROES, CommandFlags::NO_HOLE) => Expected::Success,
        (cmd::WRITE_ZEROES, CommandFlags::FAST_ZERO) if session.has(TransmissionFlags::SEND_FAST_ZERO) => {
            Expected::Either(&[0, ENOTSUP])
        }
        (cmd::BLOCK_STATUS, CommandFlags::REQ_ONE) => Expected::Success,
        // The session sets it on each extended WRITE.
        (cmd::WRITE, CommandFlags::PAYLOAD_LEN) if session.mode == ReplyMode::Extended => Expected::Success,
        _ => Expected::Invalid,
    }
}

/// The plain request that gets a flag added.
fn plain(session: &Session, kind: u16, flag: CommandFlags) -> Ask {
    let block = session.facts.minimum().max(4096);
    match kind {
        cmd::FLUSH => Ask::flush(),
        cmd::WRITE => Ask::write(block, vec![0x33; block as usize]),
        // The length is that of a payload then.
        _ if flag == CommandFlags::PAYLOAD_LEN && session.mode == ReplyMode::Extended => {
            Ask { payload: vec![0x44; 512], ..Ask::new(kind, block, 512) }
        }
        _ => Ask::new(kind, block, block),
    }
}

fn each_bit(target: &Target, mode: ReplyMode, kind: u16) -> Outcome {
    let mut session = Session::open(target, mode)?;
    needs_command(&session, kind)?;
    for bit in 0..16 {
        let flag = CommandFlags::from_bits_retain(1 << bit);
        // A check of its own: there are servers that do not survive it.
        let unannounced = !session.has(TransmissionFlags::SEND_FAST_ZERO);
        if kind == cmd::WRITE_ZEROES && flag == CommandFlags::FAST_ZERO && unannounced {
            continue;
        }
        let ask = plain(&session, kind, flag).with(flag);
        let reply = session.ask(&ask)?;
        match expected(&session, kind, flag) {
            Expected::Success => reply.error_in(&[0])?,
            Expected::Invalid => reply.error_in(&[EINVAL])?,
            Expected::Either(errors) => reply.error_in(errors)?,
        }
    }
    let most = !(CommandFlags::PAYLOAD_LEN | CommandFlags::FAST_ZERO).bits();
    let reply = session.ask(&plain(&session, kind, CommandFlags::empty()).with_bits(most))?;
    reply.error_in(&[EINVAL])?;
    session.close()
}

fn fast_zero(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    needs_command(&session, cmd::WRITE_ZEROES)?;
    needs!(!session.has(TransmissionFlags::SEND_FAST_ZERO), "the server announces FAST_ZERO");
    session.ask(&Ask::zeroes(0, 4096).with(CommandFlags::FAST_ZERO))?.error_in(&[EINVAL])?;
    session.close()
}

fn unknown_command(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    for kind in [9, 10, 77, 0x100, 0x8000, 0xffff] {
        for (offset, len) in [(0, 0), (0, 512), (4096, 0xffff_ffff), (u64::MAX, 1)] {
            session.ask(&Ask::new(kind, offset, len))?.error_in(&[EINVAL])?;
        }
    }
    session.close()
}

fn not_announced(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let commands = [
        (cmd::FLUSH, TransmissionFlags::SEND_FLUSH),
        (cmd::TRIM, TransmissionFlags::SEND_TRIM),
        (cmd::WRITE_ZEROES, TransmissionFlags::SEND_WRITE_ZEROES),
        (cmd::RESIZE, TransmissionFlags::SEND_RESIZE),
    ];
    let allowed: &[u32] = if session.is_writable() { &[EINVAL] } else { &[EINVAL, EPERM] };
    for (kind, flag) in commands {
        if session.has(flag) {
            continue;
        }
        let ask = if kind == cmd::FLUSH { Ask::flush() } else { Ask::new(kind, 0, 512) };
        let reply = session.ask(&ask)?;
        // Flushing where nothing is ever written is harmless.
        let harmless = kind == cmd::FLUSH && !session.is_writable() && reply.error == 0;
        demand!(harmless || allowed.contains(&reply.error), "{} got error {}", reply.asked, reply.error);
    }
    // Clients do send it unannounced: success without effect is as right as an error.
    if !session.has(TransmissionFlags::SEND_CACHE) {
        let reply = session.ask(&Ask::new(cmd::CACHE, 0, session.size().min(4096)))?;
        let fine = [0, EINVAL, EOVERFLOW, ENOTSUP].contains(&reply.error);
        if !fine {
            return failed(format!("{} got error {}", reply.asked, reply.error));
        }
    }
    session.close()
}
