use super::super::*;
use crate::wire::{TransmissionFlags, chunk};
use crate::{
    Command, Contexts, Cookie, Errno, ExportFacts, Extent, Extents, HeaderFormat, ReplyMode, Request,
    StatusQuery, Transmission, Verdict, validate,
};
use proptest::prelude::*;

const MODES: [ReplyMode; 3] = [ReplyMode::Simple, ReplyMode::Structured, ReplyMode::Extended];
const CHUNKED: [ReplyMode; 2] = [ReplyMode::Structured, ReplyMode::Extended];

fn session(mode: ReplyMode) -> Transmission {
    let mut facts = ExportFacts::new("disk", 1 << 40);
    facts.flags = TransmissionFlags::all() - TransmissionFlags::READ_ONLY;
    let mut contexts = Contexts::none();
    if mode.is_chunked() {
        contexts.select(7, "base:allocation");
        contexts.select(8, "qemu:allocation-depth");
    }
    Transmission::new(facts, mode, contexts)
}

fn request(command: Command, offset: u64, len: u64) -> Request {
    Request { cookie: Cookie(0xc0ffee), offset, len, command }
}

fn read(offset: u64, len: u64) -> Request {
    request(Command::Read { df: false }, offset, len)
}

const STATUS: Command = Command::BlockStatus { req_one: false, payload_bytes: None };

/// All that is told, with pieces of data joined: (data and holes as offset and bytes, statuses, result).
#[derive(Debug, Default, PartialEq)]
struct Told {
    bytes: Vec<(u64, Vec<u8>)>,
    statuses: Vec<(u32, Vec<Extent>)>,
    finished: Vec<(Cookie, Result<(), RequestError>)>,
}

impl Told {
    fn data(&mut self, offset: u64, bytes: &[u8]) {
        match self.bytes.last_mut() {
            Some((start, last)) if *start + last.len() as u64 == offset => last.extend_from_slice(bytes),
            _ => self.bytes.push((offset, bytes.to_vec())),
        }
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Data { offset, bytes, .. } => self.data(offset, bytes),
            Event::Hole { offset, len, .. } => self.data(offset, &vec![0; len as usize]),
            Event::Status { context_id, extents, .. } => self.statuses.push((context_id, extents)),
            Event::Finished { request, result } => self.finished.push((request.cookie, result)),
        }
    }
}

fn hear_in_pieces(
    mode: ReplyMode,
    requests: &[Request],
    input: &[u8],
    piece: usize,
) -> Result<Told, Violation> {
    let mut replies = Replies::new(&session(mode));
    requests.iter().for_each(|request| replies.sent(request));
    let mut told = Told::default();
    for part in input.chunks(piece) {
        let mut rest = part;
        loop {
            let (consumed, event) = replies.advance(rest)?;
            rest = &rest[consumed..];
            match event {
                Some(event) => told.take(event),
                None => break,
            }
        }
        assert!(rest.is_empty(), "without an event all is taken");
    }
    Ok(told)
}

fn hear(mode: ReplyMode, request: Request, input: &[u8]) -> Result<Told, Violation> {
    hear_in_pieces(mode, &[request], input, usize::MAX)
}

fn finished(told: &Told) -> &Result<(), RequestError> {
    assert_eq!(told.finished.len(), 1);
    &told.finished[0].1
}

/// A reply made by hand, so that it can be wrong.
fn raw(mode: ReplyMode, flags: u16, kind: u16, request: &Request, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let magic: u32 = if mode == ReplyMode::Extended { 0x6e8a_278c } else { 0x668e_33ef };
    out.extend_from_slice(&magic.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&request.cookie.0.to_be_bytes());
    if mode == ReplyMode::Extended {
        out.extend_from_slice(&request.offset.to_be_bytes());
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    } else {
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    }
    out.extend_from_slice(payload);
    out
}

fn breaks(mode: ReplyMode, request: Request, parts: &[&[u8]]) {
    let result = hear(mode, request, &parts.concat());
    assert!(result.is_err(), "{mode:?}: not noticed: {result:?}");
}

#[test]
fn heads_have_the_layout_of_the_specification() {
    let cookie = Cookie(0x0102_0304_0506_0708);
    let simple = ReplyMode::Simple;
    let ok = b"\x67\x44\x66\x98\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08";
    assert_eq!(simple.success(cookie, 9).as_bytes(), ok);
    assert_eq!(simple.data(cookie, 9, 9, 512, true).as_bytes(), ok);
    assert_eq!(
        simple.error(cookie, 9, Errno::NoSpc, "text").as_bytes(),
        b"\x67\x44\x66\x98\0\0\0\x1c\x01\x02\x03\x04\x05\x06\x07\x08"
    );
    let structured = ReplyMode::Structured;
    assert_eq!(
        structured.success(cookie, 9).as_bytes(),
        b"\x66\x8e\x33\xef\0\x01\0\0\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0"
    );
    assert_eq!(
        structured.data(cookie, 9, 0x10, 512, false).as_bytes(),
        b"\x66\x8e\x33\xef\0\0\0\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\x02\x08\0\0\0\0\0\0\0\x10"
    );
    assert_eq!(
        structured.error(cookie, 9, Errno::Io, "bad").as_bytes(),
        b"\x66\x8e\x33\xef\0\x01\x80\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x09\0\0\0\x05\0\x03bad"
    );
    let extended = ReplyMode::Extended;
    assert_eq!(
        extended.hole(cookie, 9, 0x10, 512, true).as_bytes(),
        b"\x6e\x8a\x27\x8c\0\x01\0\x02\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09\
          \0\0\0\0\0\0\0\x0c\0\0\0\0\0\0\0\x10\0\0\x02\0"
    );
    assert_eq!(
        extended.block_status(cookie, 9, 7, &[Extent { len: 512, flags: 3 }], true),
        b"\x6e\x8a\x27\x8c\0\x01\0\x06\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09\
          \0\0\0\0\0\0\0\x18\0\0\0\x07\0\0\0\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x03"
    );
}

#[test]
fn success_is_success_in_each_mode_for_each_command() {
    let commands = [
        Command::Write { fua: true },
        Command::Flush,
        Command::Trim { fua: false },
        Command::Cache,
        Command::WriteZeroes { fua: false, no_hole: true, fast: false },
        Command::Resize,
        Command::Read { df: false },
    ];
    for mode in MODES {
        for command in commands {
            let request = request(command, 4096, 0);
            let told = hear(mode, request, mode.success(request.cookie, request.offset).as_bytes()).unwrap();
            assert_eq!(finished(&told), &Ok(()), "{mode:?} {command:?}");
        }
    }
}

#[test]
fn errors_arrive_with_text_where_there_is_room() {
    for mode in MODES {
        for errno in Errno::ALL {
            let request = read(4096, 512);
            let reply = mode.error(request.cookie, request.offset, errno, "no \u{fc}se");
            let told = hear(mode, request, reply.as_bytes()).unwrap();
            let text = if mode.is_chunked() { "no \u{fc}se".to_owned() } else { String::new() };
            assert_eq!(finished(&told), &Err(RequestError { errno, text, offset: None }));
            let reply = mode.error_offset(request.cookie, request.offset, errno, "", 4097);
            let told = hear(mode, request, reply.as_bytes()).unwrap();
            let offset = mode.is_chunked().then_some(4097);
            assert_eq!(finished(&told), &Err(RequestError { errno, text: String::new(), offset }));
        }
    }
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let text = format!("x{}", "\u{20ac}".repeat(500));
    for mode in CHUNKED {
        let request = read(0, 512);
        let reply = mode.error_offset(request.cookie, 0, Errno::Io, &text, 1);
        let told = hear(mode, request, reply.as_bytes()).unwrap();
        let Err(error) = finished(&told) else { panic!("an error") };
        assert_eq!(error.text.len(), 1 + 66 * 3);
        assert!(text.starts_with(&error.text));
    }
}

#[test]
fn a_read_is_reassembled_from_chunks_in_any_order() {
    for mode in CHUNKED {
        let request = read(1000, 3000);
        let mut input = mode.hole(request.cookie, 1000, 3000, 1000, false).as_bytes().to_vec();
        input.extend_from_slice(mode.data(request.cookie, 1000, 1000, 1000, false).as_bytes());
        input.extend_from_slice(&[1; 1000]);
        input.extend_from_slice(mode.data(request.cookie, 1000, 2000, 1000, false).as_bytes());
        input.extend_from_slice(&[2; 1000]);
        input.extend_from_slice(mode.success(request.cookie, 1000).as_bytes());
        for piece in [1, 3, 29, 1000, usize::MAX] {
            let told = hear_in_pieces(mode, &[request], &input, piece).unwrap();
            assert_eq!(finished(&told), &Ok(()));
            let data = [vec![1; 1000], vec![2; 1000]].concat();
            assert_eq!(told.bytes, [(3000, vec![0; 1000]), (1000, data)]);
        }
    }
}

#[test]
fn replies_of_several_requests_may_interleave() {
    for mode in CHUNKED {
        let (a, mut b) = (read(0, 512), read(512, 512));
        b.cookie = Cookie(2);
        let mut input = mode.hole(a.cookie, 0, 0, 256, false).as_bytes().to_vec();
        input.extend_from_slice(mode.hole(b.cookie, 512, 512, 512, true).as_bytes());
        input.extend_from_slice(mode.hole(a.cookie, 0, 256, 256, true).as_bytes());
        let told = hear_in_pieces(mode, &[a, b], &input, 5).unwrap();
        assert_eq!(told.finished, [(b.cookie, Ok(())), (a.cookie, Ok(()))]);
    }
}

#[test]
fn breaches_about_content_are_noticed() {
    for mode in CHUNKED {
        let r = read(4096, 1024);
        let hole = |offset, len| mode.hole(r.cookie, r.offset, offset, len, false);
        let end = mode.success(r.cookie, r.offset);
        breaks(mode, r, &[hole(4096, 512).as_bytes(), end.as_bytes()]);
        breaks(mode, r, &[end.as_bytes()]);
        breaks(mode, r, &[hole(4096, 1025).as_bytes()]);
        breaks(mode, r, &[hole(4095, 1024).as_bytes()]);
        breaks(mode, r, &[hole(u64::MAX, 1024).as_bytes()]);
        breaks(mode, r, &[hole(4096, 512).as_bytes(), hole(4607, 100).as_bytes()]);
        breaks(mode, r, &[&raw(mode, 0, chunk::OFFSET_HOLE, &r, &[0; 12])]);
        breaks(mode, r, &[&raw(mode, 0, chunk::OFFSET_HOLE, &r, &[0; 13])]);
        breaks(mode, r, &[&raw(mode, 0, chunk::OFFSET_DATA, &r, &[0; 8])]);
        breaks(mode, r, &[&raw(mode, 0, chunk::OFFSET_DATA, &r, &[0; 1033])]);
        let write = Request { command: Command::Write { fua: false }, ..r };
        breaks(mode, write, &[hole(4096, 512).as_bytes()]);
        let df = Request { command: Command::Read { df: true }, ..r };
        breaks(mode, df, &[hole(4096, 512).as_bytes(), hole(4608, 512).as_bytes()]);
    }
}

#[test]
fn breaches_about_headers_are_noticed() {
    for mode in CHUNKED {
        let r = read(4096, 1024);
        breaks(mode, r, &[&raw(mode, 0, chunk::NONE, &r, &[])]);
        breaks(mode, r, &[&raw(mode, 1, chunk::NONE, &r, &[0])]);
        breaks(mode, r, &[&raw(mode, 1, 3, &r, &[])]);
        breaks(mode, r, &[&raw(mode, 1, 0x7fff, &r, &[])]);
        let stranger = Request { cookie: Cookie(1), ..r };
        breaks(mode, r, &[&raw(mode, 1, chunk::NONE, &stranger, &[])]);
        breaks(mode, r, &[b"\x67\x44\x66\x99"]);
        breaks(mode, r, &[ReplyMode::Simple.success(r.cookie, 0).as_bytes()]);
    }
    let r = read(4096, 1024);
    let moved = Request { offset: 0, ..r };
    breaks(ReplyMode::Extended, r, &[&raw(ReplyMode::Extended, 1, chunk::ERROR, &moved, b"\0\0\0\x05\0\0")]);
    breaks(ReplyMode::Simple, r, &[ReplyMode::Structured.success(r.cookie, 0).as_bytes()]);
    breaks(ReplyMode::Simple, r, &[ReplyMode::Simple.success(Cookie(1), 0).as_bytes()]);
    let w = request(Command::Write { fua: false }, 0, 512);
    breaks(ReplyMode::Extended, w, &[ReplyMode::Simple.success(w.cookie, 0).as_bytes()]);
    let late = raw(ReplyMode::Structured, 0, chunk::ERROR, &w, b"\0\0\0\x05\0\0");
    breaks(ReplyMode::Structured, w, &[&late, ReplyMode::Simple.success(w.cookie, 0).as_bytes()]);
    let told = hear(ReplyMode::Structured, w, ReplyMode::Simple.success(w.cookie, 0).as_bytes()).unwrap();
    assert_eq!(finished(&told), &Ok(()), "a simple reply without payload stays legal");
}

#[test]
fn breaches_in_error_chunks_are_noticed() {
    for mode in CHUNKED {
        let r = read(4096, 1024);
        let error = |kind, payload: &[u8]| raw(mode, 1, kind, &r, payload);
        breaks(mode, r, &[&error(chunk::ERROR, b"\0\0\0\0\0\0")]);
        breaks(mode, r, &[&error(chunk::ERROR, b"\0\0\0\x05\0\x01")]);
        breaks(mode, r, &[&error(chunk::ERROR, b"\0\0\0\x05\0")]);
        breaks(mode, r, &[&error(chunk::ERROR_OFFSET, b"\0\0\0\x05\0\0\0\0\0\0\0\0\0\0")]);
        breaks(mode, r, &[&error(chunk::ERROR_OFFSET, b"\0\0\0\x05\0\x01x\0\0\0\0\0\0\x10")]);
        let mut long = b"\0\0\0\x05\x10\x01".to_vec();
        long.resize(6 + 4097, b'x');
        breaks(mode, r, &[&error(chunk::ERROR, &long)]);
        let failed = raw(mode, 0, chunk::ERROR_OFFSET, &r, b"\0\0\0\x05\0\0\0\0\0\0\0\0\x10\x10");
        breaks(mode, r, &[&failed, mode.hole(r.cookie, r.offset, 4096, 512, true).as_bytes()]);
    }
}

#[test]
fn unknown_errors_fail_the_request_and_nothing_else() {
    for mode in CHUNKED {
        let r = read(4096, 1024);
        let told = hear(mode, r, &raw(mode, 0xfffd, 0x9abc, &r, b"\0\0\0\x63\0\x02hi and more")).unwrap();
        let expected = RequestError { errno: Errno::Inval, text: "hi".into(), offset: None };
        assert_eq!(finished(&told), &Err(expected), "unknown flag bits are ignored, DONE is seen");
    }
}

#[test]
fn block_status_is_told_for_each_context() {
    for mode in CHUNKED {
        let r = request(STATUS, 4096, 8192);
        let extents = [Extent { len: 4096, flags: 3 }, Extent { len: 1 << 20, flags: 0 }];
        let mut input = mode.block_status(r.cookie, r.offset, 8, &extents, false);
        input.extend(mode.block_status(r.cookie, r.offset, 7, &extents[..1], true));
        for piece in [1, 7, usize::MAX] {
            let told = hear_in_pieces(mode, &[r], &input, piece).unwrap();
            assert_eq!(told.statuses, [(8, extents.to_vec()), (7, extents[..1].to_vec())]);
            assert_eq!(finished(&told), &Ok(()));
        }
    }
}

#[test]
fn breaches_in_block_status_are_noticed() {
    for mode in CHUNKED {
        let r = request(STATUS, 4096, 8192);
        let status = |id, lens: &[u64], done| {
            let extents: Vec<_> = lens.iter().map(|len| Extent { len: *len, flags: 0 }).collect();
            mode.block_status(r.cookie, r.offset, id, &extents, done)
        };
        breaks(mode, r, &[&status(7, &[8192], true)]);
        breaks(mode, r, &[&status(7, &[8192], false), &status(7, &[8192], true)]);
        breaks(mode, r, &[&status(9, &[8192], false)]);
        breaks(mode, r, &[&status(7, &[8192, 512], false)]);
        breaks(mode, r, &[&status(7, &[4096, 4096, 1], false)]);
        let one = Request { command: Command::BlockStatus { req_one: true, payload_bytes: None }, ..r };
        breaks(mode, one, &[&status(7, &[4096, 4096], false)]);
        breaks(mode, one, &[&status(7, &[8193], false)]);
        breaks(mode, read(4096, 8192), &[&status(7, &[8192], false)]);
    }
    let r = request(STATUS, 4096, 8192);
    let (structured, extended) = (ReplyMode::Structured, ReplyMode::Extended);
    breaks(structured, r, &[&raw(structured, 0, chunk::BLOCK_STATUS, &r, &[0, 0, 0, 7])]);
    breaks(structured, r, &[&raw(structured, 0, chunk::BLOCK_STATUS, &r, b"\0\0\0\x07\0\0\0\0\0\0\0\0")]);
    breaks(structured, r, &[&raw(structured, 0, chunk::BLOCK_STATUS, &r, b"\0\0\0\x07\0\0\x01\0\0\0\0\0\0")]);
    breaks(extended, r, &[&raw(extended, 0, chunk::BLOCK_STATUS, &r, b"\0\0\0\x07\0\0\x01\0\0\0\0\0")]);
    let count_2 = b"\0\0\0\x07\0\0\0\x02\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0";
    breaks(extended, r, &[&raw(extended, 0, chunk::BLOCK_STATUS_EXT, &r, count_2)]);
}

#[test]
fn a_status_query_is_owed_only_what_it_named() {
    let mode = ReplyMode::Extended;
    let query = StatusQuery { len: 1 << 33, ids: vec![8] };
    let command = Command::BlockStatus { req_one: false, payload_bytes: Some(12) };
    let r = request(command, 0, 0);
    let mut replies = Replies::new(&session(mode));
    replies.sent_query(&r, &query);
    let input = mode.block_status(r.cookie, 0, 8, &[Extent { len: 1 << 34, flags: 1 }], true);
    let (consumed, event) = replies.advance(&input).unwrap();
    assert!(matches!(event, Some(Event::Status { context_id: 8, .. })));
    let (_, event) = replies.advance(&input[consumed..]).unwrap();
    assert!(matches!(event, Some(Event::Finished { result: Ok(()), .. })));
    assert_eq!(replies.in_flight(), 0);
}

#[test]
fn extents_too_long_for_32_bits_are_cut_and_end_the_answer() {
    let mode = ReplyMode::Structured;
    let r = request(STATUS, 0, u64::from(u32::MAX));
    let extents =
        [Extent { len: 512, flags: 0 }, Extent { len: 1 << 33, flags: 3 }, Extent { len: 1, flags: 0 }];
    let mut input = mode.block_status(r.cookie, 0, 7, &extents, false);
    input.extend(mode.block_status(r.cookie, 0, 8, &extents[..1], true));
    let told = hear(mode, r, &input).unwrap();
    assert_eq!(told.statuses[0].1, [extents[0], Extent { len: 0xffff_0000, flags: 3 }]);
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        any::<bool>().prop_map(|df| Command::Read { df }),
        any::<bool>().prop_map(|fua| Command::Write { fua }),
        Just(Command::Flush),
        any::<bool>().prop_map(|fua| Command::Trim { fua }),
        Just(Command::Cache),
        any::<(bool, bool, bool)>().prop_map(|(fua, no_hole, fast)| Command::WriteZeroes {
            fua,
            no_hole,
            fast
        }),
        any::<bool>().prop_map(|req_one| Command::BlockStatus { req_one, payload_bytes: None }),
        Just(Command::Resize),
        Just(Command::Disconnect),
    ]
}

proptest! {
    #[test]
    fn a_header_the_client_makes_is_accepted_as_the_same_request(
        command in any_command(), mode in prop::sample::select(&MODES), cookie: u64,
        offset in 0u64..(1 << 40), len in 1u64..65536,
    ) {
        let session = session(mode);
        let (offset, len) = match command {
            Command::Flush | Command::Disconnect => (0, 0),
            _ => (offset, len),
        };
        let request = Request { cookie: Cookie(cookie), offset, len, command };
        let made = header_for(&request, &session);
        let judged = validate(&request.header(session.header_format()), &session);
        match made {
            Ok(header) => prop_assert_eq!(validate(&header, &session), Verdict::Accept(request)),
            Err(_) => prop_assert!(!matches!(judged, Verdict::Accept(_))),
        }
        let is_chunked_only = matches!(command, Command::BlockStatus { .. } | Command::Read { df: true });
        let fits = offset + len <= 1 << 40 || command == Command::Resize;
        prop_assert_eq!(made.is_ok(), fits && (mode.is_chunked() || !is_chunked_only));
    }

    #[test]
    fn extents_keep_the_rules(
        parts in prop::collection::vec((0u64..5000, 0u64..3), 0..30),
        len in 1u64..20_000, req_one: bool, most in 1usize..6,
    ) {
        let mut extents = Extents::new(len, req_one, most);
        let mut more = true;
        for (part, flags) in &parts {
            if !more { break; }
            more = extents.push(*part, *flags);
        }
        prop_assume!(!extents.as_slice().is_empty());
        prop_assert!(extents.as_slice().windows(2).all(|pair| pair[0].flags != pair[1].flags));
        let command = Command::BlockStatus { req_one, payload_bytes: None };
        let request = Request { cookie: Cookie(1), offset: 0, len, command };
        for mode in CHUNKED {
            let mut input = mode.block_status(request.cookie, 0, 7, extents.as_slice(), false);
            input.extend(mode.block_status(request.cookie, 0, 8, extents.as_slice(), true));
            let told = hear(mode, request, &input);
            prop_assert!(told.is_ok(), "{:?}", told);
            prop_assert_eq!(&told.unwrap().statuses[0].1, extents.as_slice());
        }
    }

    #[test]
    fn any_split_of_any_reply_gives_the_same(
        mode in prop::sample::select(&MODES),
        cuts in prop::collection::vec(1u32..200, 1..6), data: bool, fails: bool, piece in 1usize..300,
    ) {
        let total: u32 = cuts.iter().sum();
        let request = read(4096, u64::from(total));
        let mut input = Vec::new();
        let cuts = if mode.is_chunked() { cuts } else { vec![total] };
        let mut at = 4096;
        for cut in cuts {
            if data || !mode.is_chunked() {
                input.extend_from_slice(mode.data(request.cookie, 4096, at, cut, false).as_bytes());
                input.extend(vec![cut as u8; cut as usize]);
            } else {
                input.extend_from_slice(mode.hole(request.cookie, 4096, at, cut, false).as_bytes());
            }
            at += u64::from(cut);
        }
        if fails && mode.is_chunked() {
            let reply = mode.error(request.cookie, 4096, Errno::Io, "late");
            input.extend_from_slice(reply.as_bytes());
        } else if mode.is_chunked() {
            input.extend_from_slice(mode.success(request.cookie, 4096).as_bytes());
        }
        let whole = hear(mode, request, &input).unwrap();
        prop_assert_eq!(whole.finished.len(), 1);
        prop_assert_eq!(whole.bytes[0].1.len(), total as usize);
        prop_assert_eq!(hear_in_pieces(mode, &[request], &input, piece).unwrap(), whole);
    }

    #[test]
    fn any_bytes_are_survived(
        mode in prop::sample::select(&MODES), kind in prop::sample::select(vec![0u16, 1, 2, 5, 6, 0x8001, 0x8002, 3]),
        payload: Vec<u8>, junk: Vec<u8>, shaped: bool, status: bool,
    ) {
        let request = if status { request(STATUS, 4096, 1024) } else { read(4096, 1024) };
        let mut input = if shaped { raw(mode, 0, kind, &request, &payload) } else { Vec::new() };
        input.extend(junk);
        let whole = hear(mode, request, &input);
        let single = hear_in_pieces(mode, &[request], &input, 1);
        prop_assert_eq!(whole.is_ok(), single.is_ok());
    }

    #[test]
    fn reply_headers_never_panic(bytes: Vec<u8>, mode in prop::sample::select(&MODES)) {
        let _ = ReplyHeader::decode(mode, &bytes);
    }
}

#[test]
fn compact_headers_cannot_carry_long_lengths() {
    let long = request(Command::Trim { fua: false }, 0, 1 << 32);
    assert!(header_for(&long, &session(ReplyMode::Structured)).is_err());
    let header = header_for(&long, &session(ReplyMode::Extended)).unwrap();
    assert_eq!(header.len, 1 << 32);
    assert_eq!(session(ReplyMode::Extended).header_format(), HeaderFormat::Extended);
}
