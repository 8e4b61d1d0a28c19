//! LIST.

use nbd::wire::{opt, rep};

use crate::conformance::check::{Check, Level, Outcome, demand, failed, handshake, needs};
use crate::conformance::haggle::{Haggle, OptionReply};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "list/layout",
        Level::Must,
        "Option reply types: SERVER has a name length within its data; strings are UTF-8; ACK comes last",
        layout,
    ),
    handshake(
        "list/repeated",
        Level::Must,
        "Option types: LIST changes nothing, so a second one gives the same, or is refused as one too many",
        repeated,
    ),
    handshake(
        "list/names-can-be-opened",
        Level::Should,
        "Option types: the names that LIST gives are names of exports",
        names_can_be_opened,
    ),
];

/// Names in the replies.
fn names(replies: &[OptionReply]) -> Outcome<Vec<Vec<u8>>> {
    let (last, servers) = replies.split_last().expect("at least one reply");
    needs!(last.kind != rep::ERR_POLICY, "the server does not list its exports");
    demand!(last.kind == rep::ACK, "LIST got {:#x}", last.kind);
    let mut names = Vec::new();
    for reply in servers {
        demand!(reply.kind == rep::SERVER, "LIST got a reply of type {:#x}", reply.kind);
        let Some((len, rest)) = reply.data.split_first_chunk() else {
            return failed("a SERVER reply without the length of its name");
        };
        let Some((name, text)) = rest.split_at_checked(u32::from_be_bytes(*len) as usize) else {
            return failed("a SERVER reply whose name is longer than its data");
        };
        let utf8 = std::str::from_utf8(name).is_ok() && std::str::from_utf8(text).is_ok();
        demand!(utf8, "a SERVER reply that is not UTF-8: {:02x?}", reply.data);
        names.push(name.to_owned());
    }
    Ok(names)
}

fn layout(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let replies = haggle.ask(opt::LIST, &[])?;
    let names = names(&replies)?;
    demand!(!names.is_empty(), "the list is empty although the export can be opened");
    haggle.abort()
}

fn repeated(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    let first = names(&haggle.ask(opt::LIST, &[])?)?;
    let replies = haggle.ask(opt::LIST, &[])?;
    if replies.last().is_some_and(|reply| reply.kind == rep::ERR_INVALID) {
        return haggle.abort();
    }
    let second = names(&replies)?;
    demand!(first == second, "LIST gave {first:02x?} and then {second:02x?}");
    haggle.abort()
}

fn names_can_be_opened(target: &Target) -> Outcome {
    let mut haggle = Haggle::start(target)?;
    for name in names(&haggle.ask(opt::LIST, &[])?)? {
        let mut haggle = Haggle::start(target)?;
        let answer = haggle.go(&name)?;
        demand!(answer.is_ok(), "GO to {:?} got {answer:?}", String::from_utf8_lossy(&name));
    }
    haggle.abort()
}
