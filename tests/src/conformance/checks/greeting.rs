//! The first bytes of both sides.

use nbd::wire::{HandshakeFlags, NBDMAGIC, opt};

use crate::conformance::check::demand;
use crate::conformance::check::{Check, Level, Outcome, handshake, needs};
use crate::conformance::haggle::{Haggle, encode, greeted};
use crate::conformance::target::Target;
use crate::conformance::wire::Wire;

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "greeting/fixed-newstyle",
        Level::Must,
        "Newstyle negotiation: NBDMAGIC, IHAVEOPT, and FIXED_NEWSTYLE from a server that has it; no unknown flag",
        fixed_newstyle,
    ),
    handshake(
        "greeting/server-speaks-first",
        Level::Must,
        "Newstyle negotiation: the server greets without waiting for the client",
        server_speaks_first,
    ),
    handshake(
        "greeting/unknown-client-flag-ends",
        Level::Must,
        "Client flags: the server must drop a client that sets an unknown flag",
        unknown_client_flag,
    ),
    handshake(
        "greeting/unoffered-client-flag-ends",
        Level::Must,
        "Client flags: the server must drop a client that sets NO_ZEROES although it was not offered",
        unoffered_client_flag,
    ),
    handshake(
        "greeting/flags-byte-by-byte",
        Level::Must,
        "Newstyle negotiation: a stream has no packets; flags and options may come one byte at a time",
        byte_by_byte,
    ),
];

fn fixed_newstyle(target: &Target) -> Outcome {
    let (_, flags) = greeted(target)?;
    demand!(flags.contains(HandshakeFlags::FIXED_NEWSTYLE), "FIXED_NEWSTYLE is not set: {flags:?}");
    Ok(())
}

fn server_speaks_first(target: &Target) -> Outcome {
    let mut wire = Wire::connect(&target.address)?;
    let magic = wire.receive_u64()?;
    demand!(magic == NBDMAGIC, "the first bytes are {magic:#018x}");
    Ok(())
}

fn unknown_client_flag(target: &Target) -> Outcome {
    for bit in [2, 8, 16, 31] {
        let (mut wire, _) = greeted(target)?;
        // The server may close before it has seen all of it.
        let flags: u32 = 3 | 1 << bit;
        wire.send(&flags.to_be_bytes())?;
        let _ = wire.send(&encode(opt::LIST, &[]));
        wire.expect_end()?;
    }
    Ok(())
}

fn unoffered_client_flag(target: &Target) -> Outcome {
    let offered = target.handshake_flags.contains(HandshakeFlags::NO_ZEROES);
    needs!(!offered, "the server offers NO_ZEROES");
    let (mut wire, _) = greeted(target)?;
    wire.send(&3u32.to_be_bytes())?;
    let _ = wire.send(&encode(opt::LIST, &[]));
    wire.expect_end()
}

fn byte_by_byte(target: &Target) -> Outcome {
    let (mut wire, server_flags) = greeted(target)?;
    wire.drip(&1u32.to_be_bytes())?;
    wire.drip(&encode(0x7fff_0002, b"some data"))?;
    let mut haggle = Haggle { wire, server_flags };
    let replies = haggle.replies(0x7fff_0002)?;
    demand!(replies[0].is_error(), "an unknown option was answered with {replies:?}");
    haggle.in_step()?;
    haggle.abort()
}
