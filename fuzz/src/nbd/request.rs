//! Requests: decoder, rules, and the payload of BLOCK_STATUS.

use nbd::client::header_for;
use nbd::{Command, Request, RequestHeader, StatusQuery, Transmission, Verdict, validate};

use super::{mode, session};
use crate::knobs::Knobs;

const SIZE_BYTES: u64 = (1 << 33) + 777;

/// Knobs are the kind of replies (1 byte) and the export's flags (2 bytes), then comes a header with what follows.
pub fn request(data: &[u8]) {
    let mut knobs = Knobs(data);
    let mode = mode(&mut knobs);
    let session = session(mode, knobs.u16(), SIZE_BYTES);
    let format = session.header_format();
    let mut bytes = knobs.0.to_vec();
    if bytes.len() < format.len() {
        return;
    }
    // The magic is no riddle for the fuzzer to solve; a wrong one is refused.
    assert!(bytes[..4] == format.magic().to_be_bytes() || RequestHeader::decode(format, &bytes).is_err());
    bytes[..4].copy_from_slice(&format.magic().to_be_bytes());
    let header = RequestHeader::decode(format, &bytes).expect("the magic is right");
    let mut again = Vec::new();
    header.encode(format, &mut again);
    assert_eq!(again, bytes[..format.len()]);
    if let Verdict::Accept(request) = validate(&header, &session) {
        check(&request, &session, &bytes[format.len()..]);
    }
}

/// What was accepted keeps the rules, and a client could have meant it.
fn check(request: &Request, session: &Transmission, payload: &[u8]) {
    let end = request.offset.checked_add(request.len);
    let inside = end.is_some_and(|end| end <= SIZE_BYTES);
    match request.command {
        Command::Resize | Command::Disconnect => {}
        Command::BlockStatus { payload_bytes: Some(_), .. } => {
            if let Ok(query) = StatusQuery::decode(request, payload, session) {
                assert!(request.offset.checked_add(query.len).is_some_and(|end| end <= SIZE_BYTES));
                assert!(query.ids.iter().all(|id| session.contexts.by_id(*id).is_some()));
                let mut again = Vec::new();
                query.encode(&mut again);
                assert_eq!(again, payload);
            }
        }
        _ => assert!(inside, "{request:?} is not inside the export"),
    }
    let header = header_for(request, session).expect("what is accepted can be asked for");
    assert_eq!(validate(&header, session), Verdict::Accept(*request));
}
