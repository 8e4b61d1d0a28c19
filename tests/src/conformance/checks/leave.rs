//! Ends of connections, with and without a goodbye.

use nbd::ReplyMode;
use nbd::wire::{EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, cmd, opt};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, handshake, transmission};
use crate::conformance::haggle::{encode, greeted, info_data};
use crate::conformance::session::{Ask, Session, header_bytes};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "leave/in-the-handshake",
        Level::Must,
        "Terminating the transmission phase: a client may vanish at any byte of the handshake; the server serves on",
        in_the_handshake,
    ),
    transmission(
        "leave/inside-a-request",
        Level::Must,
        "Terminating the transmission phase: a client may vanish at any byte of a request; the server serves on",
        inside_a_request,
    ),
    transmission(
        "leave/with-replies-unread",
        Level::Must,
        "Terminating the transmission phase: a client may vanish with replies unread; the server serves on",
        replies_unread,
    ),
    transmission(
        "leave/half-closed",
        Level::Must,
        "Terminating the transmission phase: requests sent before the end of the stream are answered or dropped; the \
         connection ends",
        half_closed,
    ),
    transmission(
        "leave/disconnect-completes-requests",
        Level::Must,
        "Request types: on DISC the server completes all requests in flight before it closes",
        disconnect_in_flight,
    ),
    transmission(
        "leave/server-closes-after-disconnect",
        Level::Must,
        "Request types: on DISC the server closes the connection, whether or not the client has closed its side",
        server_closes,
    ),
    transmission(
        "leave/disconnect-whatever-it-says",
        Level::Must,
        "Request types: there is no reply to DISC, whatever its offset and length say",
        odd_disconnect,
    ),
    transmission(
        "leave/nothing-is-done-after-disconnect",
        Level::Should,
        "Request types: what comes after DISC is not looked at",
        after_disconnect,
    ),
    transmission(
        "leave/wrong-magic-ends",
        Level::Must,
        "Request message: a request with a wrong magic ends the connection; the stream is out of step",
        wrong_magic,
    ),
];

fn in_the_handshake(target: &Target) -> Outcome {
    let script = [
        &3u32.to_be_bytes()[..],
        &encode(opt::STRUCTURED_REPLY, &[]),
        &encode(opt::LIST, &[]),
        &encode(opt::GO, &info_data(&target.name, &[3])),
    ]
    .concat();
    for len in 0..=script.len() {
        let (mut wire, _) = greeted(target)?;
        wire.send(&script[..len])?;
    }
    Ok(())
}

fn inside_a_request(target: &Target, mode: ReplyMode) -> Outcome {
    let writable = Session::open(target, mode)?.needs_writable(1 << 20).is_ok();
    let ask = if writable { Ask::write(0, vec![0x11; 5000]) } else { Ask::read(0, 512) };
    let mut bytes = header_bytes(mode, &ask, 1);
    bytes.extend_from_slice(&ask.payload);
    let cuts = (0..40).chain([100, 511, 512, 513, 4000, 4999]).map(|len: usize| len.min(bytes.len() - 1));
    for len in cuts {
        let mut session = Session::open(target, mode)?;
        session.wire.send(&bytes[..len])?;
    }
    Ok(())
}

fn replies_unread(target: &Target, mode: ReplyMode) -> Outcome {
    for count in [1, 8, 64] {
        let mut session = Session::open(target, mode)?;
        let len = session.size().min(256 << 10);
        for _ in 0..count {
            session.send(&Ask::read(0, len))?;
        }
        drop(session);
        target.serves()?;
    }
    Ok(())
}

fn half_closed(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    let len = session.size().min(4096);
    for _ in 0..4 {
        session.send(&Ask::read(0, len))?;
    }
    session.wire.finish_sending();
    session.wire.drain().map(|_| ())
}

fn disconnect_in_flight(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(8 << 20)?;
    let data: Vec<Vec<u8>> = (400..464).map(|seed| Rng::new(seed).bytes(65536)).collect();
    let mut stream = Vec::new();
    for (index, data) in (0..).zip(&data) {
        stream.extend_from_slice(&session.encode(&Ask::write(index * 65536, data.clone()))?.1);
    }
    stream.extend_from_slice(&session.encode(&Ask::new(cmd::DISC, 0, 0))?.1);
    for reply in session.exchange(&stream, data.len())? {
        reply.success()?;
    }
    session.wire.finish_sending();
    session.wire.expect_end()?;
    let mut session = Session::open(target, mode)?;
    for (index, data) in (0..).zip(&data) {
        session.expect_data("written before DISC", index * 65536, data)?;
    }
    session.close()
}

fn server_closes(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.read(0, session.size().min(512))?;
    session.send(&Ask::new(cmd::DISC, 0, 0))?;
    session.wire.expect_end()
}

fn odd_disconnect(target: &Target, mode: ReplyMode) -> Outcome {
    for (offset, len) in [(0, 0), (1, 1), (u64::MAX, 0), (0, 0xffff_ffff), (1 << 63, 4096)] {
        let mut session = Session::open(target, mode)?;
        session.read(0, session.size().min(512))?;
        session.send(&Ask::new(cmd::DISC, offset, len))?;
        session.wire.finish_sending();
        session.wire.expect_end()?;
    }
    Ok(())
}

fn after_disconnect(target: &Target, mode: ReplyMode) -> Outcome {
    let mut session = Session::open(target, mode)?;
    session.needs_writable(1 << 20)?;
    let data = Rng::new(500).bytes(4096);
    session.write(0, &data)?;
    let (_, mut bytes) = session.encode(&Ask::new(cmd::DISC, 0, 0))?;
    bytes.extend_from_slice(&session.encode(&Ask::write(0, vec![0xff; 4096]))?.1);
    // The server may have closed already.
    let _ = session.wire.send(&bytes);
    session.wire.finish_sending();
    session.wire.expect_end()?;
    let mut session = Session::open(target, mode)?;
    session.expect_data("not overwritten after DISC", 0, &data)?;
    session.close()
}

fn wrong_magic(target: &Target, mode: ReplyMode) -> Outcome {
    let own = if mode == ReplyMode::Extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
    for magic in
        [0, SIMPLE_REPLY_MAGIC, REQUEST_MAGIC, EXTENDED_REQUEST_MAGIC, own ^ 1, own ^ 1 << 31, 0x1256_0953]
    {
        if magic == own {
            continue;
        }
        let mut session = Session::open(target, mode)?;
        let mut bytes = session.encode(&Ask::read(0, 512))?.1;
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        // The server may wait for a whole header of its own kind.
        bytes.resize(session.header_bytes(), 0);
        session.wire.send(&bytes)?;
        // Some say why before they close.
        session.wire.drain()?;
    }
    Ok(())
}
