//! TRIM.

use nbd::ReplyMode;
use nbd::wire::{CommandFlags, TransmissionFlags};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, transmission};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "trim/keeps-neighbours",
        Level::Must,
        "Request types: TRIM makes the contents of its own range undefined and touches no byte beside it",
        keeps_neighbours,
    ),
    transmission(
        "trim/can-be-written-again",
        Level::Must,
        "Request types: a trimmed range that is written again holds what was written",
        written_again,
    ),
    transmission("trim/fua", Level::Must, "Command flags: TRIM takes FUA where announced", fua),
];

fn open(target: &Target, mode: ReplyMode) -> Outcome<Session> {
    let session = Session::open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_TRIM)?;
    session.needs_writable(8 << 20)?;
    Ok(session)
}

const RANGES: [(u64, u64); 8] = [
    (1, 1),
    (511, 2),
    (512, 512),
    (4095, 4098),
    (4096, 4096),
    (10_000, 100_000),
    (65_537, 65_535),
    (131_072, 262_144),
];

fn keeps_neighbours(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let unit = session.facts.minimum();
    let data = Rng::new(90).bytes(1 << 20);
    for (offset, len) in RANGES {
        session.write(0, &data)?;
        let (offset, len) = (offset / unit * unit, len.next_multiple_of(unit));
        session.done(&Ask::trim(offset, len))?;
        let end = offset + len;
        session.expect_data(&format!("before TRIM of {offset}+{len}"), 0, &data[..offset as usize])?;
        session.expect_data(&format!("behind TRIM of {offset}+{len}"), end, &data[end as usize..])?;
    }
    session.close()
}

fn written_again(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let unit = session.facts.minimum();
    for (seed, (offset, len)) in (100..).zip(RANGES) {
        let (offset, len) = (offset / unit * unit, len.next_multiple_of(unit));
        session.done(&Ask::trim(offset, len))?;
        let data = Rng::new(seed).bytes(len as usize);
        session.write(offset, &data)?;
        session.expect_data("written after TRIM", offset, &data)?;
    }
    session.close()
}

fn fua(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_FUA)?;
    session.done(&Ask::trim(65536, 65536).with(CommandFlags::FUA))?;
    session.close()
}
