//! EXPORT_NAME, as old clients use it.

use nbd::ReplyMode;
use nbd::wire::{ClientFlags, HandshakeFlags, opt};

use crate::conformance::check::{Check, Level, Outcome, demand, handshake, needs};
use crate::conformance::haggle::{Haggle, encode};
use crate::conformance::session::Session;
use crate::conformance::target::{Announced, Target};

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "export-name/with-zeroes",
        Level::Must,
        "Option types: EXPORT_NAME gets size, flags and 124 zeroes, then the transmission begins",
        with_zeroes,
    ),
    handshake(
        "export-name/without-zeroes",
        Level::Must,
        "Option types: EXPORT_NAME gets no zeroes where both sides set NO_ZEROES",
        without_zeroes,
    ),
    handshake(
        "export-name/without-fixed-newstyle",
        Level::Must,
        "Newstyle negotiation: EXPORT_NAME works for clients without fixed newstyle",
        without_fixed_newstyle,
    ),
    handshake(
        "export-name/structured",
        Level::Must,
        "Option types: EXPORT_NAME after STRUCTURED_REPLY opens the export with structured replies",
        structured,
    ),
];

/// Opens the export and reads; `zeroes`: how many must stand behind the answer.
fn open(mut haggle: Haggle, target: &Target, mode: ReplyMode, zeroes: usize) -> Outcome {
    haggle.wire.send(&encode(opt::EXPORT_NAME, &target.name))?;
    let size = haggle.wire.receive_u64()?;
    let flags = haggle.wire.receive_u16()?;
    let padding = haggle.wire.receive(zeroes)?;
    demand!(padding.iter().all(|byte| *byte == 0), "the zeroes are {padding:02x?}");
    let announced = target.facts(mode)?;
    demand!(size == announced.size, "EXPORT_NAME says {size} bytes, GO {}", announced.size);
    demand!(flags == announced.flags, "EXPORT_NAME says flags {flags:#06x}, GO {:#06x}", announced.flags);
    let facts = Announced { size, flags, block_sizes: None };
    let mut session = Session::new(haggle.wire, mode, facts, Vec::new());
    session.read(0, session.size().min(4096))?;
    session.close()
}

fn with_zeroes(target: &Target) -> Outcome {
    let haggle = Haggle::start_with(target, ClientFlags::FIXED_NEWSTYLE.bits())?;
    open(haggle, target, ReplyMode::Simple, 124)
}

fn without_zeroes(target: &Target) -> Outcome {
    let offered = target.handshake_flags.contains(HandshakeFlags::NO_ZEROES);
    needs!(offered, "the server does not offer NO_ZEROES");
    open(Haggle::start(target)?, target, ReplyMode::Simple, 0)
}

fn without_fixed_newstyle(target: &Target) -> Outcome {
    open(Haggle::start_with(target, 0)?, target, ReplyMode::Simple, 124)
}

fn structured(target: &Target) -> Outcome {
    let mut haggle = Haggle::start_with(target, ClientFlags::FIXED_NEWSTYLE.bits())?;
    needs!(haggle.agree(ReplyMode::Structured)?, "the server has no structured replies");
    open(haggle, target, ReplyMode::Structured, 124)
}
