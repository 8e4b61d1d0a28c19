//! LIST_META_CONTEXT and SET_META_CONTEXT.

use nbd::ReplyMode;
use nbd::wire::{context::BASE_ALLOCATION, opt, rep};

use crate::conformance::check::{Check, Level, Outcome, demand, failed, handshake, needs};
use crate::conformance::haggle::{Haggle, contexts, meta_data};
use crate::conformance::reply::EINVAL;
use crate::conformance::session::{Ask, Session};
use crate::conformance::target::Target;

pub(super) const CHECKS: &[Check] = &[
    handshake(
        "meta/list-all",
        Level::Must,
        "Option types: LIST_META_CONTEXT without queries gives every context that can be selected, with id 0",
        list_all,
    ),
    handshake(
        "meta/list-namespace",
        Level::Should,
        "Metadata querying: `base:` lists the contexts of that namespace",
        list_namespace,
    ),
    handshake(
        "meta/list-selects-nothing",
        Level::Must,
        "Option types: LIST_META_CONTEXT does not change the selection",
        list_selects_nothing,
    ),
    handshake(
        "meta/set-namespace-selects-nothing",
        Level::Must,
        "Metadata querying: `base:` alone selects nothing in SET_META_CONTEXT",
        namespace_selects_nothing,
    ),
    handshake(
        "meta/unknown-is-ignored",
        Level::Must,
        "Metadata querying: queries of unknown namespaces and unknown leaves are ignored",
        unknown_is_ignored,
    ),
    handshake(
        "meta/ids-are-unique",
        Level::Must,
        "Option types: each selected context has an id of its own",
        unique_ids,
    ),
    handshake(
        "meta/set-without-structured",
        Level::Should,
        "Option types: SET_META_CONTEXT without structured replies gets ERR_INVALID",
        without_structured,
    ),
    handshake(
        "meta/set-empty-clears",
        Level::Must,
        "Option types: SET_META_CONTEXT without queries clears the selection; BLOCK_STATUS then gets EINVAL",
        empty_clears,
    ),
    handshake(
        "meta/failed-set-clears",
        Level::Must,
        "Option types: SET_META_CONTEXT replaces the selection even when it fails",
        failed_clears,
    ),
    handshake(
        "meta/set-for-another-export",
        Level::Must,
        "Option types: a selection counts only for the export that it named",
        another_export,
    ),
    handshake(
        "meta/lengths-must-match",
        Level::Must,
        "Option types: lengths that do not add up get ERR_INVALID",
        lengths,
    ),
    handshake(
        "meta/many-queries",
        Level::Must,
        "Option types: many queries are answered, or refused with ERR_TOO_BIG; the haggling goes on",
        many_queries,
    ),
    handshake(
        "meta/odd-queries",
        Level::Must,
        "Metadata querying: a query without a colon is ignored or refused; the haggling goes on",
        odd_queries,
    ),
];

const BASE: &[u8] = BASE_ALLOCATION.as_bytes();

/// A handshake with structured replies, on a server that has `base:allocation`.
fn structured(target: &Target) -> Outcome<Haggle> {
    needs!(target.has_allocation, "the server has no base:allocation");
    let mut haggle = Haggle::start(target)?;
    needs!(haggle.agree(ReplyMode::Structured)?, "the server has no structured replies");
    Ok(haggle)
}

fn list(haggle: &mut Haggle, target: &Target, queries: &[&[u8]]) -> Outcome<Vec<(u32, String)>> {
    let replies = haggle.ask(opt::LIST_META_CONTEXT, &meta_data(&target.name, queries))?;
    let kind = replies.last().expect("at least one reply").kind;
    demand!(kind == rep::ACK, "LIST_META_CONTEXT got {kind:#x}");
    contexts(&replies)
}

fn list_all(target: &Target) -> Outcome {
    let mut haggle = structured(target)?;
    let listed = list(&mut haggle, target, &[])?;
    let found = listed.iter().find(|(_, name)| name == BASE_ALLOCATION);
    demand!(found.is_some(), "base:allocation can be selected but is not listed: {listed:?}");
    demand!(listed.iter().all(|(id, _)| *id == 0), "ids in a list are 0: {listed:?}");
    haggle.abort()
}

fn list_namespace(target: &Target) -> Outcome {
    let mut haggle = structured(target)?;
    for query in [&b"base:"[..], BASE] {
        let listed = list(&mut haggle, target, &[query])?;
        let names: Vec<&str> = listed.iter().map(|(_, name)| name.as_str()).collect();
        demand!(names == [BASE_ALLOCATION], "{:?} lists {names:?}", String::from_utf8_lossy(query));
    }
    let listed = list(&mut haggle, target, &[b"x-nothing:at-all"])?;
    demand!(listed.is_empty(), "an unknown namespace lists {listed:?}");
    haggle.abort()
}

fn list_selects_nothing(target: &Target) -> Outcome {
    let mut haggle = structured(target)?;
    list(&mut haggle, target, &[BASE])?;
    has_no_status(haggle, target)
}

/// Opens the export and shows that no context is selected.
fn has_no_status(haggle: Haggle, target: &Target) -> Outcome {
    let mut session = Session::go(haggle, target, ReplyMode::Structured, Vec::new())?;
    let len = session.size().min(4096);
    session.ask(&Ask::status(0, len))?.error_in(&[EINVAL])?;
    session.close()
}

fn namespace_selects_nothing(target: &Target) -> Outcome {
    let mut haggle = structured(target)?;
    let selected = haggle.select(&target.name, &["base:"])?;
    demand!(selected.is_empty(), "`base:` selects {selected:?}");
    has_no_status(haggle, target)
}

fn unknown_is_ignored(target: &Target) -> Outcome {
    let mut haggle = structured(target)?;
    let queries: &[&[u8]] = &[b"x-nothing:at-all", BASE, b"base:nothing", b"qemu:dirty-bitmap:none"];
    let replies = haggle.ask(opt::SET_META_CONTEXT, &meta_data(&target.name, queries))?;
    let kind = replies.last().expect("at least one reply").kind;
    demand!(kind == rep::ACK, "SET_META_CONTEXT with unknown contexts got {kind:#x}");
    let selected = contexts(&replies)?;
    let names: Vec<&str> = selected.iter().map(|(_, name)| name.as_str()).collect();
    demand!(names == [BASE_ALLOCATION], "selected {names:?} instead of base:allocation");
    let mut session = Session::go(haggle, target, ReplyMode::Structured, selected)?;
    session.done(&Ask::status(0, session.size().min(4096)))?;
    session.close()
}

fn unique_ids(target: &Target) -> Outcome {
    let mut haggle = structured(target)?;
    let listed = list(&mut haggle, target, &[])?;
    let mut queries: Vec<&str> = listed.iter().map(|(_, name)| name.as_str()).collect();
    queries.push(BASE_ALLOCATION);
    let selected = haggle.select(&target.name, &queries)?;
    for (at, (id, name)) in selected.iter().enumerate() {
        let mismatch = selected[..at].iter().any(|other| (other.0 == *id) != (other.1 == *name));
        demand!(!mismatch, "{name} with id {id} does not fit the others: {selected:?}");
    }
    haggle.abort()
}

fn without_structured(target: &Target) -> Outcome {
    needs!(target.has_allocation, "the server has no base:allocation");
    let mut haggle = Haggle::start(target)?;
    let kind = haggle.ask_kind(opt::SET_META_CONTEXT, &meta_data(&target.name, &[BASE]))?;
    demand!(kind == rep::ERR_INVALID, "SET_META_CONTEXT without structured replies got {kind:#x}");
    haggle.abort()
}

/// Selects `base:allocation`, which must work.
fn selected(target: &Target) -> Outcome<Haggle> {
    let mut haggle = structured(target)?;
    let selected = haggle.select(&target.name, &[BASE_ALLOCATION])?;
    demand!(selected.len() == 1, "base:allocation was selected before and is not now: {selected:?}");
    Ok(haggle)
}

fn empty_clears(target: &Target) -> Outcome {
    let mut haggle = selected(target)?;
    let again = haggle.select(&target.name, &[])?;
    demand!(again.is_empty(), "no query selects {again:?}");
    has_no_status(haggle, target)
}

fn failed_clears(target: &Target) -> Outcome {
    let mut haggle = selected(target)?;
    let mut malformed = meta_data(&target.name, &[BASE]);
    malformed.pop();
    let kind = haggle.ask_kind(opt::SET_META_CONTEXT, &malformed)?;
    demand!(kind == rep::ERR_INVALID, "SET_META_CONTEXT that is too short got {kind:#x}");
    has_no_status(haggle, target)
}

fn another_export(target: &Target) -> Outcome {
    let mut haggle = selected(target)?;
    haggle.select(b"another export", &[BASE_ALLOCATION])?;
    has_no_status(haggle, target)
}

fn lengths(target: &Target) -> Outcome {
    let good = meta_data(&target.name, &[BASE]);
    let mut bad: Vec<Vec<u8>> = (0..good.len()).step_by(3).map(|len| good[..len].to_vec()).collect();
    bad.push([&good[..], b"x"].concat());
    let count_at = 4 + target.name.len();
    for wrong in [0u32, 2, 1 << 30, u32::MAX] {
        bad.push([&good[..count_at], &wrong.to_be_bytes(), &good[count_at + 4..]].concat());
    }
    for wrong in [0u32, 14, 16, u32::MAX] {
        bad.push([&good[..count_at + 4], &wrong.to_be_bytes(), &good[count_at + 8..]].concat());
        bad.push([&(wrong | 1 << 12).to_be_bytes(), &good[4..]].concat());
    }
    for option in [opt::LIST_META_CONTEXT, opt::SET_META_CONTEXT] {
        for batch in bad.chunks(10) {
            let mut haggle = structured(target)?;
            for data in batch {
                let kind = haggle.ask_kind(option, data)?;
                let fine = [rep::ERR_INVALID, rep::ERR_TOO_BIG].contains(&kind);
                demand!(fine, "option {option} with data {data:02x?} got {kind:#x}");
            }
            haggle.in_step()?;
        }
    }
    Ok(())
}

fn many_queries(target: &Target) -> Outcome {
    let mut haggle = structured(target)?;
    let names: Vec<String> = (0..1000).map(|number| format!("x-many:{number}")).collect();
    let mut queries: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    queries.push(BASE);
    for option in [opt::LIST_META_CONTEXT, opt::SET_META_CONTEXT] {
        let replies = haggle.ask(option, &meta_data(&target.name, &queries))?;
        match replies.last().expect("at least one reply").kind {
            rep::ACK => {
                let found = contexts(&replies)?;
                demand!(found.len() == 1, "option {option} with 1001 queries found {found:?}");
            }
            rep::ERR_TOO_BIG => {}
            kind => return failed(format!("option {option} with 1001 queries got {kind:#x}")),
        }
    }
    haggle.in_step()?;
    haggle.abort()
}

fn odd_queries(target: &Target) -> Outcome {
    let mut haggle = structured(target)?;
    for query in [&b""[..], b"base", b":", b"::", b":allocation", b"base:allocation:", b"BASE:ALLOCATION"] {
        let replies = haggle.ask(opt::SET_META_CONTEXT, &meta_data(&target.name, &[query]))?;
        let kind = replies.last().expect("at least one reply").kind;
        let fine = [rep::ACK, rep::ERR_INVALID].contains(&kind);
        demand!(fine, "the query {:?} got {kind:#x}", String::from_utf8_lossy(query));
        let found = contexts(&replies)?;
        demand!(found.is_empty(), "the query {:?} selects {found:?}", String::from_utf8_lossy(query));
    }
    haggle.in_step()?;
    haggle.abort()
}
