//! FLUSH, as far as it can be seen from outside. What reaches the disk is the subject of `durable`.

use nbd::ReplyMode;
use nbd::wire::{TransmissionFlags, cmd};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, demand, transmission};
use crate::conformance::reply::EINVAL;
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "flush/works",
        Level::Must,
        "Request types: FLUSH succeeds, with and without writes before it",
        works,
    ),
    transmission(
        "flush/with-a-range",
        Level::Should,
        "Request types: offset and length of FLUSH are 0; others get EINVAL",
        with_a_range,
    ),
    transmission(
        "flush/many-in-flight",
        Level::Must,
        "Ordering of messages and writes: FLUSH and WRITE may be in flight together; each gets one reply",
        many_in_flight,
    ),
];

fn open(target: &Target, mode: ReplyMode) -> Outcome<Session> {
    let session = Session::open(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_FLUSH)?;
    Ok(session)
}

fn works(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    session.done(&Ask::flush())?;
    if session.is_writable() && session.size() >= 1 << 20 {
        let data = Rng::new(110).bytes(65536);
        session.write(0, &data)?;
        session.done(&Ask::flush())?;
        session.expect_data("after FLUSH", 0, &data)?;
    }
    session.done(&Ask::flush())?;
    session.close()
}

fn with_a_range(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    for (offset, len) in [(0, 512), (512, 0), (4096, 4096), (u64::MAX, 1)] {
        session.ask(&Ask::new(cmd::FLUSH, offset, len))?.error_in(&[EINVAL])?;
    }
    session.close()
}

fn many_in_flight(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    session.needs_writable(4 << 20)?;
    let asks: Vec<Ask> = (0..64u64)
        .flat_map(|index| [Ask::write(index * 16384, Rng::new(index).bytes(16384)), Ask::flush()])
        .collect();
    let replies = session.ask_all(&asks)?;
    demand!(replies.len() == asks.len(), "{} replies to {} requests", replies.len(), asks.len());
    for reply in replies {
        reply.success()?;
    }
    for index in 0..64 {
        session.expect_data("written beside FLUSH", index * 16384, &Rng::new(index).bytes(16384))?;
    }
    session.close()
}
