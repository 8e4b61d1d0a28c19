//! Each rule about requests, as a fact.

use proptest::prelude::*;

use super::*;
use crate::{Contexts, ExportFacts, ReplyMode, StatusQuery};

const SIZE: u64 = (1 << 33) + 777;
const MAX: u32 = 1 << 20;
const MODES: [ReplyMode; 3] = [ReplyMode::Simple, ReplyMode::Structured, ReplyMode::Extended];
const EXTENDED: ReplyMode = ReplyMode::Extended;
const STRUCTURED: ReplyMode = ReplyMode::Structured;
const FUA: u16 = 1;
const NO_HOLE: u16 = 2;
const DF: u16 = 4;
const REQ_ONE: u16 = 8;
const FAST_ZERO: u16 = 16;
const PAYLOAD_LEN: u16 = 32;

fn everything() -> ExportFacts {
    let mut facts = ExportFacts::new("disk", SIZE);
    facts.flags = TransmissionFlags::all() - TransmissionFlags::READ_ONLY;
    facts.block_sizes.maximum_payload_bytes = MAX;
    facts.maximum_read_bytes = 4 * MAX;
    facts.maximum_df_bytes = 65536;
    facts
}

fn session_of(facts: ExportFacts, mode: ReplyMode) -> Transmission {
    let mut contexts = Contexts::none();
    if mode.is_chunked() {
        contexts.select(7, "base:allocation");
        contexts.select(9, "qemu:allocation-depth");
    }
    Transmission::new(facts, mode, contexts)
}

fn session(mode: ReplyMode) -> Transmission {
    session_of(everything(), mode)
}

fn without(flag: TransmissionFlags, mode: ReplyMode) -> Transmission {
    let mut facts = everything();
    facts.flags -= flag;
    session_of(facts, mode)
}

fn header(kind: u16, flags: u16, offset: u64, len: u64) -> RequestHeader {
    RequestHeader { flags, kind, cookie: Cookie(1), offset, len }
}

/// A header that the session takes: WRITE says that it has a payload where it must.
fn legal(mode: ReplyMode, kind: u16, flags: u16, offset: u64, len: u64) -> RequestHeader {
    let payload = if mode == EXTENDED && kind == cmd::WRITE { PAYLOAD_LEN } else { 0 };
    header(kind, flags | payload, offset, len)
}

fn refusal(header: RequestHeader, session: &Transmission) -> (Errno, u64) {
    match validate(&header, session) {
        Verdict::Refuse { errno, payload_bytes, message } => {
            assert!(!message.is_empty());
            (errno, payload_bytes)
        }
        other => panic!("{header:?} is not refused: {other:?}"),
    }
}

fn accepted(header: RequestHeader, session: &Transmission) -> Request {
    match validate(&header, session) {
        Verdict::Accept(request) => request,
        other => panic!("{header:?} is not accepted: {other:?}"),
    }
}

fn disconnects(header: RequestHeader, session: &Transmission) {
    assert!(matches!(validate(&header, session), Verdict::HardDisconnect(_)), "{header:?}");
}

#[test]
fn each_command_is_accepted_with_each_of_its_flags() {
    use Command::*;
    let zeroes = |fua, no_hole, fast| WriteZeroes { fua, no_hole, fast };
    let table = [
        (cmd::READ, 0, Read { df: false }),
        (cmd::WRITE, 0, Write { fua: false }),
        (cmd::WRITE, FUA, Write { fua: true }),
        (cmd::TRIM, 0, Trim { fua: false }),
        (cmd::TRIM, FUA, Trim { fua: true }),
        (cmd::CACHE, 0, Cache),
        (cmd::WRITE_ZEROES, 0, zeroes(false, false, false)),
        (cmd::WRITE_ZEROES, FUA, zeroes(true, false, false)),
        (cmd::WRITE_ZEROES, NO_HOLE, zeroes(false, true, false)),
        (cmd::WRITE_ZEROES, FAST_ZERO, zeroes(false, false, true)),
        (cmd::WRITE_ZEROES, FUA | NO_HOLE | FAST_ZERO, zeroes(true, true, true)),
        (cmd::RESIZE, 0, Resize),
    ];
    for mode in MODES {
        for (kind, flags, command) in table {
            let request = accepted(legal(mode, kind, flags, 4096, 512), &session(mode));
            assert_eq!(request, Request { cookie: Cookie(1), offset: 4096, len: 512, command });
        }
        assert_eq!(accepted(header(cmd::FLUSH, 0, 0, 0), &session(mode)).command, Flush);
    }
    for mode in [STRUCTURED, EXTENDED] {
        let request = accepted(header(cmd::READ, DF, 0, 512), &session(mode));
        assert_eq!(request.command, Read { df: true });
        let request = accepted(header(cmd::BLOCK_STATUS, REQ_ONE, 0, 512), &session(mode));
        assert_eq!(request.command, BlockStatus { req_one: true, payload_bytes: None });
    }
}

#[test]
fn fua_is_tolerated_on_every_command_where_offered() {
    for mode in [STRUCTURED, EXTENDED] {
        for kind in [cmd::READ, cmd::CACHE, cmd::BLOCK_STATUS] {
            accepted(header(kind, FUA, 0, 512), &session(mode));
        }
        accepted(header(cmd::FLUSH, FUA, 0, 0), &session(mode));
        for kind in cmd::READ..=cmd::BLOCK_STATUS {
            if kind != cmd::DISC {
                let refused =
                    refusal(legal(mode, kind, FUA, 0, 0), &without(TransmissionFlags::SEND_FUA, mode));
                assert_eq!(refused.0, Errno::Inval);
            }
        }
    }
}

#[test]
fn each_flag_is_refused_on_commands_that_it_does_not_belong_to() {
    let own = |kind, flag| {
        matches!(
            (kind, flag),
            (_, FUA)
                | (cmd::READ, DF)
                | (cmd::WRITE, PAYLOAD_LEN)
                | (cmd::BLOCK_STATUS, REQ_ONE | PAYLOAD_LEN)
        ) || (kind == cmd::WRITE_ZEROES && matches!(flag, NO_HOLE | FAST_ZERO))
    };
    for mode in MODES {
        for kind in (cmd::READ..=cmd::RESIZE).filter(|kind| *kind != cmd::DISC) {
            for bit in 0..16 {
                let flag = 1u16 << bit;
                let (offset, len) = if kind == cmd::FLUSH { (0, 0) } else { (512, 512) };
                if !own(kind, flag) {
                    let refused = refusal(legal(mode, kind, flag, offset, len), &session(mode));
                    assert_eq!(refused.0, Errno::Inval, "command {kind}, bit {bit}");
                }
            }
        }
    }
}

#[test]
fn unknown_commands_are_invalid_and_the_stream_stays_in_step() {
    for kind in [9, 10, 255, 65535] {
        for mode in MODES {
            assert_eq!(refusal(header(kind, 0, 0, 512), &session(mode)), (Errno::Inval, 0));
        }
        assert_eq!(refusal(header(kind, PAYLOAD_LEN, 0, 512), &session(EXTENDED)), (Errno::Inval, 512));
    }
}

#[test]
fn commands_not_offered_are_invalid_but_cache() {
    let table = [
        (cmd::FLUSH, TransmissionFlags::SEND_FLUSH),
        (cmd::TRIM, TransmissionFlags::SEND_TRIM),
        (cmd::WRITE_ZEROES, TransmissionFlags::SEND_WRITE_ZEROES),
        (cmd::RESIZE, TransmissionFlags::SEND_RESIZE),
    ];
    for mode in MODES {
        for (kind, flag) in table {
            assert_eq!(refusal(header(kind, 0, 0, 0), &without(flag, mode)), (Errno::Inval, 0));
        }
        accepted(header(cmd::CACHE, 0, 0, 512), &without(TransmissionFlags::SEND_CACHE, mode));
    }
}

#[test]
fn flags_not_offered_are_invalid() {
    for mode in [STRUCTURED, EXTENDED] {
        let df = header(cmd::READ, DF, 0, 512);
        assert_eq!(refusal(df, &without(TransmissionFlags::SEND_DF, mode)).0, Errno::Inval);
        let fast = header(cmd::WRITE_ZEROES, FAST_ZERO, 0, 512);
        assert_eq!(refusal(fast, &without(TransmissionFlags::SEND_FAST_ZERO, mode)).0, Errno::Inval);
    }
    let status = header(cmd::BLOCK_STATUS, PAYLOAD_LEN, 0, 12);
    let no_payload = without(TransmissionFlags::BLOCK_STATUS_PAYLOAD, EXTENDED);
    assert_eq!(refusal(status, &no_payload), (Errno::Inval, 12));
    assert_eq!(refusal(header(cmd::READ, DF, 0, 512), &session(ReplyMode::Simple)).0, Errno::Inval);
}

#[test]
fn a_read_only_export_refuses_changes_and_serves_the_rest() {
    let mut facts = everything();
    facts.flags |= TransmissionFlags::READ_ONLY;
    for mode in MODES {
        let session = session_of(facts.clone(), mode);
        for kind in [cmd::TRIM, cmd::WRITE_ZEROES, cmd::RESIZE] {
            assert_eq!(refusal(header(kind, 0, 0, 512), &session), (Errno::Perm, 0));
        }
        assert_eq!(refusal(legal(mode, cmd::WRITE, 0, 0, 512), &session), (Errno::Perm, 512));
        accepted(header(cmd::READ, 0, 0, 512), &session);
        accepted(header(cmd::FLUSH, 0, 0, 0), &session);
        accepted(header(cmd::CACHE, 0, 0, 512), &session);
    }
    let mut facts = ExportFacts::new("bare", SIZE);
    facts.flags = TransmissionFlags::READ_ONLY;
    let bare = session_of(facts, STRUCTURED);
    assert_eq!(refusal(header(cmd::TRIM, 0, 0, 512), &bare).0, Errno::Perm, "offered or not");
}

#[test]
fn a_range_beyond_the_end_gets_the_error_of_its_command() {
    let table = [
        (cmd::READ, Errno::Inval),
        (cmd::WRITE, Errno::NoSpc),
        (cmd::TRIM, Errno::Inval),
        (cmd::CACHE, Errno::Inval),
        (cmd::WRITE_ZEROES, Errno::NoSpc),
        (cmd::BLOCK_STATUS, Errno::Inval),
    ];
    let beyond =
        [(SIZE, 1), (SIZE - 1, 2), (SIZE + 1, 1), (1 << 63, 512), (u64::MAX, 1), (u64::MAX - 511, 512)];
    for mode in [STRUCTURED, EXTENDED] {
        for (kind, errno) in table {
            for (offset, len) in beyond {
                let refused = refusal(legal(mode, kind, 0, offset, len), &session(mode));
                let payload = if kind == cmd::WRITE { len } else { 0 };
                assert_eq!(refused, (errno, payload), "command {kind} at {offset}+{len}");
            }
            accepted(legal(mode, kind, 0, SIZE - 1, 1), &session(mode));
        }
        assert_eq!(refusal(legal(mode, cmd::WRITE, 0, SIZE + 1, 0), &session(mode)), (Errno::NoSpc, 0));
    }
    let wraps = header(cmd::WRITE_ZEROES, 0, u64::MAX, u64::MAX);
    assert_eq!(refusal(wraps, &session(EXTENDED)), (Errno::NoSpc, 0));
}

#[test]
fn nothing_at_all_may_be_asked_for_up_to_the_end() {
    for mode in [STRUCTURED, EXTENDED] {
        for kind in [cmd::READ, cmd::WRITE, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES] {
            for offset in [0, 5, SIZE] {
                assert_eq!(accepted(legal(mode, kind, 0, offset, 0), &session(mode)).len, 0);
            }
        }
        let status = refusal(header(cmd::BLOCK_STATUS, 0, 0, 0), &session(mode));
        assert_eq!(status.0, Errno::Inval, "an answer has at least one extent");
    }
}

#[test]
fn an_export_of_no_bytes_takes_only_empty_requests() {
    let mut facts = everything();
    facts.size_bytes = 0;
    let session = session_of(facts, STRUCTURED);
    accepted(header(cmd::READ, 0, 0, 0), &session);
    accepted(header(cmd::FLUSH, 0, 0, 0), &session);
    assert_eq!(refusal(header(cmd::READ, 0, 0, 1), &session).0, Errno::Inval);
    assert_eq!(refusal(header(cmd::WRITE, 0, 0, 1), &session).0, Errno::NoSpc);
}

#[test]
fn commands_without_payload_may_be_longer_than_any_payload() {
    for kind in [cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::BLOCK_STATUS] {
        accepted(header(kind, 0, 0, u64::from(u32::MAX)), &session(STRUCTURED));
        accepted(header(kind, 0, 0, SIZE), &session(EXTENDED));
    }
}

#[test]
fn flush_has_no_range() {
    for mode in MODES {
        assert_eq!(refusal(header(cmd::FLUSH, 0, 512, 0), &session(mode)), (Errno::Inval, 0));
        assert_eq!(refusal(header(cmd::FLUSH, 0, 0, 512), &session(mode)), (Errno::Inval, 0));
    }
}

#[test]
fn disconnect_is_obeyed_whatever_else_it_says() {
    for mode in MODES {
        for flags in [0, 1, PAYLOAD_LEN, 0xffff] {
            let request = accepted(header(cmd::DISC, flags, u64::MAX, u64::MAX >> 32), &session(mode));
            assert_eq!(request.command, Command::Disconnect);
        }
    }
}

#[test]
fn the_new_size_of_a_resize_is_no_range() {
    let request = accepted(header(cmd::RESIZE, 0, SIZE * 2, 0), &session(STRUCTURED));
    assert_eq!((request.command, request.offset), (Command::Resize, SIZE * 2));
}

#[test]
fn a_long_payload_is_read_away_and_an_absurd_one_ends_the_connection() {
    for mode in MODES {
        let max = u64::from(MAX);
        accepted(legal(mode, cmd::WRITE, 0, 0, max), &session(mode));
        for len in [max + 1, 1 << 25, PAYLOAD_TOLERATED_BYTES] {
            assert_eq!(refusal(legal(mode, cmd::WRITE, 0, 0, len), &session(mode)), (Errno::Inval, len));
        }
        for len in [PAYLOAD_TOLERATED_BYTES + 1, u64::from(u32::MAX)] {
            disconnects(legal(mode, cmd::WRITE, 0, 0, len), &session(mode));
        }
    }
    disconnects(header(cmd::WRITE, PAYLOAD_LEN, 0, u64::MAX), &session(EXTENDED));
    disconnects(header(cmd::READ, PAYLOAD_LEN, 0, u64::MAX), &session(EXTENDED));
}

#[test]
fn a_maximum_above_the_tolerance_counts() {
    let mut facts = everything();
    facts.block_sizes.maximum_payload_bytes = u32::MAX;
    let session = session_of(facts, STRUCTURED);
    accepted(header(cmd::WRITE, 0, 0, u64::from(u32::MAX)), &session);
}

#[test]
fn reads_are_bounded_by_what_the_server_splits() {
    let max = 4 * u64::from(MAX);
    for mode in MODES {
        accepted(header(cmd::READ, 0, 0, max), &session(mode));
        assert_eq!(refusal(header(cmd::READ, 0, 0, max + 1), &session(mode)), (Errno::Inval, 0));
    }
    for mode in [STRUCTURED, EXTENDED] {
        accepted(header(cmd::READ, DF, 0, 65536), &session(mode));
        assert_eq!(refusal(header(cmd::READ, DF, 0, 65537), &session(mode)), (Errno::Overflow, 0));
    }
    let mut facts = everything();
    facts.maximum_read_bytes = u32::MAX;
    let session = session_of(facts, STRUCTURED);
    accepted(header(cmd::READ, 0, 0, u64::from(u32::MAX) - 8), &session);
    let refused = refusal(header(cmd::READ, 0, 0, u64::from(u32::MAX) - 7), &session);
    assert_eq!(refused.0, Errno::Inval, "its chunk would have no 32-bit length");
}

#[test]
fn alignment_binds_only_where_the_server_demands_it() {
    let mut facts = everything();
    facts.block_sizes.minimum_bytes = 4096;
    accepted(header(cmd::READ, 0, 1, 1), &session_of(facts.clone(), STRUCTURED));
    facts.required_alignment_bytes = 4096;
    let strict = session_of(facts, STRUCTURED);
    accepted(header(cmd::READ, 0, 4096, 8192), &strict);
    for (offset, len) in [(1, 4096), (4096, 1), (512, 512)] {
        assert_eq!(refusal(header(cmd::READ, 0, offset, len), &strict).0, Errno::Inval);
        assert_eq!(refusal(header(cmd::WRITE, 0, offset, len), &strict), (Errno::Inval, len));
    }
}

#[test]
fn a_write_has_a_payload_whether_or_not_its_flag_says_so() {
    for flags in [0, PAYLOAD_LEN] {
        accepted(header(cmd::WRITE, flags, 0, 512), &session(EXTENDED));
        let refused = refusal(header(cmd::WRITE, flags, SIZE, 512), &session(EXTENDED));
        assert_eq!(refused, (Errno::NoSpc, 512));
    }
    let refused = refusal(header(cmd::WRITE, PAYLOAD_LEN, 0, 512), &session(STRUCTURED));
    assert_eq!(refused, (Errno::Inval, 512), "the flag is unknown here, and the payload is there");
}

#[test]
fn a_payload_on_a_command_that_has_none_is_read_away() {
    for kind in [cmd::READ, cmd::TRIM, cmd::CACHE, cmd::WRITE_ZEROES, cmd::FLUSH, cmd::RESIZE] {
        assert_eq!(refusal(header(kind, PAYLOAD_LEN, 0, 100), &session(EXTENDED)), (Errno::Inval, 100));
        assert_eq!(refusal(header(kind, PAYLOAD_LEN, 0, 100), &session(STRUCTURED)), (Errno::Inval, 0));
    }
}

#[test]
fn block_status_needs_a_context() {
    let status = header(cmd::BLOCK_STATUS, 0, 0, 512);
    for mode in MODES {
        let session = Transmission::new(everything(), mode, Contexts::none());
        assert_eq!(refusal(status, &session), (Errno::Inval, 0));
    }
}

#[test]
fn a_payload_of_block_status_has_a_sensible_length() {
    let status = |len| header(cmd::BLOCK_STATUS, PAYLOAD_LEN, 4096, len);
    for len in [0, 8, 11, 8 + 4 * 65, 1 << 20] {
        assert_eq!(refusal(status(len), &session(EXTENDED)), (Errno::Inval, len));
    }
    let request = accepted(status(16), &session(EXTENDED));
    let command = Command::BlockStatus { req_one: false, payload_bytes: Some(16) };
    assert_eq!(request, Request { cookie: Cookie(1), offset: 4096, len: 0, command });
}

fn decode_query(query: &[u8], offset: u64) -> Result<StatusQuery, Errno> {
    let session = session(EXTENDED);
    let header = header(cmd::BLOCK_STATUS, PAYLOAD_LEN, offset, 12);
    StatusQuery::decode(&accepted(header, &session), query, &session).map_err(|error| error.errno)
}

#[test]
fn status_queries_name_selected_contexts_once() {
    let query = |len: u64, ids: &[u32]| {
        let mut out = Vec::new();
        StatusQuery { len, ids: ids.to_vec() }.encode(&mut out);
        out
    };
    let good = StatusQuery { len: SIZE, ids: vec![9, 7] };
    assert_eq!(decode_query(&query(SIZE, &[9, 7]), 0), Ok(good));
    for bad in [
        query(512, &[]),
        query(0, &[7]),
        query(512, &[7, 7]),
        query(512, &[8]),
        query(512, &[7, 9, 8]),
        query(SIZE + 1, &[7]),
        query(u64::MAX, &[7]),
        query(512, &[7])[..11].to_vec(),
        [query(512, &[7]), vec![0]].concat(),
        vec![],
    ] {
        assert_eq!(decode_query(&bad, 0), Err(Errno::Inval), "{bad:?}");
    }
    assert_eq!(decode_query(&query(1, &[7]), SIZE), Err(Errno::Inval));
}

#[test]
fn without_a_payload_a_status_query_is_about_all_contexts() {
    let session = session(STRUCTURED);
    let request = accepted(header(cmd::BLOCK_STATUS, 0, 0, 512), &session);
    let expected = StatusQuery { len: 512, ids: vec![7, 9] };
    assert_eq!(StatusQuery::decode(&request, &[], &session), Ok(expected));
}

#[test]
fn flags_that_the_agreement_rules_out_are_not_announced() {
    let all = TransmissionFlags::all();
    let mut contexts = Contexts::none();
    assert!(!all.announced(EXTENDED, &contexts).contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD));
    contexts.select(1, "base:allocation");
    assert_eq!(all.announced(EXTENDED, &contexts), all);
    assert!(!all.announced(STRUCTURED, &contexts).contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD));
    assert!(!all.announced(ReplyMode::Simple, &contexts).contains(TransmissionFlags::SEND_DF));
    let fast_only = TransmissionFlags::SEND_FAST_ZERO;
    assert_eq!(fast_only.announced(EXTENDED, &contexts), TransmissionFlags::HAS_FLAGS);
}

#[test]
fn contexts_are_unique_and_bounded() {
    let mut contexts = Contexts::none();
    assert_eq!(contexts.base_allocation(), None);
    assert!(contexts.select(3, "base:allocation"));
    assert!(!contexts.select(3, "x-a:b") && !contexts.select(4, "base:allocation"));
    assert_eq!(
        (contexts.base_allocation(), contexts.id_of("base:allocation"), contexts.len()),
        (Some(3), Some(3), 1)
    );
    for id in 100..200 {
        contexts.select(id, &format!("x-n:{id}"));
    }
    assert_eq!(contexts.len(), Contexts::MAX);
}

proptest! {
    /// Whatever arrives, an accepted range lies inside the export and no payload is forgotten.
    #[test]
    fn accepted_requests_are_safe(
        kind in 0u16..10, flags in prop_oneof![0u16..64, any::<u16>()],
        offset in prop_oneof![0..SIZE * 2, any::<u64>()], len in prop_oneof![0u64..70_000, any::<u64>()],
        mode in prop::sample::select(&MODES), announced: u16,
    ) {
        let mut facts = everything();
        facts.flags = TransmissionFlags::from_bits_truncate(announced);
        let session = session_of(facts, mode);
        let len = if mode == EXTENDED { len } else { len & u64::from(u32::MAX) };
        let header = header(kind, flags, offset, len);
        let payload = kind == cmd::WRITE || (mode == EXTENDED && flags & PAYLOAD_LEN != 0);
        match validate(&header, &session) {
            Verdict::Accept(Request { command: Command::Disconnect, .. }) => prop_assert_eq!(kind, cmd::DISC),
            Verdict::Accept(request) => {
                prop_assert_eq!(payload, matches!(request.command,
                    Command::Write { .. } | Command::BlockStatus { payload_bytes: Some(_), .. }));
                let by_payload = matches!(request.command, Command::BlockStatus { payload_bytes: Some(_), .. });
                let inside = request.offset.checked_add(request.len).is_some_and(|end| end <= SIZE);
                prop_assert!(inside || by_payload || request.command == Command::Resize);
                let changes = !matches!(request.command,
                    Command::Read { .. } | Command::Flush | Command::Cache | Command::BlockStatus { .. });
                prop_assert!(!(changes && session.export.is_read_only()));
            }
            Verdict::Refuse { payload_bytes, .. } => prop_assert_eq!(payload_bytes, if payload { len } else { 0 }),
            Verdict::HardDisconnect(_) => prop_assert!(payload && len > PAYLOAD_TOLERATED_BYTES),
        }
    }

    #[test]
    fn status_queries_survive_any_bytes(bytes: Vec<u8>) {
        let _ = decode_query(&bytes, 0);
    }
}
