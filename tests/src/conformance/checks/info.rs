//! INFO and GO: what is announced, and when.

use nbd::ReplyMode;
use nbd::wire::{TransmissionFlags, info, opt, rep};

use crate::conformance::check::{Check, Level, Outcome, demand, handshake, needs, transmission};
use crate::conformance::haggle::{Haggle, OptionReply, announced, encode, info_data};
use crate::conformance::session::{Ask, Session, header_bytes};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "info/stays-in-haggling",
        Level::Must,
        "Option types: after INFO the client may send any option",
        stays_in_haggling,
    ),
    handshake(
        "info/unknown-types-are-ignored",
        Level::Must,
        "Option types: information types that the server does not know are ignored",
        unknown_types,
    ),
    handshake(
        "info/lengths-must-match",
        Level::Must,
        "Option types: INFO and GO whose lengths do not add up get ERR_INVALID",
        lengths,
    ),
    handshake(
        "info/same-as-go",
        Level::Must,
        "Option types: GO after INFO with the same parameters gives the same information, in any order",
        same_as_go,
    ),
    handshake(
        "info/block-sizes",
        Level::Must,
        "Block size constraints: minimum a power of two up to 64 KiB, preferred a power of two of at least 512 and the \
         minimum, maximum at least the preferred",
        block_sizes,
    ),
    handshake(
        "info/go-with-a-request",
        Level::Chosen,
        "Option types: transmission follows GO at once, also for a request that came with it; no zeroes are sent",
        go_with_request,
    ),
    transmission(
        "info/flags",
        Level::Must,
        "Transmission flags: HAS_FLAGS always; DF only with chunks, FAST_ZERO only with WRITE_ZEROES, a payload of \
         BLOCK_STATUS only with extended headers; no unknown flag",
        flags,
    ),
    transmission(
        "info/size-is-a-multiple-of-the-minimum",
        Level::Should,
        "Block size constraints: the size of the export is a multiple of the minimum block size",
        size_is_a_multiple,
    ),
    transmission(
        "info/size-is-the-same-in-each-mode",
        Level::Must,
        "Transmission flags: what is agreed about replies does not change the export's size",
        same_size,
    ),
];

fn stays_in_haggling(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    for _ in 0..3 {
        let kind = haggle.ask_kind(opt::INFO, &info_data(&target.name, &[]))?;
        demand!(kind == rep::ACK, "INFO got {kind:#x}");
    }
    haggle.in_step()?;
    let answer = haggle.go(&target.name)?;
    demand!(answer.is_ok(), "GO after INFO got {answer:?}");
    Ok(())
}

fn unknown_types(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let kind = haggle.ask_kind(opt::INFO, &info_data(&target.name, &[77, 0xffff, info::BLOCK_SIZE, 4]))?;
    demand!(kind == rep::ACK, "INFO with unknown types got {kind:#x}");
    let many: Vec<u16> = (100..300).collect();
    let kind = haggle.ask_kind(opt::INFO, &info_data(&target.name, &many))?;
    demand!(kind == rep::ACK, "INFO with 200 unknown types got {kind:#x}");
    haggle.abort()
}

fn lengths(target: &Target) -> Outcome {
    let good = info_data(&target.name, &[info::BLOCK_SIZE]);
    let name_len = target.name.len() as u32;
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    bad.push([&good[..], b"x"].concat());
    bad.push([&good[..], b"xx"].concat());
    for wrong in [name_len + 1, name_len + 3, u32::MAX, u32::MAX - 5, 1 << 31] {
        bad.push([&wrong.to_be_bytes()[..], &good[4..]].concat());
    }
    let count_at = 4 + target.name.len();
    for wrong in [0u16, 2, 0xffff] {
        bad.push([&good[..count_at], &wrong.to_be_bytes(), &good[count_at + 2..]].concat());
    }
    for option in [opt::INFO, opt::GO] {
        for batch in bad.chunks(10) {
            let mut haggle = Haggle::start(target)?;
            for data in batch {
                let kind = haggle.ask_kind(option, data)?;
                demand!(kind == rep::ERR_INVALID, "option {option} with data {data:02x?} got {kind:#x}");
            }
            haggle.in_step()?;
        }
    }
    Ok(())
}

fn same_as_go(target: &Target) -> Outcome {
    let data = info_data(&target.name, &[info::NAME, info::DESCRIPTION, info::BLOCK_SIZE]);
    let sorted = |mut replies: Vec<OptionReply>| {
        replies.sort_by(|a, b| a.data.cmp(&b.data));
        replies
    };
    let mut haggle = Haggle::start(target)?;
    let info = sorted(haggle.ask(opt::INFO, &data)?);
    let go = sorted(haggle.ask(opt::GO, &data)?);
    demand!(info == go, "INFO gave {info:02x?}, GO gave {go:02x?}");
    Ok(())
}

fn block_sizes(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let replies = haggle.ask(opt::INFO, &info_data(&target.name, &[info::BLOCK_SIZE]))?;
    let facts = match announced(&replies)? {
        Ok(facts) => facts,
        Err(kind) => {
            demand!(
                kind != rep::ERR_BLOCK_SIZE_REQD,
                "ERR_BLOCK_SIZE_REQD although the sizes were asked for"
            );
            return crate::conformance::check::failed(format!("INFO got {kind:#x}"));
        }
    };
    let Some([minimum, preferred, maximum]) = facts.block_sizes else {
        return crate::conformance::check::skip("the server does not tell its block sizes");
    };
    demand!(minimum.is_power_of_two() && minimum <= 65536, "minimum block size {minimum}");
    demand!(
        preferred.is_power_of_two() && preferred >= minimum.max(512),
        "preferred block size {preferred} with minimum {minimum}"
    );
    demand!(maximum >= preferred, "maximum payload {maximum} below the preferred size {preferred}");
    let roomy = u64::from(maximum) >= facts.size.min(1 << 20);
    demand!(roomy, "maximum payload {maximum} below 1 MiB");
    haggle.abort()
}

fn go_with_request(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let size = target.facts(ReplyMode::Simple)?.size;
    let ask = Ask::read(0, size.min(512));
    let mut bytes = encode(opt::GO, &info_data(&target.name, &[]));
    bytes.extend_from_slice(&header_bytes(ReplyMode::Simple, &ask, 0x1234_5678));
    haggle.wire.send(&bytes)?;
    let facts = match announced(&haggle.replies(opt::GO)?)? {
        Ok(facts) => facts,
        Err(kind) => return crate::conformance::check::failed(format!("GO got {kind:#x}")),
    };
    let mut session = Session::new(haggle.wire, ReplyMode::Simple, facts, Vec::new());
    session.encode(&ask.with_cookie(0x1234_5678))?;
    session.receive()?.success()?;
    session.close()
}

fn flags(target: &Target, mode: ReplyMode) -> Outcome {
    let session = Session::open(target, mode)?;
    let bits = session.facts.flags;
    let Some(flags) = TransmissionFlags::from_bits(bits) else {
        return crate::conformance::check::failed(format!("unknown transmission flags in {bits:#06x}"));
    };
    demand!(flags.contains(TransmissionFlags::HAS_FLAGS), "HAS_FLAGS is not set in {flags:?}");
    let has = |flag| flags.contains(flag);
    demand!(mode.is_chunked() || !has(TransmissionFlags::SEND_DF), "SEND_DF without chunks");
    demand!(
        has(TransmissionFlags::SEND_WRITE_ZEROES) || !has(TransmissionFlags::SEND_FAST_ZERO),
        "SEND_FAST_ZERO without SEND_WRITE_ZEROES"
    );
    demand!(
        mode == ReplyMode::Extended || !has(TransmissionFlags::BLOCK_STATUS_PAYLOAD),
        "BLOCK_STATUS_PAYLOAD without extended headers"
    );
    session.close()
}

fn size_is_a_multiple(target: &Target, mode: ReplyMode) -> Outcome {
    let facts = target.facts(mode)?;
    let (size, minimum) = (facts.size, facts.minimum());
    needs!(minimum > 1, "the server takes single bytes");
    demand!(size.is_multiple_of(minimum), "{size} bytes with a minimum block size of {minimum}");
    Ok(())
}

fn same_size(target: &Target, mode: ReplyMode) -> Outcome {
    let (size, simple) = (target.facts(mode)?.size, target.facts(ReplyMode::Simple)?.size);
    demand!(size == simple, "{size} bytes, with simple replies {simple}");
    Ok(())
}
