//! Each command at the edges of the export.

use nbd::ReplyMode;
use nbd::wire::{TransmissionFlags, cmd};

use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
use crate::conformance::reply::{EINVAL, ENOSPC, EOVERFLOW};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "bounds/read-inside",
        Level::Must,
        "Request types: a READ that lies inside the export succeeds, up to its last byte",
        |target, mode| inside(target, mode, cmd::READ),
    ),
    transmission(
        "bounds/read-outside",
        Level::Must,
        "Request types: a READ beyond the end, also by wrapping around, fails",
        |target, mode| outside(target, mode, cmd::READ),
    ),
    transmission(
        "bounds/write-inside",
        Level::Must,
        "Request types: a WRITE that lies inside the export succeeds, up to its last byte",
        |target, mode| inside(target, mode, cmd::WRITE),
    ),
    transmission(
        "bounds/write-outside",
        Level::Must,
        "Request types: a WRITE beyond the end, also by wrapping around, fails and writes nothing",
        |target, mode| outside(target, mode, cmd::WRITE),
    ),
    transmission(
        "bounds/trim-inside",
        Level::Must,
        "Request types: a TRIM that lies inside the export succeeds, up to its last byte",
        |target, mode| inside(target, mode, cmd::TRIM),
    ),
    transmission(
        "bounds/trim-outside",
        Level::Must,
        "Request types: a TRIM beyond the end, also by wrapping around, fails and trims nothing",
        |target, mode| outside(target, mode, cmd::TRIM),
    ),
    transmission(
        "bounds/zeroes-inside",
        Level::Must,
        "Request types: a WRITE_ZEROES that lies inside the export succeeds, up to its last byte",
        |target, mode| inside(target, mode, cmd::WRITE_ZEROES),
    ),
    transmission(
        "bounds/zeroes-outside",
        Level::Must,
        "Request types: a WRITE_ZEROES beyond the end, also by wrapping around, fails and writes nothing",
        |target, mode| outside(target, mode, cmd::WRITE_ZEROES),
    ),
    transmission(
        "bounds/cache-inside",
        Level::Must,
        "Request types: a CACHE that lies inside the export succeeds, up to its last byte",
        |target, mode| inside(target, mode, cmd::CACHE),
    ),
    transmission(
        "bounds/cache-outside",
        Level::Must,
        "Request types: a CACHE beyond the end, also by wrapping around, fails",
        |target, mode| outside(target, mode, cmd::CACHE),
    ),
    transmission(
        "bounds/status-inside",
        Level::Must,
        "Request types: a BLOCK_STATUS that lies inside the export succeeds, up to its last byte",
        |target, mode| inside(target, mode, cmd::BLOCK_STATUS),
    ),
    transmission(
        "bounds/status-outside",
        Level::Must,
        "Request types: a BLOCK_STATUS beyond the end, also by wrapping around, fails",
        |target, mode| outside(target, mode, cmd::BLOCK_STATUS),
    ),
    transmission(
        "bounds/error-numbers",
        Level::Should,
        "Error values: beyond the end, WRITE and WRITE_ZEROES get ENOSPC, the other commands EINVAL",
        error_numbers,
    ),
    transmission(
        "bounds/zero-length",
        Level::Must,
        "Request types: a request of no length has no defined result, but one reply",
        zero_length,
    ),
    transmission(
        "bounds/zero-length-succeeds",
        Level::Chosen,
        "Request types: reading and writing nothing succeeds; the status of nothing gets EINVAL",
        zero_length_succeeds,
    ),
    transmission(
        "bounds/long-without-payload",
        Level::Chosen,
        "Block size constraints: the maximum binds payloads only; TRIM, WRITE_ZEROES, CACHE and BLOCK_STATUS \
         succeed on \
         the whole export",
        long_without_payload,
    ),
    transmission(
        "bounds/64-bit-lengths",
        Level::Must,
        "Extended request message: a length of 64 bits is not cut to 32",
        long_lengths,
    ),
];

/// Skips the check unless the server has the command.
pub(super) fn needs_command(session: &Session, kind: u16) -> Outcome {
    let flag = match kind {
        cmd::TRIM => TransmissionFlags::SEND_TRIM,
        cmd::CACHE => TransmissionFlags::SEND_CACHE,
        cmd::WRITE_ZEROES => TransmissionFlags::SEND_WRITE_ZEROES,
        cmd::FLUSH => TransmissionFlags::SEND_FLUSH,
        _ => TransmissionFlags::empty(),
    };
    session.needs_flag(flag)?;
    if matches!(kind, cmd::WRITE | cmd::TRIM | cmd::WRITE_ZEROES) {
        session.needs_writable(1 << 20)?;
    }
    needs!(kind != cmd::BLOCK_STATUS || !session.contexts.is_empty(), "the server has no base:allocation");
    needs!(session.size() >= 1 << 20, "the export is smaller than 1 MiB");
    Ok(())
}

/// A request with a payload if the command has one.
fn ask(kind: u16, offset: u64, len: u64) -> Ask {
    match kind {
        cmd::WRITE => Ask::write(offset, vec![0x77; len as usize]),
        _ => Ask::new(kind, offset, len),
    }
}

fn inside(target: &Target, mode: ReplyMode, kind: u16) -> Outcome {
    let mut session = Session::open(target, mode)?;
    needs_command(&session, kind)?;
    let (size, unit) = (session.size(), session.facts.minimum());
    let block = unit.max(512);
    let ranges = [
        (0, unit),
        (0, block),
        (unit, unit),
        (size - unit, unit),
        (size - block, block),
        (size - 64 * block, 64 * block),
        (size / 2 / unit * unit, block),
    ];
    for (offset, len) in ranges {
        session.done(&ask(kind, offset, len))?;
    }
    session.close()
}

fn outside(target: &Target, mode: ReplyMode, kind: u16) -> Outcome {
    let mut session = Session::open(target, mode)?;
    needs_command(&session, kind)?;
    let (size, unit) = (session.size(), session.facts.minimum());
    let tail = session.read(size - 4096, 4096)?;
    let align = |offset: u64| offset / unit * unit;
    let mut ranges = vec![
        (size, unit),
        (size - unit, 2 * unit),
        (size + unit, unit),
        (size - 4096, 4096 + unit),
        (1 << 63, unit),
        (align(u64::MAX), unit),
        (align(u64::MAX - 511), 1024),
        (align(u64::MAX), 65536),
    ];
    // Lengths that no client has a payload for; and the whole range, so that a wrap of 32 bits shows.
    if kind != cmd::WRITE {
        ranges.extend([
            (1 << 63, 0xffff_ffff / unit * unit),
            (size - unit, 0x8000_0000),
            (size, 0xffff_f000),
        ]);
    }
    for (offset, len) in ranges {
        session.ask(&ask(kind, offset, len))?.error_in(&[EINVAL, ENOSPC, EOVERFLOW])?;
    }
    session.expect_data("a refused request changed the end of the export", size - 4096, &tail)?;
    session.close()
}

fn error_numbers(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let (size, unit) = (session.size(), session.facts.minimum());
    for kind in emptyable(&session) {
        let error = if matches!(kind, cmd::WRITE | cmd::WRITE_ZEROES) { ENOSPC } else { EINVAL };
        for (offset, len) in [(size, unit), (size - unit, 2 * unit), (1 << 63, 4096)] {
            session.ask(&ask(kind, offset, len))?.error_in(&[error])?;
        }
    }
    session.close()
}

/// Commands that the server has, with which nothing can be asked for.
fn emptyable(session: &Session) -> Vec<u16> {
    [cmd::READ, cmd::WRITE, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS]
        .into_iter()
        .filter(|kind| needs_command(session, *kind).is_ok())
        .collect()
}

fn zero_length(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    for kind in emptyable(&session) {
        for offset in [0, session.size() / 2, session.size(), session.size() + 1, 1 << 63, u64::MAX] {
            let reply = session.ask(&ask(kind, offset, 0))?;
            let fine = [0, EINVAL, ENOSPC, EOVERFLOW].contains(&reply.error);
            demand!(fine, "{} got error {}", reply.asked, reply.error);
        }
    }
    session.close()
}

fn zero_length_succeeds(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    for kind in emptyable(&session) {
        for offset in [0, session.size() / 2, session.size()] {
            let reply = session.ask(&ask(kind, offset, 0))?;
            reply.error_in(&[if kind == cmd::BLOCK_STATUS { EINVAL } else { 0 }])?;
        }
    }
    session.close()
}

fn long_without_payload(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let most = if mode == ReplyMode::Extended { u64::MAX } else { 0xffff_f000 };
    let len = session.size().min(most);
    for kind in [cmd::TRIM, cmd::WRITE_ZEROES, cmd::CACHE, cmd::BLOCK_STATUS] {
        if needs_command(&session, kind).is_ok() {
            session.done(&ask(kind, 0, len))?;
            session.done(&ask(kind, session.size() - len, len))?;
        }
    }
    session.close()
}

fn long_lengths(target: &Target, mode: ReplyMode) -> Outcome {
    needs!(mode == ReplyMode::Extended, "only extended headers have lengths of 64 bits");
    let mut session = Session::open(target, mode)?;
    for kind in [cmd::READ, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS] {
        if needs_command(&session, kind).is_err() {
            continue;
        }
        for len in [(1 << 32) + 512, 1 << 40, 1 << 63, u64::MAX - 4095, u64::MAX] {
            let beyond = len > session.size();
            let reply = session.ask(&ask(kind, 0, if beyond { len } else { u64::MAX }))?;
            reply.error_in(&[EINVAL, ENOSPC, EOVERFLOW])?;
        }
    }
    session.close()
}
