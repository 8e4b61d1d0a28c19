//! Payloads of extended requests where none belongs.

use nbd::ReplyMode;
use nbd::wire::{CommandFlags, cmd};

use crate::Rng;
use crate::conformance::check::{Check, Level, Outcome, needs, transmission};
use crate::conformance::reply::{EINVAL, EPERM};
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    transmission(
        "payload/where-none-belongs",
        Level::Must,
        "Extended request message: PAYLOAD_LEN on a command without a payload: it is read away, the command \
         gets EINVAL",
        unwanted,
    ),
    transmission(
        "payload/compact-has-none",
        Level::Must,
        "Command flags: PAYLOAD_LEN in a compact request is an unknown flag; no payload follows but that of WRITE",
        compact,
    ),
];

fn unwanted(target: &Target, mode: ReplyMode) -> Outcome {
    needs!(mode == ReplyMode::Extended, "only extended requests have a flag for it");
    let mut session = Session::open(target, mode)?;
    for kind in [cmd::READ, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::FLUSH, 77] {
        for len in [1, 28, 32, 512, 100_000] {
            let payload = Rng::new(130).bytes(len);
            let ask = Ask { payload, ..Ask::new(kind, 0, len as u64) }.with(CommandFlags::PAYLOAD_LEN);
            let reply = session.ask(&ask)?;
            reply.error_in(refusals(&session, kind))?;
        }
    }
    session.close()
}

/// A read-only export may say that first.
fn refusals(session: &Session, kind: u16) -> &'static [u32] {
    let changes = matches!(kind, cmd::TRIM | cmd::WRITE_ZEROES);
    if changes && !session.is_writable() { &[EINVAL, EPERM] } else { &[EINVAL] }
}

fn compact(target: &Target, mode: ReplyMode) -> Outcome {
    needs!(mode != ReplyMode::Extended, "extended requests know the flag");
    let mut session = Session::open(target, mode)?;
    for kind in [cmd::READ, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES] {
        let ask = Ask::new(kind, 0, 512).with(CommandFlags::PAYLOAD_LEN);
        let reply = session.ask(&ask)?;
        reply.error_in(refusals(&session, kind))?;
    }
    session.close()
}
