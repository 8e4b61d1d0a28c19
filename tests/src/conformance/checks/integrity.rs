//! Data stay what they are: around 4 GiB, at the end, between connections, under load.

use nbd::ReplyMode;
use nbd::wire::TransmissionFlags;

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "integrity/across-4-gib",
        Level::Must,
        "Request types: offsets have 64 bits; nothing wraps or aliases at 2^32",
        across_4_gib,
    ),
    transmission(
        "integrity/zeroes-across-4-gib",
        Level::Must,
        "Request types: WRITE_ZEROES and TRIM across 2^32 change their own range only",
        clearing_across_4_gib,
    ),
    transmission(
        "integrity/status-across-4-gib",
        Level::Must,
        "Metadata querying: extents on both sides of 2^32 are told where they are",
        status_across_4_gib,
    ),
    transmission(
        "integrity/last-bytes",
        Level::Must,
        "Request types: the last bytes of the export hold what was written to them",
        last_bytes,
    ),
    transmission(
        "integrity/between-connections",
        Level::Must,
        "Transmission flags: a write that was answered is seen by every other connection of a multi-conn export",
        between_connections,
    ),
    transmission(
        "integrity/rewritten",
        Level::Must,
        "Ordering of messages and writes: a later write wins over one that was answered before it",
        rewritten,
    ),
    transmission(
        "integrity/many-sizes-in-flight",
        Level::Must,
        "Ordering of messages and writes: requests in flight together do not disturb each other",
        many_in_flight,
    ),
    transmission(
        "integrity/unaligned-reads-in-flight",
        Level::Must,
        "Ordering of messages and writes: READs of any offset and length in flight together give their own data",
        unaligned_reads,
    ),
    transmission(
        "integrity/unaligned-writes-in-flight",
        Level::Must,
        "Ordering of messages and writes: WRITEs side by side in one block, in flight together, are all done",
        unaligned_writes,
    ),
    transmission(
        "integrity/unaligned-writes-between-connections",
        Level::Must,
        "Transmission flags: WRITEs side by side in one block, in flight on several connections, are all done",
        unaligned_writes_between_connections,
    ),
    transmission(
        "integrity/overlapping-writes-in-flight",
        Level::Must,
        "Ordering of messages and writes: of two writes in flight together either may win where they overlap, but \
         no byte is lost that only one of them covers",
        overlapping_writes,
    ),
];

const GIB_4: u64 = 1 << 32;

fn big(target: &Target, mode: ReplyMode) -> Outcome<Session> {
    let session = Session::open(target, mode)?;
    session.needs_writable(GIB_4 + (2 << 20))?;
    Ok(session)
}

fn across_4_gib(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = big(target, mode)?;
    let low = Rng::new(200).bytes(1 << 20);
    let high = Rng::new(201).bytes(1 << 20);
    session.write(0, &low)?;
    let start = GIB_4 - (1 << 19);
    session.write(start, &high)?;
    session.expect_data("the start of the export", 0, &low)?;
    session.expect_data("across 2^32", start, &high)?;
    for (offset, len) in [(GIB_4 - 1, 2), (GIB_4 - 512, 1024), (GIB_4, 512), (GIB_4 - 512, 512)] {
        let at = (offset - start) as usize;
        session.expect_data("at 2^32", offset, &high[at..at + len])?;
    }
    let data = Rng::new(202).bytes(512);
    for offset in [GIB_4 - 512, GIB_4, GIB_4 + 512] {
        session.write(offset, &data)?;
        session.expect_data("a block at 2^32", offset, &data)?;
    }
    session.expect_data("the start of the export", 0, &low)?;
    session.close()
}

fn clearing_across_4_gib(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = big(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_WRITE_ZEROES)?;
    let low = Rng::new(203).bytes(1 << 20);
    let mut high = Rng::new(204).bytes(1 << 20);
    let start = GIB_4 - (1 << 19);
    session.write(0, &low)?;
    session.write(start, &high)?;
    session.done(&Ask::zeroes(GIB_4 - 65536, 131_072))?;
    let middle = 1 << 19;
    high[middle - 65536..middle + 65536].fill(0);
    session.expect_data("zeroes across 2^32", start, &high)?;
    if session.has(TransmissionFlags::SEND_TRIM) {
        session.done(&Ask::trim(GIB_4 - 131_072, 262_144))?;
        session.expect_data("before a TRIM across 2^32", start, &high[..middle - 131_072])?;
        session.expect_data("behind a TRIM across 2^32", GIB_4 + 131_072, &high[middle + 131_072..])?;
    }
    session.expect_data("the start of the export", 0, &low)?;
    session.close()
}

fn status_across_4_gib(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = big(target, mode)?;
    session.needs_flag(TransmissionFlags::SEND_WRITE_ZEROES)?;
    needs!(!session.contexts.is_empty(), "the server has no base:allocation");
    let data = Rng::new(205).bytes(1 << 20);
    session.done(&Ask::zeroes(GIB_4 - (1 << 20), 2 << 20))?;
    session.write(GIB_4, &data)?;
    session.done(&Ask::zeroes(0, 1 << 20))?;
    // What lies on one side must not be told for the other.
    for (offset, len) in [(GIB_4, 1 << 20), (GIB_4 - 65536, 131_072)] {
        let reply = session.ask(&Ask::status(offset, len))?.success()?;
        let mut at = offset;
        for extent in reply.extents() {
            let end = at + extent.len;
            let touches_data = at < GIB_4 + (1 << 20) && end > GIB_4;
            demand!(
                extent.status == 0 || !touches_data,
                "data in {at:#x}..{end:#x} have a status of {}",
                extent.status
            );
            at = end;
        }
    }
    session.close()
}

fn last_bytes(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let (size, unit) = (session.size(), session.facts.minimum());
    let mut tail = Rng::new(206).bytes(65536);
    session.write(size - 65536, &tail)?;
    for (seed, back) in (207..).zip([unit, 2 * unit, unit.max(512), 4096]) {
        let data = Rng::new(seed).bytes(unit as usize);
        session.write(size - back, &data)?;
        let at = tail.len() - back as usize;
        tail[at..at + data.len()].copy_from_slice(&data);
        session.expect_data("the end of the export", size - 65536, &tail)?;
    }
    session.close()
}

fn between_connections(target: &Target, mode: ReplyMode) -> Outcome {
    let mut one = Session::open(target, mode)?;
    one.needs_flag(TransmissionFlags::CAN_MULTI_CONN)?;
    one.needs_writable(4 << 20)?;
    let mut others = [
        Session::open(target, mode)?,
        Session::open(target, ReplyMode::Simple)?,
        Session::open(target, mode)?,
    ];
    let zeroes = one.has(TransmissionFlags::SEND_WRITE_ZEROES);
    for round in 0..32 {
        let offset = round * 40_000 / one.facts.minimum() * one.facts.minimum();
        let data = Rng::new(round).bytes(65536);
        one.write(offset, &data)?;
        for other in &mut others {
            other.expect_data("written by another connection", offset, &data)?;
        }
        if zeroes {
            others[0].done(&Ask::zeroes(offset, 8192))?;
            one.expect_data("zeroed by another connection", offset, &[0; 8192])?;
        }
    }
    one.close()?;
    others.into_iter().try_for_each(Session::close)
}

fn rewritten(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(4 << 20)?;
    for round in 0..100 {
        let data = Rng::new(round).bytes(12 * 1024);
        session.write(8192, &data)?;
        session.expect_data("written again", 8192, &data)?;
    }
    session.close()
}

fn many_in_flight(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(16 << 20)?;
    let unit = session.facts.minimum();
    let mut rng = Rng::new(208);
    let mut offset = 0;
    let mut model = Vec::new();
    let mut asks = Vec::new();
    while asks.len() < 96 {
        let len = (1 + rng.below(150_000)).next_multiple_of(unit);
        let data = rng.bytes(len as usize);
        asks.push(Ask::write(offset, data.clone()));
        model.extend_from_slice(&data);
        offset += len;
    }
    for reply in session.ask_all(&asks)? {
        reply.success()?;
    }
    let reads: Vec<Ask> = asks.iter().map(|ask| Ask::read(ask.offset, ask.len)).collect();
    for reply in session.ask_all(&reads)? {
        let reply = reply.success()?;
        let start = reply.asked.offset as usize;
        let expected = &model[start..start + reply.data.len()];
        demand!(reply.data == expected, "{} gave wrong data", reply.asked);
    }
    session.close()
}

fn unaligned_reads(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(8 << 20)?;
    let unit = session.facts.minimum();
    let model = Rng::new(209).bytes(8 << 20);
    session.write(0, &model)?;
    let mut rng = Rng::new(210);
    for most in [2000, 10_000, 300_000] {
        let ask = |_| {
            let len = (1 + rng.below(most)).next_multiple_of(unit);
            let offset = rng.below((8 << 20) - len) / unit * unit;
            Ask::read(offset, len)
        };
        let asks: Vec<Ask> = (0..128).map(ask).collect();
        for reply in session.ask_all(&asks)? {
            let reply = reply.success()?;
            let start = reply.asked.offset as usize;
            let expected = &model[start..start + reply.data.len()];
            demand!(reply.data == expected, "{} gave wrong data", reply.asked);
        }
    }
    session.close()
}

fn unaligned_writes(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(16 << 20)?;
    let unit = session.facts.minimum();
    let mut rng = Rng::new(211);
    for most in [200, 2000, 100_000] {
        let mut model = Vec::new();
        let mut asks = Vec::new();
        while asks.len() < 120 {
            let len = (1 + rng.below(most)).next_multiple_of(unit);
            let data = rng.bytes(len as usize);
            asks.push(Ask::write(model.len() as u64, data.clone()));
            model.extend_from_slice(&data);
        }
        // Neighbours at once, in any order.
        for index in (1..asks.len()).rev() {
            asks.swap(index, rng.below(index as u64 + 1) as usize);
        }
        for reply in session.ask_all(&asks)? {
            reply.success()?;
        }
        session.expect_data("written piece by piece", 0, &model)?;
    }
    session.close()
}

fn unaligned_writes_between_connections(target: &Target, mode: ReplyMode) -> Outcome {
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(Session::open(target, mode)?);
    }
    sessions[0].needs_flag(TransmissionFlags::CAN_MULTI_CONN)?;
    sessions[0].needs_writable(1 << 20)?;
    let unit = sessions[0].facts.minimum();
    let mut rng = Rng::new(212);
    for _ in 0..24 {
        let mut model = Vec::new();
        let mut streams = vec![Vec::new(); sessions.len()];
        let mut counts = vec![0; sessions.len()];
        while model.len() < 4096 {
            let len = (1 + rng.below(200)).next_multiple_of(unit);
            let data = rng.bytes(len as usize);
            let chosen = rng.below(sessions.len() as u64) as usize;
            let (_, bytes) = sessions[chosen].encode(&Ask::write(model.len() as u64, data.clone()))?;
            streams[chosen].extend_from_slice(&bytes);
            counts[chosen] += 1;
            model.extend_from_slice(&data);
        }
        // So little that each socket takes it all at once.
        for (session, stream) in sessions.iter_mut().zip(&streams) {
            session.wire.send(stream)?;
        }
        for (session, count) in sessions.iter_mut().zip(&counts) {
            for _ in 0..*count {
                session.receive()?.success()?;
            }
        }
        sessions[0].expect_data("written by several connections", 0, &model)?;
    }
    sessions.into_iter().try_for_each(Session::close)
}

/// A small write and another change of all its block, in flight together.
fn overlapping_writes(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let unit = session.facts.minimum();
    needs!(unit <= 2048, "no write is finer than a block");
    let zeroes = session.has(TransmissionFlags::SEND_WRITE_ZEROES);
    let mut rng = Rng::new(213);
    for round in 0..96 {
        let block = if round % 2 == 0 { unit.max(256) * 2 } else { 4096 };
        let offset = rng.below(64) * block;
        let before = rng.bytes(block as usize);
        session.write(offset, &before)?;
        let len = (1 + rng.below(block / 2)).next_multiple_of(unit);
        let at = rng.below(block - len) / unit * unit;
        let small = rng.bytes(len as usize);
        let large =
            if zeroes && round % 3 == 0 { vec![0; block as usize] } else { rng.bytes(block as usize) };
        let covering = match zeroes && round % 3 == 0 {
            true => Ask::zeroes(offset, block),
            false => Ask::write(offset, large.clone()),
        };
        let mut asks = vec![Ask::write(offset + at, small.clone()), covering];
        // The order of sending decides who has to wait for whom.
        if round % 4 == 3 {
            asks.reverse();
        }
        for reply in session.ask_all(&asks)? {
            reply.success()?;
        }
        let got = session.read(offset, block)?;
        for (index, byte) in got.iter().enumerate() {
            let in_small = (index as u64).checked_sub(at).and_then(|index| small.get(index as usize));
            let fine = *byte == large[index] || in_small == Some(byte);
            demand!(fine, "{} beside {}: byte {:#x} is of neither", asks[0], asks[1], offset + index as u64);
        }
    }
    session.close()
}
