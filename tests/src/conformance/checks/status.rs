//! BLOCK_STATUS of `base:allocation`. What every reply must keep is judged with the reply.

use nbd::ReplyMode;
use nbd::wire::{
    CommandFlags, TransmissionFlags,
    context::{STATE_HOLE, STATE_ZERO},
};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
use crate::conformance::reply::{EINVAL, Extent};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "status/without-contexts",
        Level::Must,
        "Request types: BLOCK_STATUS without a selected context gets EINVAL",
        without_contexts,
    ),
    transmission(
        "status/can-be-walked",
        Level::Must,
        "Structured reply types: extents follow each other from the requested offset and reach the end of the export",
        can_be_walked,
    ),
    transmission(
        "status/ends-with-the-export",
        Level::Must,
        "Structured reply types: no extent reaches beyond the end of the export",
        ends_with_the_export,
    ),
    transmission(
        "status/req-one",
        Level::Must,
        "Command flags: REQ_ONE gives exactly one extent, not longer than the request",
        req_one,
    ),
    transmission(
        "status/written-is-allocated",
        Level::Must,
        "Metadata querying: what was written is neither HOLE nor ZERO",
        written,
    ),
    transmission(
        "status/zero-reads-as-zero",
        Level::Must,
        "Metadata querying: what has the status ZERO reads as zeroes",
        zero_is_zero,
    ),
    transmission(
        "status/only-known-bits",
        Level::Must,
        "Metadata querying: bits of base:allocation other than HOLE and ZERO are 0",
        known_bits,
    ),
    transmission(
        "status/long-request",
        Level::Must,
        "Request types: BLOCK_STATUS has no payload, so that the maximum does not bind its length",
        long_request,
    ),
    transmission(
        "status/neighbours-differ",
        Level::Should,
        "Structured reply types: neighbouring extents have different statuses",
        neighbours_differ,
    ),
];

const BLOCK: u64 = 65536;

fn open(target: &Target, mode: ReplyMode) -> Outcome<Session> {
    let session = Session::open(target, mode)?;
    needs!(!session.contexts.is_empty(), "the server has no base:allocation");
    Ok(session)
}

/// Data and zeroes in turns: the first `2 * pairs` blocks.
fn stripes(session: &mut Session, pairs: u64) -> Outcome {
    session.needs_writable(2 * pairs * BLOCK + (1 << 20))?;
    if session.has(TransmissionFlags::SEND_WRITE_ZEROES) {
        session.done(&Ask::zeroes(0, 2 * pairs * BLOCK))?;
    }
    for index in 0..pairs {
        session.write(2 * index * BLOCK, &Rng::new(index).bytes(BLOCK as usize))?;
    }
    Ok(())
}

/// Extents from `offset` to `end`, by as many requests as it takes; the last one may reach beyond.
fn walk(session: &mut Session, offset: u64, end: u64) -> Outcome<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut at = offset;
    while at < end {
        let reply = session.ask(&Ask::status(at, (end - at).min(0xffff_0000)))?.success()?;
        at += reply.extents().iter().map(|extent| extent.len).sum::<u64>();
        extents.extend_from_slice(reply.extents());
        demand!(extents.len() < 1 << 20, "the walk over the export does not end");
    }
    Ok(extents)
}

fn without_contexts(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open_with(target, mode, &[])?;
    let len = session.size().min(4096);
    session.ask(&Ask::status(0, len))?.error_in(&[EINVAL])?;
    session.ask(&Ask::status(0, len).with(CommandFlags::REQ_ONE))?.error_in(&[EINVAL])?;
    session.close()
}

fn can_be_walked(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    stripes(&mut session, 16)?;
    let size = session.size();
    let sum: u64 = walk(&mut session, 0, size)?.iter().map(|extent| extent.len).sum();
    demand!(sum == size, "the extents of {size} bytes add up to {sum}");
    session.close()
}

fn ends_with_the_export(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let (size, unit) = (session.size(), session.facts.minimum());
    needs!(size >= 65536, "the export is smaller than 64 KiB");
    for len in [unit, unit.max(512), 65536] {
        let reply = session.ask(&Ask::status(size - len, len))?.success()?;
        let sum: u64 = reply.extents().iter().map(|extent| extent.len).sum();
        demand!(sum <= len, "{sum} bytes of status for the last {len} bytes of the export");
    }
    session.close()
}

fn req_one(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    stripes(&mut session, 8)?;
    let unit = session.facts.minimum();
    for (offset, len) in
        [(0, unit), (0, BLOCK), (0, 16 * BLOCK), (BLOCK - unit, 2 * unit), (BLOCK, 3 * BLOCK)]
    {
        // The rules of REQ_ONE are judged with the reply.
        session.done(&Ask::status(offset, len).with(CommandFlags::REQ_ONE))?;
    }
    session.close()
}

fn written(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    stripes(&mut session, 16)?;
    for index in 0..16 {
        let extents = walk(&mut session, 2 * index * BLOCK, (2 * index + 1) * BLOCK)?;
        let mut at = 0;
        for extent in extents {
            if at < BLOCK {
                let status = extent.status;
                demand!(status & (STATE_HOLE | STATE_ZERO) == 0, "data at +{at:#x} has the status {status}");
            }
            at += extent.len;
        }
    }
    session.close()
}

fn zero_is_zero(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    stripes(&mut session, 16)?;
    let mut at = 0;
    for extent in walk(&mut session, 0, 32 * BLOCK)? {
        let len = extent.len.min((32 * BLOCK).saturating_sub(at));
        if extent.status & STATE_ZERO != 0 && len > 0 {
            session.expect_data("status ZERO", at, &vec![0; len as usize])?;
        }
        at += extent.len;
    }
    session.close()
}

fn known_bits(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let end = session.size().min(4 << 20);
    for extent in walk(&mut session, 0, end)? {
        let unknown = extent.status & !(STATE_HOLE | STATE_ZERO);
        demand!(unknown == 0, "a status of {:#x}", extent.status);
    }
    session.close()
}

fn long_request(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    let len = session.size().min(0xffff_f000);
    needs!(len > session.facts.payload_max(), "the export is not longer than the maximum payload");
    session.done(&Ask::status(0, len))?;
    session.close()
}

fn neighbours_differ(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = open(target, mode)?;
    stripes(&mut session, 16)?;
    let reply = session.ask(&Ask::status(0, 32 * BLOCK))?.success()?;
    let same = reply.extents().windows(2).find(|pair| pair[0].status == pair[1].status);
    demand!(same.is_none(), "{same:?} could be one extent");
    session.close()
}
