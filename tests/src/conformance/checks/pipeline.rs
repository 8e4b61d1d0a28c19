//! Many requests at a time, cookies, and clients that are slow.

use nbd::ReplyMode;
use nbd::wire::{TransmissionFlags, cmd};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, demand, needs, transmission};
use crate::conformance::reply::{BEYOND, EINVAL};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "pipeline/cookies",
        Level::Must,
        "Request message: the cookie is opaque; its 8 bytes come back unchanged",
        cookies,
    ),
    transmission(
        "pipeline/128-in-flight",
        Level::Must,
        "Ordering of messages and writes: 128 requests of all kinds in flight; each gets exactly one reply",
        in_flight,
    ),
    transmission(
        "pipeline/errors-among-others",
        Level::Must,
        "Ordering of messages and writes: refused requests among good ones do not disturb them",
        errors_among_others,
    ),
    transmission(
        "pipeline/slow-writer",
        Level::Must,
        "Request message: a request and its payload may come one byte at a time",
        slow_writer,
    ),
    transmission(
        "pipeline/slow-reader",
        Level::Must,
        "Ordering of messages and writes: a client may read replies late; others are served, and nothing is lost",
        slow_reader,
    ),
    transmission(
        "pipeline/stalled-payload",
        Level::Must,
        "Request message: a client that stops inside a payload does not keep others from being served",
        stalled_payload,
    ),
];

fn cookies(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let extremes = [
        0,
        1,
        0xff,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        1 << 63,
        (1 << 63) - 1,
        u64::MAX,
        0x2560_9513_6744_6698,
    ];
    let len = session.size().min(512);
    for cookie in extremes {
        session.ask(&Ask::read(0, len).with_cookie(cookie))?.success()?;
    }
    let asks: Vec<Ask> = extremes.iter().map(|cookie| Ask::read(0, len).with_cookie(*cookie)).collect();
    for reply in session.ask_all(&asks)? {
        reply.success()?;
    }
    // What has no data goes out by another way,
    let mut empty = Vec::new();
    if session.has(TransmissionFlags::SEND_FLUSH) {
        empty.push(Ask::flush());
    }
    if session.is_writable() {
        empty.push(Ask::write(0, session.read(0, len)?));
    }
    for ask in empty {
        for cookie in extremes {
            session.done(&ask.clone().with_cookie(cookie))?;
        }
    }
    // and an error by yet another.
    let asks: Vec<Ask> = extremes.iter().map(|cookie| Ask::new(99, 0, 0).with_cookie(*cookie)).collect();
    for reply in session.ask_all(&asks)? {
        reply.error_in(&[EINVAL])?;
    }
    session.close()
}

/// Requests that work on this export; each writes to a range of its own.
fn mixture(session: &Session, count: u64, rng: &mut Rng) -> Vec<Ask> {
    let mut kinds = vec![cmd::READ];
    let mut add = |kind, wanted| {
        if wanted {
            kinds.push(kind);
        }
    };
    let writable = session.is_writable();
    add(cmd::WRITE, writable);
    add(cmd::FLUSH, session.has(TransmissionFlags::SEND_FLUSH));
    add(cmd::TRIM, writable && session.has(TransmissionFlags::SEND_TRIM));
    add(cmd::WRITE_ZEROES, writable && session.has(TransmissionFlags::SEND_WRITE_ZEROES));
    add(cmd::CACHE, session.has(TransmissionFlags::SEND_CACHE));
    add(cmd::BLOCK_STATUS, !session.contexts.is_empty());
    let unit = session.facts.minimum();
    let ask = |index: u64| {
        let kind = kinds[rng.below(kinds.len() as u64) as usize];
        let (offset, len) = (index * 65536, (1 + rng.below(65535)).next_multiple_of(unit));
        match kind {
            cmd::WRITE => Ask::write(offset, rng.bytes(len as usize)),
            cmd::FLUSH => Ask::flush(),
            _ => Ask::new(kind, offset, len),
        }
    };
    (0..count).map(ask).collect()
}

fn in_flight(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    needs!(session.size() >= 8 << 20, "the export is smaller than 8 MiB");
    let mut rng = Rng::new(300);
    for _ in 0..4 {
        let asks = mixture(&session, 128, &mut rng);
        for reply in session.ask_all(&asks)? {
            reply.success()?;
        }
        for ask in asks.iter().filter(|ask| ask.kind == cmd::WRITE) {
            session.expect_data("written among 128", ask.offset, &ask.payload)?;
        }
    }
    session.close()
}

fn errors_among_others(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(8 << 20)?;
    let size = session.size();
    let mut rng = Rng::new(301);
    let mut asks = mixture(&session, 64, &mut rng);
    for index in (0..asks.len()).rev().step_by(3) {
        asks.insert(index, Ask::write(size, rng.bytes(5000)));
        asks.insert(index, Ask::new(99, 0, 4096));
        asks.insert(index, Ask::read(size, 512));
    }
    for reply in session.ask_all(&asks)? {
        match (reply.asked.kind, reply.asked.offset) {
            (cmd::WRITE, offset) if offset == size => reply.error_in(&BEYOND)?,
            (cmd::READ, offset) if offset == size => reply.error_in(&[EINVAL])?,
            (99, _) => reply.error_in(&[EINVAL])?,
            _ => reply.error_in(&[0])?,
        }
    }
    session.close()
}

fn slow_writer(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let data = Rng::new(302).bytes(700);
    let len = data.len().next_multiple_of(session.facts.minimum() as usize);
    let data: Vec<u8> = data.iter().copied().cycle().take(len).collect();
    let (_, write) = session.encode(&Ask::write(0, data.clone()))?;
    session.wire.drip(&write)?;
    session.receive()?.success()?;
    let (_, read) = session.encode(&Ask::read(0, len as u64))?;
    session.wire.drip(&read)?;
    let reply = session.receive()?.success()?;
    demand!(reply.data == data, "data that came byte by byte were stored wrong");
    // A refused payload, too.
    let size = session.size();
    let (_, refused) = session.encode(&Ask::write(size, data))?;
    session.wire.drip(&refused)?;
    session.receive()?.error_in(&BEYOND)?;
    session.close()
}

fn slow_reader(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(32 << 20)?;
    let len = session.facts.payload_max().min(256 << 10);
    let data = Rng::new(303).bytes(len as usize);
    session.write(0, &data)?;
    // More than any socket buffer holds, so that the server must wait for the client.
    let count = (32 << 20) / len;
    let mut requests = Vec::new();
    for _ in 0..count {
        requests.extend_from_slice(&session.encode(&Ask::read(0, len))?.1);
    }
    session.wire.send(&requests)?;
    for _ in 0..3 {
        target.serves()?;
    }
    for _ in 0..count {
        let reply = session.receive()?.success()?;
        demand!(reply.data == data, "data that were read late are wrong");
    }
    session.close()
}

fn stalled_payload(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(4 << 20)?;
    let data = Rng::new(304).bytes(1 << 20);
    let (_, write) = session.encode(&Ask::write(0, data.clone()))?;
    let (first, second) = write.split_at(write.len() / 2);
    session.wire.send(first)?;
    for _ in 0..3 {
        target.serves()?;
    }
    session.wire.send(second)?;
    session.receive()?.success()?;
    session.expect_data("a payload with a pause inside", 0, &data)?;
    session.close()
}
