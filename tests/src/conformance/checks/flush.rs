//! FLUSH, as far as it can be seen from outside. What reaches the disk is the subject of `durable`.

use nbd::ReplyMode;
use nbd::wire::{TransmissionFlags, cmd};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
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
    transmission(
        "flush/failure-is-told-to-all",
        Level::Chosen,
        "Transmission flags: a FLUSH of a multi-conn export that failed may have lost any connection's data, so that \
         the next FLUSH of each fails",
        failure_is_told_to_all,
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

/// Says something only about a server whose disk fails a flush, which none does by itself.
fn failure_is_told_to_all(target: &Target, mode: ReplyMode) -> Outcome {
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(open(target, mode)?);
    }
    sessions[0].needs_flag(TransmissionFlags::CAN_MULTI_CONN)?;
    sessions[0].needs_writable(1 << 20)?;
    for (index, session) in (0..).zip(&mut sessions) {
        session.write(index * 65536, &Rng::new(index).bytes(65536))?;
    }
    let first = sessions[0].ask(&Ask::flush())?;
    needs!(first.error != 0, "no flush failed");
    for session in &mut sessions[1..] {
        let reply = session.ask(&Ask::flush())?;
        demand!(
            reply.error != 0,
            "FLUSH succeeded after one on another connection got error {}",
            first.error
        );
    }
    sessions.into_iter().try_for_each(Session::close)
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
