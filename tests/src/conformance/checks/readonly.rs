//! Exports that refuse writes.

use nbd::ReplyMode;
use nbd::wire::{TransmissionFlags, cmd};

use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
use crate::conformance::reply::EPERM;
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "readonly/refuses-changes",
        Level::Must,
        "Transmission flags: with READ_ONLY set, WRITE, TRIM and WRITE_ZEROES get EPERM and change nothing",
        refuses_changes,
    ),
    transmission(
        "readonly/reads",
        Level::Must,
        "Transmission flags: with READ_ONLY set, READ and BLOCK_STATUS work, and FLUSH where announced",
        reads,
    ),
];

fn read_only(target: &Target, mode: ReplyMode) -> Outcome<Session> {
    let session = Session::open(target, mode)?;
    needs!(!session.is_writable(), "the export can be written");
    needs!(session.size() >= 65536, "the export is smaller than 64 KiB");
    Ok(session)
}

fn refuses_changes(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = read_only(target, mode)?;
    let before = session.read(0, 65536)?;
    for len in [512, 4096, 65536] {
        session.ask(&Ask::write(0, vec![0xee; len]))?.error_in(&[EPERM])?;
        for kind in [cmd::TRIM, cmd::WRITE_ZEROES] {
            session.ask(&Ask::new(kind, 0, len as u64))?.error_in(&[EPERM])?;
        }
    }
    session.expect_data("a read-only export", 0, &before)?;
    session.close()
}

fn reads(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = read_only(target, mode)?;
    session.read(0, 65536)?;
    if !session.contexts.is_empty() {
        session.done(&Ask::status(0, 65536))?;
    }
    if session.has(TransmissionFlags::SEND_FLUSH) {
        session.done(&Ask::flush())?;
    }
    demand!(!session.is_writable(), "the export was read-only a moment ago");
    session.close()
}
