//! Names of exports: free text, of any length.

use nbd::wire::{opt, rep};

use crate::conformance::check::{Check, Level, Outcome, demand, handshake, needs};
use crate::conformance::haggle::{Haggle, encode, info_data};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "names/lengths",
        Level::Must,
        "Values, strings: names up to 4096 bytes are legal; an unknown one gets an error and the haggling goes on",
        lengths,
    ),
    handshake(
        "names/too-long",
        Level::Must,
        "Values, strings: a name of 4097 bytes is not legal and is refused",
        too_long,
    ),
    handshake(
        "names/nul-inside",
        Level::Chosen,
        "Values, strings: a name with NUL inside gets ERR_INVALID",
        nul_inside,
    ),
    handshake(
        "names/not-utf8",
        Level::Chosen,
        "Values, strings: a name that is not UTF-8 gets ERR_INVALID",
        not_utf8,
    ),
    handshake(
        "names/odd-but-legal",
        Level::Must,
        "Values, strings: slashes, line feeds and percent signs are ordinary characters of a name",
        odd_but_legal,
    ),
    handshake(
        "names/unknown",
        Level::Must,
        "Option types: INFO and GO to an unknown name get ERR_UNKNOWN",
        unknown,
    ),
    handshake(
        "names/good-after-bad",
        Level::Must,
        "Option types: after an error of GO the client may go on haggling, and GO to a good name works",
        good_after_bad,
    ),
    handshake(
        "names/unknown-export-name-ends",
        Level::Must,
        "Option types: EXPORT_NAME to an unknown name has no reply; the connection ends",
        unknown_export_name,
    ),
];

/// Types of replies that refuse a name.
const REFUSALS: [u32; 4] = [rep::ERR_UNKNOWN, rep::ERR_INVALID, rep::ERR_TOO_BIG, rep::ERR_POLICY];

fn lengths(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    for len in [0, 1, 255, 256, 257, 4095, 4096] {
        let name = vec![b'x'; len];
        let kind = haggle.ask_kind(opt::INFO, &info_data(&name, &[]))?;
        let fine = kind == rep::ACK || REFUSALS.contains(&kind);
        demand!(fine, "INFO on a name of {len} bytes got {kind:#x}");
    }
    haggle.in_step()?;
    haggle.abort()
}

fn too_long(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    for len in [4097, 5000, 8192] {
        let kind = haggle.ask_kind(opt::GO, &info_data(&vec![b'x'; len], &[]))?;
        demand!(REFUSALS.contains(&kind), "GO to a name of {len} bytes got {kind:#x}");
    }
    haggle.in_step()?;
    haggle.abort()
}

fn nul_inside(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    for name in [&b"a\0b"[..], b"\0", b"name\0"] {
        let kind = haggle.ask_kind(opt::GO, &info_data(name, &[]))?;
        demand!(kind == rep::ERR_INVALID, "GO to {name:02x?} got {kind:#x}");
    }
    haggle.abort()
}

fn not_utf8(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    for name in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80"] {
        let kind = haggle.ask_kind(opt::GO, &info_data(name, &[]))?;
        demand!(kind == rep::ERR_INVALID, "GO to {name:02x?} got {kind:#x}");
    }
    haggle.abort()
}

fn odd_but_legal(target: &Target) -> Outcome {
    needs!(!target.takes_any_name, "the server takes any name");
    let mut haggle = Haggle::start(target)?;
    for name in ["/", "//disk", "a\nb", "%41", "../../etc", "ü€", " ", "a\x1b[31m"] {
        let kind = haggle.ask_kind(opt::INFO, &info_data(name.as_bytes(), &[]))?;
        demand!(kind == rep::ERR_UNKNOWN, "INFO on {name:?} got {kind:#x}");
    }
    haggle.abort()
}

fn unknown(target: &Target) -> Outcome {
    needs!(!target.takes_any_name, "the server takes any name");
    let mut haggle = Haggle::start(target)?;
    for option in [opt::INFO, opt::GO] {
        let kind = haggle.ask_kind(option, &info_data(b"no such export", &[]))?;
        demand!(kind == rep::ERR_UNKNOWN, "option {option} to an unknown name got {kind:#x}");
    }
    haggle.abort()
}

fn good_after_bad(target: &Target) -> Outcome {
    needs!(!target.takes_any_name, "the server takes any name");
    let mut haggle = Haggle::start(target)?;
    for name in [&b"one"[..], b"two", b"three"] {
        let answer = haggle.go(name)?;
        demand!(answer.is_err(), "GO to {name:?} got {answer:?}");
    }
    let answer = haggle.go(&target.name)?;
    demand!(answer.is_ok(), "GO to the export after three errors got {answer:?}");
    Ok(())
}

fn unknown_export_name(target: &Target) -> Outcome {
    needs!(!target.takes_any_name, "the server takes any name");
    let mut haggle = Haggle::start(target)?;
    haggle.wire.send(&encode(opt::EXPORT_NAME, b"no such export"))?;
    haggle.wire.expect_end()
}
