//! WRITE_ZEROES.

use std::os::unix::fs::MetadataExt as _;

use nbd::ReplyMode;
use nbd::wire::{CommandFlags, TransmissionFlags, context::STATE_HOLE};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, demand, needs, skip, transmission};
use crate::conformance::reply::ENOTSUP;
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "zeroes/read-back",
        Level::Must,
        "Request types: the range reads as zeroes afterwards, and no byte beside it changes",
        read_back,
    ),
    transmission(
        "zeroes/flags-read-back",
        Level::Must,
        "Request types: the range reads as zeroes with NO_HOLE, with FUA and with both",
        flags_read_back,
    ),
    transmission(
        "zeroes/no-hole-stays-allocated",
        Level::Should,
        "Command flags: with NO_HOLE the range must stay provisioned, so its status is not HOLE",
        no_hole,
    ),
    transmission(
        "zeroes/no-hole-allocates",
        Level::Should,
        "Command flags: NO_HOLE on a hole provisions it",
        no_hole_on_a_hole,
    ),
    transmission(
        "zeroes/no-hole-keeps-its-blocks",
        Level::Must,
        "Command flags: with NO_HOLE the file behind the export has blocks for the range afterwards",
        no_hole_on_the_disk,
    ),
    transmission(
        "zeroes/fast-is-all-or-nothing",
        Level::Should,
        "Command flags: FAST_ZERO zeroes the range, or fails with ENOTSUP and leaves the data alone",
        fast,
    ),
    transmission(
        "zeroes/slow-never-says-not-supported",
        Level::Must,
        "Command flags: without FAST_ZERO the command never fails with ENOTSUP",
        slow,
    ),
    transmission(
        "zeroes/longer-than-the-maximum-payload",
        Level::Must,
        "Block size constraints: WRITE_ZEROES has no payload, so that the maximum does not bind it",
        long,
    ),
];

const MIB: u64 = 1 << 20;

fn open(target: &Target, mode: ReplyMode) -> Outcome<Session> {
    let session = Session::open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_WRITE_ZEROES)?;
    session.needs_writable(8 * MIB)?;
    Ok(session)
}

/// Fills the first MiB with data.
fn fill(session: &mut Session, seed: u64) -> Outcome<Vec<u8>> {
    let data = Rng::new(seed).bytes(MIB as usize);
    session.write(0, &data)?;
    Ok(data)
}

const RANGES: [(u64, u64); 8] = [
    (0, 512),
    (4096, 4096),
    (1, 1),
    (511, 2),
    (4095, 4098),
    (10_000, 100_000),
    (131_072, 131_072),
    (300_001, 200_003),
];

fn read_back(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let unit = session.facts.minimum();
    for (seed, (offset, len)) in (20..).zip(RANGES) {
        let mut model = fill(&mut session, seed)?;
        let (offset, len) = (offset / unit * unit, len.next_multiple_of(unit));
        session.done(&Ask::zeroes(offset, len))?;
        model[offset as usize..(offset + len) as usize].fill(0);
        session.expect_data("after WRITE_ZEROES", 0, &model)?;
    }
    session.close()
}

fn flags_read_back(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let unit = session.facts.minimum();
    let fua =
        if session.has(TransmissionFlags::SEND_FUA) { CommandFlags::FUA } else { CommandFlags::empty() };
    for flags in [CommandFlags::NO_HOLE, fua, CommandFlags::NO_HOLE | fua] {
        for (seed, (offset, len)) in (40..).zip(RANGES) {
            let mut model = fill(&mut session, seed)?;
            let (offset, len) = (offset / unit * unit, len.next_multiple_of(unit));
            session.done(&Ask::zeroes(offset, len).with(flags))?;
            model[offset as usize..(offset + len) as usize].fill(0);
            session.expect_data(&format!("after WRITE_ZEROES with {flags:?}"), 0, &model)?;
        }
    }
    session.close()
}

/// Fails if any of the range is a hole.
fn expect_allocated(session: &mut Session, offset: u64, len: u64) -> Outcome {
    let mut at = offset;
    while at < offset + len {
        let reply = session.ask(&Ask::status(at, offset + len - at))?.success()?;
        let hole = reply.extents().iter().find(|extent| extent.status & STATE_HOLE != 0);
        demand!(hole.is_none(), "{hole:?} in {offset:#x}+{len:#x} although NO_HOLE was set");
        at += reply.extents().iter().map(|extent| extent.len).sum::<u64>();
    }
    Ok(())
}

fn no_hole(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    needs!(!session.contexts.is_empty(), "the server has no base:allocation");
    for (offset, len) in [(0, 65536), (131_072, 4096), (262_144, 262_144)] {
        fill(&mut session, 60)?;
        session.done(&Ask::zeroes(offset, len).with(CommandFlags::NO_HOLE))?;
        expect_allocated(&mut session, offset, len)?;
    }
    session.close()
}

fn no_hole_on_a_hole(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    needs!(!session.contexts.is_empty(), "the server has no base:allocation");
    for (offset, len) in [(0, 65536), (131_072, 4096), (262_144, 262_144)] {
        session.done(&Ask::zeroes(0, MIB))?;
        session.done(&Ask::zeroes(offset, len).with(CommandFlags::NO_HOLE))?;
        expect_allocated(&mut session, offset, len)?;
    }
    session.close()
}

fn no_hole_on_the_disk(target: &Target, mode: ReplyMode) -> Outcome {
    let Some(image) = &target.image else {
        return skip("the file behind the export is not known");
    };
    let mut session = open(target, mode)?;
    // MetadataExt::blocks counts 512 bytes each, whatever the file system's block is.
    let allocated = || image.metadata().map(|facts| facts.blocks() * 512);
    session.done(&Ask::zeroes(0, session.size().min(0xffff_f000)))?;
    session.done(&Ask::trim(0, session.size().min(0xffff_f000)))?;
    let before = allocated()?;
    for (offset, len) in [(0, MIB), (2 * MIB, MIB), (4 * MIB, 2 * MIB)] {
        session.done(&Ask::zeroes(offset, len).with(CommandFlags::NO_HOLE))?;
    }
    let grown = allocated()?.saturating_sub(before);
    // The file system's own blocks for the file may become fewer meanwhile.
    demand!(
        grown >= 4 * MIB - 65536,
        "the file has {grown} bytes of blocks more after 4 MiB of zeroes with NO_HOLE"
    );
    session.close()
}

fn fast(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_FAST_ZERO)?;
    let unit = session.facts.minimum();
    for more in [CommandFlags::empty(), CommandFlags::NO_HOLE] {
        for (seed, (offset, len)) in (70..).zip(RANGES) {
            let mut model = fill(&mut session, seed)?;
            let (offset, len) = (offset / unit * unit, len.next_multiple_of(unit));
            let reply = session.ask(&Ask::zeroes(offset, len).with(CommandFlags::FAST_ZERO | more))?;
            if reply.error == 0 {
                model[offset as usize..(offset + len) as usize].fill(0);
            }
            let error = reply.error;
            reply.error_in(&[0, ENOTSUP])?;
            let what = format!("FAST_ZERO with {more:?} of {offset}+{len} got {error}");
            session.expect_data(&what, 0, &model)?;
        }
    }
    session.close()
}

fn slow(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let unit = session.facts.minimum();
    for flags in [CommandFlags::empty(), CommandFlags::NO_HOLE] {
        for (offset, len) in RANGES {
            let (offset, len) = (offset / unit * unit, len.next_multiple_of(unit));
            session.done(&Ask::zeroes(offset, len).with(flags))?;
        }
    }
    session.close()
}

fn long(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let len = session.facts.payload_max().min(1 << 30) + 65536;
    needs!(session.size() >= len + 4096, "the export is smaller than {len} bytes");
    let end = Rng::new(80).bytes(8192);
    session.write(len - 4096, &end)?;
    session.done(&Ask::zeroes(0, len))?;
    let expected = [&[0; 4096], &end[4096..]].concat();
    session.expect_data("at the end of a long WRITE_ZEROES", len - 4096, &expected)?;
    session.close()
}
