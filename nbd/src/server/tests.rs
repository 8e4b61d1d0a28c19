//! Each option rule, as a fact about the bytes that come back.

use super::*;
use crate::option::{Info, InfoRequest, MetaContext, MetaRequest, OptionHeader, OptionReplyHeader};
use crate::wire::{OPTION_REPLY_HEADER_BYTES, TransmissionFlags, info, opt, rep};
use crate::{BlockSizeDemand, ExportFacts, ReplyMode, Transmission};
use proptest::prelude::*;

const FIXED: u32 = 3;

struct Disks {
    block_size_demand: BlockSizeDemand,
    list: ListAnswer,
}

impl Default for Disks {
    fn default() -> Self {
        let listed = |name: &str| Listed { name: name.into(), description: "text".into() };
        Disks {
            block_size_demand: BlockSizeDemand::Advice,
            list: ListAnswer::Exports(vec![listed("disk"), listed("secret")]),
        }
    }
}

impl Exports for Disks {
    fn list(&self) -> ListAnswer {
        self.list.clone()
    }

    fn find(&self, name: &str) -> Option<ExportFacts> {
        if !matches!(name, "" | "disk" | "other" | "secret") {
            return None;
        }
        let mut facts = ExportFacts::new(if name.is_empty() { "disk" } else { name }, 1 << 20);
        facts.flags = TransmissionFlags::all() - TransmissionFlags::READ_ONLY;
        facts.description = Some("a disk".into());
        facts.block_size_demand = self.block_size_demand;
        facts.contexts =
            ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b"].map(str::to_owned).to_vec();
        Some(facts)
    }

    fn needs_tls(&self, name: &str) -> bool {
        name == "secret"
    }
}

/// A scripted client: collects options, runs them, and looks at the replies.
struct Script {
    input: Vec<u8>,
    policy: Policy,
    disks: Disks,
}

/// Replies as (option, kind, data).
type Replies = Vec<(u32, u32, Vec<u8>)>;

fn parse_replies(mut out: &[u8]) -> Replies {
    let mut replies = Vec::new();
    while !out.is_empty() {
        let header = OptionReplyHeader::decode(out).expect("a reply header");
        let end = OPTION_REPLY_HEADER_BYTES + header.len as usize;
        replies.push((header.option, header.kind, out[OPTION_REPLY_HEADER_BYTES..end].to_vec()));
        out = &out[end..];
    }
    replies
}

impl Script {
    fn with_flags(flags: u32) -> Script {
        Script { input: flags.to_be_bytes().to_vec(), policy: Policy::default(), disks: Disks::default() }
    }

    fn new() -> Script {
        Self::with_flags(FIXED)
    }

    fn tls(mut self, tls: TlsMode) -> Script {
        self.policy.tls = tls;
        self
    }

    fn without(mut self, offer: Offer) -> Script {
        self.policy.offer -= offer;
        self
    }

    fn option(mut self, option: u32, data: &[u8]) -> Script {
        OptionHeader::encode(option, data, &mut self.input);
        self
    }

    fn info(self, option: u32, name: &str, types: &[u16]) -> Script {
        let mut data = Vec::new();
        InfoRequest { name, types: types.to_vec() }.encode(&mut data);
        self.option(option, &data)
    }

    fn go(self, name: &str) -> Script {
        self.info(opt::GO, name, &[])
    }

    fn meta(self, option: u32, name: &str, queries: &[&str]) -> Script {
        let mut data = Vec::new();
        MetaRequest { name, queries: queries.to_vec() }.encode(&mut data);
        self.option(option, &data)
    }

    fn run_raw(&self) -> (State, Vec<u8>, usize) {
        let mut out = Vec::new();
        let advance = Handshake::new(self.policy).advance(&self.input, &self.disks, &mut out);
        (advance.state, out, advance.consumed)
    }

    fn run(&self) -> (State, Replies) {
        let (state, out, _) = self.run_raw();
        (state, parse_replies(&out))
    }

    /// Kinds of all replies.
    fn kinds(&self) -> Vec<u32> {
        self.run().1.iter().map(|reply| reply.1).collect()
    }

    fn session(&self) -> Transmission {
        match self.run().0 {
            State::Transmission(session) => *session,
            other => panic!("no session: {other:?}"),
        }
    }

    fn closes(&self) -> CloseReason {
        match self.run_raw().0 {
            State::Close(reason) => reason,
            other => panic!("not closed: {other:?}"),
        }
    }
}

fn export_info(replies: &Replies) -> (u64, TransmissionFlags) {
    replies
        .iter()
        .filter(|reply| reply.1 == rep::INFO)
        .find_map(|reply| match Info::decode(&reply.2).unwrap() {
            Info::Export { size_bytes, flags } => Some((size_bytes, flags)),
            _ => None,
        })
        .expect("INFO_EXPORT is always sent")
}

#[test]
fn greeting_shows_what_is_offered() {
    assert_eq!(Handshake::new(Policy::default()).greeting(), *b"NBDMAGICIHAVEOPT\0\x03");
    let offer = Offer::all() - Offer::NO_ZEROES;
    assert_eq!(Handshake::new(Policy { offer, ..Policy::default() }).greeting(), *b"NBDMAGICIHAVEOPT\0\x01");
    let offer = Offer::all() - Offer::FIXED_NEWSTYLE;
    assert_eq!(Handshake::new(Policy { offer, ..Policy::default() }).greeting()[17], 2);
}

#[test]
fn unknown_or_unoffered_client_flags_close() {
    for flags in [4, 0x8000_0000, 7] {
        assert!(matches!(Script::with_flags(flags).closes(), CloseReason::Violation(_)));
    }
    assert!(matches!(Script::new().without(Offer::NO_ZEROES).closes(), CloseReason::Violation(_)));
    assert!(matches!(Script::new().without(Offer::FIXED_NEWSTYLE).closes(), CloseReason::Violation(_)));
}

#[test]
fn without_fixed_newstyle_only_export_name_works() {
    let script = Script::with_flags(2).option(opt::LIST, b"junk").go("disk").option(99, b"");
    assert_eq!(script.kinds(), [rep::ERR_INVALID; 3]);
    let (state, out, _) = Script::with_flags(2).option(opt::EXPORT_NAME, b"disk").run_raw();
    assert!(matches!(state, State::Transmission(_)));
    assert_eq!(out.len(), 10);
}

#[test]
fn a_wrong_option_magic_closes() {
    let mut script = Script::new().go("disk");
    script.input[4] = b'X';
    assert!(matches!(script.closes(), CloseReason::Violation(_)));
}

#[test]
fn an_unknown_option_is_consumed_and_answered() {
    let script = Script::new().option(4, b"peek").option(0xffff_ffff, &[7; 5000]).option(12, b"").go("disk");
    let (state, replies) = script.run();
    assert!(matches!(state, State::Transmission(_)));
    let head: Vec<_> = replies.iter().take(3).map(|reply| (reply.0, reply.1)).collect();
    assert_eq!(head, [(4, rep::ERR_UNSUP), (0xffff_ffff, rep::ERR_UNSUP), (12, rep::ERR_UNSUP)]);
}

#[test]
fn an_option_beyond_the_bound_closes_before_its_data() {
    let mut script = Script::new();
    script.input.extend_from_slice(b"IHAVEOPT\0\0\0\x63\xff\xff\xff\xff");
    assert_eq!(script.closes(), CloseReason::Violation("option is too long"));
    let script = Script::new().option(99, &vec![0; 1 << 20]);
    assert_eq!(script.kinds(), [rep::ERR_UNSUP]);
}

#[test]
fn a_flood_of_options_closes() {
    let mut script = Script::new();
    for _ in 0..32 {
        script = script.option(99, b"");
    }
    assert_eq!(script.kinds().len(), 32);
    assert_eq!(script.option(99, b"").closes(), CloseReason::Violation("too many options"));
}

#[test]
fn a_list_allows_more_options_but_only_once() {
    let mut script = Script::new().option(opt::LIST, b"");
    for _ in 0..31 + 8 {
        script = script.option(opt::LIST, b"");
    }
    assert!(matches!(script.run().0, State::NeedMore));
    assert_eq!(script.option(opt::LIST, b"").closes(), CloseReason::Violation("too many options"));
}

#[test]
fn abort_is_acknowledged_whatever_its_data() {
    for data in [b"".as_slice(), b"junk"] {
        let script = Script::new().option(opt::ABORT, data).go("disk");
        let (state, replies) = script.run();
        assert!(matches!(state, State::Close(CloseReason::Aborted)));
        assert_eq!(replies, [(opt::ABORT, rep::ACK, vec![])]);
    }
}

#[test]
fn list_names_each_export_then_acknowledges() {
    let (_, replies) = Script::new().option(opt::LIST, b"").run();
    let expected = [
        (opt::LIST, rep::SERVER, b"\0\0\0\x04disktext".to_vec()),
        (opt::LIST, rep::SERVER, b"\0\0\0\x06secrettext".to_vec()),
        (opt::LIST, rep::ACK, vec![]),
    ];
    assert_eq!(replies, expected);
}

#[test]
fn list_is_refused_with_data_or_by_policy() {
    assert_eq!(Script::new().option(opt::LIST, b"x").kinds(), [rep::ERR_INVALID]);
    assert_eq!(Script::new().without(Offer::LIST).option(opt::LIST, b"").kinds(), [rep::ERR_POLICY]);
    let mut script = Script::new().option(opt::LIST, b"");
    script.disks.list = ListAnswer::Forbidden;
    assert_eq!(script.kinds(), [rep::ERR_POLICY]);
}

#[test]
fn a_thousand_exports_are_listed() {
    let mut script = Script::new().option(opt::LIST, b"");
    let listed = |n| Listed { name: format!("disk-{n}"), description: String::new() };
    script.disks.list = ListAnswer::Exports((0..1000).map(listed).collect());
    assert_eq!(script.kinds().len(), 1001);
}

#[test]
fn go_opens_and_info_does_not() {
    let (state, replies) = Script::new().info(opt::INFO, "disk", &[]).run();
    assert!(matches!(state, State::NeedMore));
    assert_eq!(replies.iter().map(|reply| reply.1).collect::<Vec<_>>(), [rep::INFO, rep::ACK]);
    let (state, after_go) = Script::new().info(opt::GO, "disk", &[]).run();
    assert!(matches!(state, State::Transmission(_)));
    let same = |replies: &Replies| replies.iter().map(|reply| (reply.1, reply.2.clone())).collect::<Vec<_>>();
    assert_eq!(same(&replies), same(&after_go));
}

#[test]
fn infos_are_sent_when_asked_and_unknown_types_ignored() {
    let types = [info::BLOCK_SIZE, 77, info::NAME, info::DESCRIPTION, info::EXPORT, info::NAME];
    let (_, replies) = Script::new().info(opt::INFO, "", &types).run();
    let infos: Vec<_> =
        replies.iter().filter(|r| r.1 == rep::INFO).map(|r| Info::decode(&r.2).unwrap()).collect();
    assert_eq!(infos.len(), 4);
    assert!(infos.contains(&Info::Name("disk")), "the default export has a name");
    assert!(infos.contains(&Info::Description("a disk")));
    assert!(infos.contains(&Info::BlockSize(crate::BlockSizes::DEFAULT)));
}

#[test]
fn go_to_unknown_exports_fails_and_haggling_goes_on() {
    let script = Script::new().go("nope").go("never").go("disk");
    let (state, replies) = script.run();
    assert!(matches!(state, State::Transmission(_)));
    let kinds: Vec<_> = replies.iter().map(|reply| reply.1).collect();
    assert_eq!(kinds, [rep::ERR_UNKNOWN, rep::ERR_UNKNOWN, rep::INFO, rep::ACK]);
}

#[test]
fn malformed_go_is_invalid() {
    let cases: [&[u8]; 6] = [
        b"",
        b"\0\0\0\x04disk",
        b"\0\0\0\x04disk\0\x01",
        b"\0\0\0\x04disk\0\0\0",
        b"\xff\xff\xff\xffdisk\0\0",
        b"\0\0\0\x03a\0b\0\0",
    ];
    for data in cases {
        assert_eq!(Script::new().option(opt::GO, data).kinds(), [rep::ERR_INVALID], "{data:?}");
    }
    assert_eq!(Script::new().go(&"x".repeat(4096)).kinds(), [rep::ERR_UNKNOWN]);
    assert_eq!(Script::new().go(&"x".repeat(4097)).kinds(), [rep::ERR_INVALID]);
    assert_eq!(Script::new().option(opt::GO, &vec![0; 200_000]).kinds(), [rep::ERR_INVALID]);
}

#[test]
fn block_sizes_can_be_demanded() {
    let mut script = Script::new().info(opt::GO, "disk", &[info::NAME]);
    script.disks.block_size_demand = BlockSizeDemand::Required;
    assert_eq!(script.kinds(), [rep::INFO, rep::ERR_BLOCK_SIZE_REQD]);
    let mut script = Script::new().info(opt::GO, "disk", &[info::BLOCK_SIZE]);
    script.disks.block_size_demand = BlockSizeDemand::Required;
    assert!(script.session().block_sizes_agreed);
    let mut script = Script::new().option(opt::EXPORT_NAME, b"disk");
    script.disks.block_size_demand = BlockSizeDemand::Required;
    assert!(matches!(script.closes(), CloseReason::Refused(_)));
    assert!(!Script::new().go("disk").session().block_sizes_agreed);
}

#[test]
fn export_name_answers_10_or_134_bytes() {
    let (state, out, _) = Script::with_flags(1).option(opt::EXPORT_NAME, b"").run_raw();
    assert!(matches!(state, State::Transmission(_)));
    assert_eq!(out.len(), 134);
    assert_eq!(out[..8], (1u64 << 20).to_be_bytes());
    assert!(out[10..].iter().all(|byte| *byte == 0));
    let (_, out, _) = Script::with_flags(3).option(opt::EXPORT_NAME, b"other").run_raw();
    assert_eq!(out.len(), 10);
}

#[test]
fn export_name_closes_where_others_get_errors() {
    for name in [b"nope".as_slice(), b"\xff", b"a\0b", &[b'x'; 4097]] {
        assert!(matches!(Script::new().option(opt::EXPORT_NAME, name).closes(), CloseReason::Refused(_)));
    }
    let script = Script::new().option(opt::EXTENDED_HEADERS, b"").option(opt::EXPORT_NAME, b"disk");
    assert!(matches!(script.closes(), CloseReason::Violation(_)));
}

#[test]
fn replies_are_agreed_once_and_not_given_up() {
    let structured = |script: Script| script.option(opt::STRUCTURED_REPLY, b"");
    let extended = |script: Script| script.option(opt::EXTENDED_HEADERS, b"");
    let session = Script::new().go("disk").session();
    assert_eq!(session.replies, ReplyMode::Simple);
    let script = structured(structured(Script::new())).go("disk");
    assert_eq!(script.kinds()[..2], [rep::ACK, rep::ERR_INVALID]);
    assert_eq!(script.session().replies, ReplyMode::Structured);
    let script = structured(extended(structured(Script::new()))).go("disk");
    assert_eq!(script.kinds()[..3], [rep::ACK, rep::ACK, rep::ERR_EXT_HEADER_REQD]);
    assert_eq!(script.session().replies, ReplyMode::Extended);
    assert_eq!(extended(extended(Script::new())).kinds(), [rep::ACK, rep::ERR_INVALID]);
    for option in [opt::STRUCTURED_REPLY, opt::EXTENDED_HEADERS] {
        let script = Script::new().option(option, b"x").go("disk");
        assert_eq!(script.kinds()[0], rep::ERR_INVALID);
        assert_eq!(script.session().replies, ReplyMode::Simple);
    }
}

#[test]
fn masked_features_are_unknown() {
    let table = [
        (Offer::STRUCTURED_REPLY, opt::STRUCTURED_REPLY),
        (Offer::EXTENDED_HEADERS, opt::EXTENDED_HEADERS),
        (Offer::GO, opt::EXTENDED_HEADERS),
        (Offer::GO, opt::GO),
        (Offer::GO, opt::INFO),
        (Offer::META_CONTEXTS, opt::SET_META_CONTEXT),
        (Offer::META_CONTEXTS, opt::LIST_META_CONTEXT),
    ];
    for (offer, option) in table {
        assert_eq!(Script::new().without(offer).option(option, b"").kinds(), [rep::ERR_UNSUP], "{offer:?}");
    }
}

#[test]
fn flags_follow_what_was_agreed() {
    let flags = |script: Script| {
        let (_, replies) = script.go("disk").run();
        export_info(&replies).1
    };
    let all = TransmissionFlags::all() - TransmissionFlags::READ_ONLY;
    let df = TransmissionFlags::SEND_DF;
    let payload = TransmissionFlags::BLOCK_STATUS_PAYLOAD;
    assert_eq!(flags(Script::new()), all - df - payload);
    assert_eq!(flags(Script::new().option(opt::STRUCTURED_REPLY, b"")), all - payload);
    assert_eq!(flags(Script::new().option(opt::EXTENDED_HEADERS, b"")), all - payload);
    let extended = Script::new().option(opt::EXTENDED_HEADERS, b"");
    let script = extended.meta(opt::SET_META_CONTEXT, "disk", &["base:allocation"]);
    assert_eq!(flags(script), all);
}

fn selecting(name: &str, queries: &[&str]) -> Script {
    Script::new().option(opt::STRUCTURED_REPLY, b"").meta(opt::SET_META_CONTEXT, name, queries)
}

#[test]
fn selected_contexts_reach_the_session() {
    let script = selecting("disk", &["base:allocation", "x-none:a", "qemu:dirty-bitmap:b"]).go("disk");
    let session = script.session();
    assert_eq!(session.contexts.len(), 2);
    assert!(session.contexts.base_allocation().is_some());
    let replies = script.run().1;
    for reply in replies.iter().filter(|reply| reply.1 == rep::META_CONTEXT) {
        let context = MetaContext::decode(&reply.2).unwrap();
        assert_eq!(session.contexts.id_of(context.name), Some(context.id));
    }
}

#[test]
fn a_namespace_selects_nothing() {
    for query in ["base:", "qemu:", "qemu:dirty-bitmap:", "base:alloc", "base", ""] {
        assert!(selecting("disk", &[query]).go("disk").session().contexts.is_empty(), "{query}");
    }
}

#[test]
fn a_selection_for_another_name_does_not_count() {
    assert!(selecting("other", &["base:allocation"]).go("disk").session().contexts.is_empty());
    let script = selecting("disk", &["base:allocation"]).meta(opt::SET_META_CONTEXT, "other", &[]).go("disk");
    assert!(script.session().contexts.is_empty());
    let script = selecting("disk", &["base:allocation"]).option(opt::EXPORT_NAME, b"disk");
    let State::Transmission(session) = script.run_raw().0 else { panic!("open") };
    assert_eq!(session.contexts.len(), 1, "EXPORT_NAME counts as GO");
}

#[test]
fn a_failing_selection_clears_the_earlier_one() {
    let good = || selecting("disk", &["base:allocation"]);
    let bad = [
        good().option(opt::SET_META_CONTEXT, b"junk"),
        good().meta(opt::SET_META_CONTEXT, "nope", &["base:allocation"]),
        good().option(opt::SET_META_CONTEXT, &vec![0; 300 << 10]),
        good().meta(opt::SET_META_CONTEXT, "disk", &[]),
    ];
    let kinds = [rep::ERR_INVALID, rep::ERR_UNKNOWN, rep::ERR_TOO_BIG, rep::ACK];
    for (script, kind) in bad.into_iter().zip(kinds) {
        assert_eq!(script.kinds()[3], kind);
        assert!(script.go("disk").session().contexts.is_empty());
    }
}

#[test]
fn listing_contexts_changes_nothing() {
    let script = selecting("disk", &["base:allocation"]).meta(opt::LIST_META_CONTEXT, "disk", &["qemu:"]);
    let (_, replies) = script.run();
    let listed: Vec<_> = replies
        .iter()
        .filter(|reply| reply.0 == opt::LIST_META_CONTEXT && reply.1 == rep::META_CONTEXT)
        .map(|reply| MetaContext::decode(&reply.2).unwrap())
        .collect();
    let named = |name| MetaContext { id: 0, name };
    assert_eq!(listed, [named("qemu:allocation-depth"), named("qemu:dirty-bitmap:b")]);
    assert_eq!(script.go("disk").session().contexts.len(), 1);
}

#[test]
fn listing_without_queries_names_all_contexts() {
    let script = Script::new().meta(opt::LIST_META_CONTEXT, "", &[]);
    assert_eq!(script.kinds(), [rep::META_CONTEXT, rep::META_CONTEXT, rep::META_CONTEXT, rep::ACK]);
    assert_eq!(Script::new().meta(opt::LIST_META_CONTEXT, "nope", &[]).kinds(), [rep::ERR_UNKNOWN]);
}

#[test]
fn selecting_needs_structured_replies() {
    let script = Script::new().meta(opt::SET_META_CONTEXT, "disk", &["base:allocation"]);
    assert_eq!(script.kinds(), [rep::ERR_INVALID]);
}

#[test]
fn too_many_contexts_are_too_big() {
    struct Many;
    impl Exports for Many {
        fn list(&self) -> ListAnswer {
            ListAnswer::Forbidden
        }
        fn find(&self, name: &str) -> Option<ExportFacts> {
            let mut facts = ExportFacts::new(name, 0);
            facts.contexts = (0..65).map(|n| format!("x-n:{n}")).collect();
            Some(facts)
        }
    }
    let names: Vec<String> = (0..65).map(|n| format!("x-n:{n}")).collect();
    let queries: Vec<&str> = names.iter().map(String::as_str).collect();
    let script = selecting("disk", &queries);
    let mut out = Vec::new();
    Handshake::new(script.policy).advance(&script.input, &Many, &mut out);
    assert_eq!(parse_replies(&out).last().unwrap().1, rep::ERR_TOO_BIG);
}

#[test]
fn without_tls_starttls_is_forbidden() {
    assert_eq!(Script::new().option(opt::STARTTLS, b"").kinds(), [rep::ERR_POLICY]);
}

#[test]
fn when_tls_is_required_nothing_else_works() {
    let script = Script::new()
        .tls(TlsMode::Require)
        .option(opt::LIST, b"")
        .go("disk")
        .option(99, b"junk")
        .option(opt::STRUCTURED_REPLY, b"");
    assert_eq!(script.kinds(), [rep::ERR_TLS_REQD; 4]);
    let script = Script::new().tls(TlsMode::Require);
    assert!(matches!(script.option(opt::EXPORT_NAME, b"disk").closes(), CloseReason::Refused(_)));
    let script = Script::new().tls(TlsMode::Require).option(opt::ABORT, b"");
    assert_eq!(script.closes(), CloseReason::Aborted);
}

#[test]
fn tls_only_exports_are_hidden_and_refused_in_clear() {
    let clear = || Script::new().tls(TlsMode::On);
    assert_eq!(clear().option(opt::LIST, b"").kinds(), [rep::SERVER, rep::ACK]);
    assert_eq!(clear().go("secret").kinds(), [rep::ERR_TLS_REQD]);
    assert!(matches!(clear().option(opt::EXPORT_NAME, b"secret").closes(), CloseReason::Refused(_)));
    assert_eq!(clear().go("disk").session().export.name, "disk");
    assert_eq!(clear().option(opt::STARTTLS, b"x").kinds(), [rep::ERR_INVALID]);
}

#[test]
fn encryption_drops_all_that_was_agreed() {
    let script = selecting("disk", &["base:allocation"]).tls(TlsMode::On).option(opt::STARTTLS, b"");
    let mut handshake = Handshake::new(script.policy);
    let mut out = Vec::new();
    let advance = handshake.advance(&script.input, &script.disks, &mut out);
    assert!(matches!(advance.state, State::StartTls));
    handshake.tls_established();
    out.clear();
    let mut input = Vec::new();
    OptionHeader::encode(opt::STARTTLS, b"", &mut input);
    OptionHeader::encode(opt::GO, b"\0\0\0\x06secret\0\0", &mut input);
    let advance = handshake.advance(&input, &script.disks, &mut out);
    assert_eq!(parse_replies(&out)[0].1, rep::ERR_INVALID, "encrypted already");
    let State::Transmission(session) = advance.state else { panic!("open") };
    assert_eq!((session.replies, session.contexts.len()), (ReplyMode::Simple, 0));
}

#[test]
fn bytes_in_clear_behind_starttls_close() {
    let script = Script::new().tls(TlsMode::On).option(opt::STARTTLS, b"").go("disk");
    assert!(matches!(script.closes(), CloseReason::Violation(_)));
    let script = Script::new().tls(TlsMode::Require).option(opt::STARTTLS, b"");
    let mut handshake = Handshake::new(script.policy);
    handshake.advance(&script.input, &script.disks, &mut Vec::new());
    let late = handshake.advance(b"x", &script.disks, &mut Vec::new());
    assert!(matches!(late.state, State::Close(CloseReason::Violation(_))));
}

#[test]
fn a_server_that_shuts_down_says_so() {
    let mut handshake = Handshake::new(Policy::default());
    handshake.shut_down();
    let script = Script::new().go("disk").option(opt::ABORT, b"");
    let mut out = Vec::new();
    let advance = handshake.advance(&script.input, &script.disks, &mut out);
    let kinds: Vec<_> = parse_replies(&out).iter().map(|reply| reply.1).collect();
    assert_eq!(kinds, [rep::ERR_SHUTDOWN, rep::ACK]);
    assert!(matches!(advance.state, State::Close(CloseReason::Aborted)));
}

#[test]
fn bytes_behind_go_are_left_for_the_transmission() {
    let mut script = Script::new().go("disk");
    let len = script.input.len();
    script.input.extend_from_slice(b"\x25\x60\x95\x13");
    let (state, _, consumed) = script.run_raw();
    assert!(matches!(state, State::Transmission(_)));
    assert_eq!(consumed, len);
}

#[test]
fn after_the_end_nothing_more_is_taken() {
    let script = Script::new().go("disk");
    let mut handshake = Handshake::new(script.policy);
    handshake.advance(&script.input, &script.disks, &mut Vec::new());
    let mut out = Vec::new();
    let advance = handshake.advance(&script.input, &script.disks, &mut out);
    assert!(matches!(advance.state, State::Close(CloseReason::Violation(_))));
    assert_eq!((advance.consumed, out.len()), (0, 0));
}

fn any_script() -> impl Strategy<Value = Vec<u8>> {
    let option = (prop_oneof![0u32..14, any::<u32>()], prop::collection::vec(any::<u8>(), 0..40));
    let shaped = prop_oneof![
        Just(Script::new().go("disk").input[4..].to_vec()),
        Just(Script::new().go("nope").input[4..].to_vec()),
        Just(Script::new().option(opt::STRUCTURED_REPLY, b"").input[4..].to_vec()),
        Just(Script::new().option(opt::EXTENDED_HEADERS, b"").input[4..].to_vec()),
        Just(Script::new().meta(opt::SET_META_CONTEXT, "disk", &["base:allocation"]).input[4..].to_vec()),
        option.prop_map(|(option, data)| Script::new().option(option, &data).input[4..].to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    (0u32..4, prop::collection::vec(shaped, 0..8)).prop_map(|(flags, parts)| {
        let mut input = flags.to_be_bytes().to_vec();
        input.extend(parts.concat());
        input
    })
}

/// Feeds `input` in pieces and tells the output, how it ended, and where.
fn in_pieces(input: &[u8], pieces: &[usize]) -> (Vec<u8>, String, usize) {
    let mut handshake = Handshake::new(Policy::default());
    let (mut out, mut at) = (Vec::new(), 0);
    let mut sizes = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
    loop {
        let end = at + sizes.next().expect("endless").clamp(1, usize::MAX).min(input.len() - at);
        let advance = handshake.advance(&input[at..end], &Disks::default(), &mut out);
        at += advance.consumed;
        let ended = !matches!(advance.state, State::NeedMore);
        if ended || at == input.len() {
            return (out, format!("{:?}", advance.state), at);
        }
        assert_eq!(at, end, "a handshake that needs more has taken all");
    }
}

proptest! {
    #[test]
    fn any_split_of_the_input_gives_the_same(input in any_script(), pieces in prop::collection::vec(1usize..9, 0..60)) {
        let whole = in_pieces(&input, &[]);
        prop_assert_eq!(&in_pieces(&input, &pieces), &whole);
        prop_assert_eq!(&in_pieces(&input, &vec![1; input.len()]), &whole);
    }

    #[test]
    fn any_bytes_are_survived(input: Vec<u8>) {
        in_pieces(&input, &[]);
    }
}
