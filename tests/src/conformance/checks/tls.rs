//! STARTTLS, as a server without TLS answers it.

use nbd::wire::{opt, rep};

use crate::conformance::check::{Check, Level, Outcome, demand, handshake, needs};
use crate::conformance::haggle::Haggle;
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "tls/refused-without-tls",
        Level::Must,
        "TLS support, mode NOTLS: STARTTLS gets ERR_POLICY or ERR_UNSUP, and the handshake goes on in clear",
        refused,
    ),
    handshake(
        "tls/data-is-refused",
        Level::Must,
        "TLS support: STARTTLS with data is refused (ERR_INVALID, or as without data), and the data skipped",
        data,
    ),
];

fn refused(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let kind = haggle.ask_kind(opt::STARTTLS, &[])?;
    needs!(kind != rep::ACK, "the server has TLS");
    demand!([rep::ERR_POLICY, rep::ERR_UNSUP].contains(&kind), "STARTTLS got {kind:#x}");
    let again = haggle.ask_kind(opt::STARTTLS, &[])?;
    demand!(again == kind, "STARTTLS got {kind:#x} and then {again:#x}");
    let answer = haggle.go(&target.name)?;
    demand!(answer.is_ok(), "GO after a refused STARTTLS got {answer:?}");
    Ok(())
}

fn data(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let kind = haggle.ask_kind(opt::STARTTLS, b"data")?;
    let fine = [rep::ERR_POLICY, rep::ERR_UNSUP, rep::ERR_INVALID].contains(&kind);
    demand!(fine, "STARTTLS with data got {kind:#x}");
    haggle.in_step()?;
    haggle.abort()
}
