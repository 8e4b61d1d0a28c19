//! CACHE.

use nbd::ReplyMode;
use nbd::wire::{TransmissionFlags, cmd};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, transmission};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[transmission(
    "cache/changes-nothing",
    Level::Must,
    "Request types: CACHE is a hint; data are the same before and after",
    changes_nothing,
)];

fn changes_nothing(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_CACHE)?;
    session.needs_writable(4 << 20)?;
    let data = Rng::new(120).bytes(1 << 20);
    session.write(0, &data)?;
    let unit = session.facts.minimum();
    for (offset, len) in [(0, 1 << 20), (unit, unit), (4096, 65536)] {
        session.done(&Ask::new(cmd::CACHE, offset, len))?;
    }
    session.expect_data("after CACHE", 0, &data)?;
    session.close()
}
