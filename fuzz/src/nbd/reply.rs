//! Replies, as a client takes them.

use std::collections::HashMap;

use nbd::client::{Event, Replies};
use nbd::{Command, Cookie, ReplyMode, Request};

use super::{mode, session};
use crate::knobs::Knobs;

/// Knobs are the kind of replies (1 byte) and four requests (cookie 1 to 4; command, offset and length), then comes
/// what a server sends.
pub fn reply(data: &[u8]) {
    let mut knobs = Knobs(data);
    let mode = mode(&mut knobs);
    let requests: Vec<Request> = (1..=4).map(|cookie| one_request(Cookie(cookie), &mut knobs)).collect();
    let whole = hear(mode, &requests, knobs.0, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(hear(mode, &requests, knobs.0, piece), whole, "in pieces of {piece}");
    }
}

fn one_request(cookie: Cookie, knobs: &mut Knobs<'_>) -> Request {
    let command = match knobs.u8() % 6 {
        0 => Command::Read { df: false },
        1 => Command::Read { df: true },
        2 => Command::BlockStatus { req_one: false, payload_bytes: None },
        3 => Command::BlockStatus { req_one: true, payload_bytes: None },
        4 => Command::Write { fua: false },
        _ => Command::Flush,
    };
    Request { cookie, offset: u64::from(knobs.u32()), len: u64::from(knobs.u16()), command }
}

/// Told bytes of each request, and how it all ended. Pieces of data are counted, not listed: they follow the input's.
fn hear(
    mode: ReplyMode,
    requests: &[Request],
    input: &[u8],
    piece: usize,
) -> (HashMap<u64, u64>, Vec<String>) {
    let mut replies = Replies::new(&session(mode, u16::MAX, u64::MAX));
    requests.iter().for_each(|request| replies.sent(request));
    let by_cookie =
        |cookie: Cookie| requests.iter().find(|request| request.cookie == cookie).expect("one of ours");
    let (mut told_bytes, mut ends) = (HashMap::<u64, u64>::new(), Vec::new());
    for part in input.chunks(piece) {
        let mut rest = part;
        loop {
            let (consumed, event) = match replies.advance(rest) {
                Ok(advance) => advance,
                Err(violation) => {
                    ends.push(violation.to_string());
                    return (told_bytes, ends);
                }
            };
            rest = &rest[consumed..];
            let Some(event) = event else { break };
            let (cookie, offset, len) = match &event {
                Event::Data { cookie, offset, bytes } => (*cookie, *offset, bytes.len() as u64),
                Event::Hole { cookie, offset, len } => (*cookie, *offset, *len),
                Event::Status { cookie, extents, .. } => {
                    assert!(extents.iter().all(|extent| extent.len > 0));
                    ends.push(format!("{event:?}"));
                    (*cookie, by_cookie(*cookie).offset, 0)
                }
                Event::Finished { request, result } => {
                    let told = told_bytes.get(&request.cookie.0).copied().unwrap_or(0);
                    let is_read = matches!(request.command, Command::Read { .. });
                    assert!(result.is_err() || !is_read || told == request.len, "success must be complete");
                    ends.push(format!("{event:?}"));
                    continue;
                }
            };
            let request = by_cookie(cookie);
            assert!(offset >= request.offset && offset + len <= request.offset + request.len, "{event:?}");
            *told_bytes.entry(cookie.0).or_default() += len;
        }
        assert!(rest.is_empty(), "all is taken when there is no event");
    }
    (told_bytes, ends)
}
