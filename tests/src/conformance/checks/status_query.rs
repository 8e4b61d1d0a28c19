//! BLOCK_STATUS with a payload that names range and contexts.

use nbd::ReplyMode;
use nbd::wire::{CommandFlags, TransmissionFlags};

use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
use crate::conformance::reply::{EINVAL, EOVERFLOW};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "status-query/selects",
        Level::Must,
        "Extended request message: a payload of BLOCK_STATUS names range and contexts; exactly those are told",
        selects,
    ),
    transmission(
        "status-query/bad-ids",
        Level::Must,
        "Extended request message: unknown and repeated ids get EINVAL, and the payload is read away",
        bad_ids,
    ),
    transmission(
        "status-query/bad-lengths",
        Level::Must,
        "Extended request message: a payload that is not 8 + 4 n bytes gets EINVAL and is read away",
        bad_lengths,
    ),
    transmission(
        "status-query/outside",
        Level::Must,
        "Request types: a range beyond the end of the export gets EINVAL",
        outside,
    ),
    transmission(
        "status-query/not-announced",
        Level::Must,
        "Transmission flags: a payload of BLOCK_STATUS that was not announced is read away and gets EINVAL",
        not_announced,
    ),
];

fn open(target: &Target, mode: ReplyMode) -> Outcome<Session> {
    needs!(mode == ReplyMode::Extended, "only extended headers have payloads of BLOCK_STATUS");
    let session = Session::open(target, mode)?;
    session.needs_flag(TransmissionFlags::BLOCK_STATUS_PAYLOAD)?;
    needs!(!session.contexts.is_empty(), "the server has no base:allocation");
    needs!(session.size() >= 1 << 20, "the export is smaller than 1 MiB");
    Ok(session)
}

fn selects(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let id = session.contexts[0].0;
    for (offset, len) in [(0, 4096), (65536, 1 << 19), (0, session.size())] {
        let reply = session.ask(&Ask::status_query(offset, len, &[id]))?.success()?;
        demand!(reply.statuses.len() == 1, "{} contexts told for one id", reply.statuses.len());
        let one = Ask::status_query(offset, len, &[id]).with(CommandFlags::REQ_ONE);
        session.done(&one)?;
    }
    session.close()
}

fn bad_ids(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let id = session.contexts[0].0;
    for ids in [&[id, id][..], &[id.wrapping_add(77)], &[id, id.wrapping_add(77)], &[u32::MAX]] {
        session.ask(&Ask::status_query(0, 4096, ids))?.error_in(&[EINVAL])?;
    }
    session.close()
}

fn bad_lengths(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let id = session.contexts[0].0;
    let good = Ask::status_query(0, 4096, &[id]);
    for len in [0, 1, 4, 7, 9, 11, 13, 15] {
        let payload: Vec<u8> = good.payload.iter().copied().cycle().take(len).collect();
        let ask = Ask { len: len as u64, payload, ..good.clone() };
        session.ask(&ask)?.error_in(&[EINVAL])?;
    }
    session.close()
}

fn outside(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let id = session.contexts[0].0;
    let size = session.size();
    for (offset, len) in [(size, 512), (size - 512, 1024), (1 << 63, 512), (512, u64::MAX), (0, size + 512)] {
        session.ask(&Ask::status_query(offset, len, &[id]))?.error_in(&[EINVAL, EOVERFLOW])?;
    }
    session.close()
}

fn not_announced(target: &Target, mode: ReplyMode) -> Outcome {
    needs!(mode == ReplyMode::Extended, "only extended headers have payloads of BLOCK_STATUS");
    let mut session = Session::open_with(target, mode, &[])?;
    let announced = session.has(TransmissionFlags::BLOCK_STATUS_PAYLOAD);
    let ask = Ask::status_query(0, 4096, &[1]);
    // Announced although no context is selected: then it is the context that is wrong.
    demand!(!announced || session.contexts.is_empty(), "no context was asked for");
    session.ask(&ask)?.error_in(&[EINVAL])?;
    session.close()
}
