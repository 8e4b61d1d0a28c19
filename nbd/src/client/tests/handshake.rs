use super::super::*;
use crate::option::{Info, MetaContext, OptionReplyHeader};
use crate::server::{self, Exports, ListAnswer, Listed, Offer, Policy, TlsMode};
use crate::wire::{TransmissionFlags, opt, rep};
use crate::{BlockSizes, ExportFacts, ReplyMode, Transmission};
use proptest::prelude::*;

struct Disk;

impl Exports for Disk {
    fn list(&self) -> ListAnswer {
        ListAnswer::Exports(vec![Listed { name: "disk".into(), description: "text".into() }])
    }

    fn find(&self, name: &str) -> Option<ExportFacts> {
        (name.is_empty() || name == "disk").then(|| {
            let mut facts = ExportFacts::new("disk", 12345 << 9);
            facts.flags = TransmissionFlags::all() - TransmissionFlags::READ_ONLY;
            facts.description = Some("a disk".into());
            facts.block_sizes = BlockSizes { minimum_bytes: 512, ..BlockSizes::DEFAULT };
            facts
        })
    }
}

/// How both sides of a connection ended.
#[derive(Debug)]
struct Met {
    client: Result<Answered, Failure>,
    server: Result<Transmission, server::CloseReason>,
}

/// Lets both talk, each byte stream cut into pieces of `piece` bytes, until both have ended.
fn meet(config: Config, policy: Policy, piece: usize) -> Met {
    let (mut client, mut server) = (Handshake::new(config), server::Handshake::new(policy));
    let (mut to_client, mut to_server) = (server.greeting().to_vec(), Vec::new());
    let (mut client_end, mut server_end) = (None, None);
    for _ in 0..100_000 {
        if client_end.is_none() {
            let end = piece.min(to_client.len());
            let advance = client.advance(&to_client[..end], &mut to_server);
            to_client.drain(..advance.consumed);
            match advance.state {
                State::NeedMore => {}
                State::Done(answered) => client_end = Some(Ok(answered)),
                State::Close(failure) => client_end = Some(Err(failure)),
                State::StartTls => client.tls_established(&mut to_server),
            }
        }
        if server_end.is_none() {
            let end = piece.min(to_server.len());
            let advance = server.advance(&to_server[..end], &Disk, &mut to_client);
            to_server.drain(..advance.consumed);
            match advance.state {
                server::State::NeedMore => {}
                server::State::Transmission(session) => server_end = Some(Ok(*session)),
                server::State::Close(reason) => server_end = Some(Err(reason)),
                server::State::StartTls => server.tls_established(),
            }
        }
        if let (Some(client), Some(server)) = (&client_end, &server_end) {
            return Met { client: client.clone(), server: server.clone() };
        }
    }
    panic!("neither side ends: client {client_end:?}, server {server_end:?}");
}

fn opened(met: &Met) -> (&Transmission, &Transmission) {
    match (&met.client, &met.server) {
        (Ok(Answered::Open(client)), Ok(server)) => (client, server),
        other => panic!("no session: {other:?}"),
    }
}

fn any_offer() -> impl Strategy<Value = Offer> {
    (0u16..128).prop_map(|bits| Offer::from_bits_truncate(bits) | Offer::LIST)
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    (0u16..64).prop_map(Wanted::from_bits_truncate)
}

proptest! {
    #[test]
    fn all_combinations_of_features_end_in_the_same_session(
        offer in any_offer(), wanted in any_wanted(), contexts: bool, default: bool, piece in 1usize..40,
    ) {
        let mut config = Config::open(if default { "" } else { "disk" });
        config.wanted = wanted;
        if contexts {
            config.contexts = vec!["base:allocation".into(), "x-unknown:thing".into()];
        }
        // Extended headers and an EXPORT_NAME that must not follow them cannot meet: the client never asks for the
        // former without GO, and the server never offers them without it.
        let policy = Policy { offer, ..Policy::default() };
        let met = meet(config, policy, piece);
        let (client, server) = opened(&met);
        prop_assert_eq!(client.replies, server.replies);
        prop_assert_eq!(&client.contexts, &server.contexts);
        prop_assert_eq!(client.export.flags, server.export.flags);
        prop_assert_eq!(client.export.size_bytes, server.export.size_bytes);
        prop_assert_eq!(client.block_sizes_agreed, server.block_sizes_agreed);

        let fixed = offer.contains(Offer::FIXED_NEWSTYLE);
        let extended = fixed
            && wanted.contains(Wanted::EXTENDED_HEADERS | Wanted::GO)
            && offer.contains(Offer::EXTENDED_HEADERS | Offer::GO);
        let structured =
            fixed && wanted.contains(Wanted::STRUCTURED_REPLY) && offer.contains(Offer::STRUCTURED_REPLY);
        let expected = match (extended, structured) {
            (true, _) => ReplyMode::Extended,
            (false, true) => ReplyMode::Structured,
            (false, false) => ReplyMode::Simple,
        };
        prop_assert_eq!(client.replies, expected);
        let selected = contexts && (extended || structured) && offer.contains(Offer::META_CONTEXTS);
        prop_assert_eq!(client.contexts.base_allocation().is_some(), selected);
    }

    #[test]
    fn any_bytes_from_a_server_are_survived(input: Vec<u8>, greeting: bool, list: bool) {
        let mut config = Config::open("disk");
        config.goal = if list { Goal::List } else { Goal::Open };
        let mut bytes = if greeting { b"NBDMAGICIHAVEOPT\0\x03".to_vec() } else { Vec::new() };
        bytes.extend(input);
        let whole = Handshake::new(config.clone()).advance(&bytes, &mut Vec::new());
        let mut single = Handshake::new(config);
        let mut last = State::NeedMore;
        for byte in &bytes {
            last = single.advance(&[*byte], &mut Vec::new()).state;
            if !matches!(last, State::NeedMore) {
                break;
            }
        }
        prop_assert_eq!(format!("{:?}", whole.state), format!("{last:?}"));
    }
}

#[test]
fn texts_and_block_sizes_arrive() {
    let met = meet(Config::open(""), Policy::default(), 7);
    let (client, _) = opened(&met);
    assert_eq!(client.export.name, "disk");
    assert_eq!(client.export.description.as_deref(), Some("a disk"));
    assert_eq!((client.export.block_sizes.minimum_bytes, client.export.required_alignment_bytes), (512, 512));
}

#[test]
fn an_unknown_export_is_refused_and_the_client_says_goodbye() {
    let met = meet(Config::open("nope"), Policy::default(), 100);
    let Err(Failure::Refused { option, kind, text }) = met.client else { panic!("refused") };
    assert_eq!((option, kind), (opt::GO, rep::ERR_UNKNOWN));
    assert!(!text.is_empty());
    assert_eq!(met.server, Err(server::CloseReason::Aborted));
}

#[test]
fn lists_and_descriptions_are_had_without_opening() {
    let mut config = Config::open("disk");
    config.goal = Goal::List;
    let met = meet(config.clone(), Policy::default(), 5);
    let listed = Listed { name: "disk".into(), description: "text".into() };
    assert_eq!(met.client, Ok(Answered::Listed(vec![listed])));
    assert_eq!(met.server, Err(server::CloseReason::Aborted));
    config.goal = Goal::Describe;
    config.contexts = vec!["base:allocation".into()];
    let met = meet(config, Policy::default(), 5);
    let Ok(Answered::Described(session)) = met.client else { panic!("described") };
    assert_eq!((session.replies, session.contexts.len()), (ReplyMode::Extended, 1));
}

#[test]
fn encryption_is_used_where_both_have_it_and_insisted_on_where_required() {
    let run = |tls, mode| {
        let mut config = Config::open("disk");
        config.tls = tls;
        meet(config, Policy { tls: mode, ..Policy::default() }, 9)
    };
    for (tls, mode) in [
        (Tls::Try, TlsMode::On),
        (Tls::Try, TlsMode::Require),
        (Tls::Require, TlsMode::On),
        (Tls::Try, TlsMode::Off),
    ] {
        let met = run(tls, mode);
        assert_eq!(opened(&met).0.replies, ReplyMode::Extended, "{tls:?} {mode:?}");
    }
    assert!(matches!(
        run(Tls::Require, TlsMode::Off).client,
        Err(Failure::Refused { kind: rep::ERR_POLICY, .. })
    ));
    assert!(matches!(
        run(Tls::Off, TlsMode::Require).client,
        Err(Failure::Refused { kind: rep::ERR_TLS_REQD, .. })
    ));
}

/// What the client makes of these bytes of a server.
fn hear(config: Config, input: &[u8]) -> State {
    Handshake::new(config).advance(input, &mut Vec::new()).state
}

fn plain() -> Config {
    let mut config = Config::open("disk");
    config.wanted = Wanted::GO | Wanted::BLOCK_SIZE;
    config
}

fn server_says(replies: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    let mut input = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    for (option, kind, data) in replies {
        OptionReplyHeader::encode(*option, *kind, data, &mut input);
    }
    input
}

fn violates(replies: &[(u32, u32, Vec<u8>)]) -> &'static str {
    match hear(plain(), &server_says(replies)) {
        State::Close(Failure::Violation(what)) => what,
        other => panic!("not noticed: {other:?}"),
    }
}

#[test]
fn other_greetings_are_told_apart() {
    let closes = |input: &[u8]| match hear(plain(), input) {
        State::Close(failure) => failure,
        other => panic!("not closed: {other:?}"),
    };
    assert_eq!(closes(b"HTTP/1.1 400"), Failure::NotNbd);
    assert_eq!(closes(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0"), Failure::OldStyle);
    assert_eq!(closes(b"NBDMAGICIHAVEOPS\0\x03"), Failure::NotNbd);
    let mut config = plain();
    config.goal = Goal::List;
    let State::Close(failure) = hear(config, b"NBDMAGICIHAVEOPT\0\x02") else { panic!("closed") };
    assert_eq!(failure, Failure::NotFixedNewstyle);
}

#[test]
fn breaches_in_option_replies_are_noticed() {
    let flags = TransmissionFlags::HAS_FLAGS;
    let export = Info::Export { size_bytes: 1, flags }.encode();
    let sizes = |minimum| {
        let sizes = BlockSizes { minimum_bytes: minimum, ..BlockSizes::DEFAULT };
        Info::BlockSize(sizes).encode()
    };
    violates(&[(opt::GO, rep::ACK, vec![])]);
    violates(&[(opt::INFO, rep::INFO, export.clone())]);
    violates(&[(opt::GO, rep::INFO, export[..11].to_vec())]);
    violates(&[(opt::GO, rep::INFO, vec![0])]);
    violates(&[(opt::GO, rep::SERVER, vec![0; 4])]);
    violates(&[(opt::GO, 77, vec![])]);
    violates(&[(opt::GO, rep::INFO, vec![9; 65537])]);
    violates(&[(opt::GO, rep::ERR_BLOCK_SIZE_REQD, vec![])]);
    violates(&[
        (opt::GO, rep::INFO, export.clone()),
        (opt::GO, rep::INFO, sizes(3)),
        (opt::GO, rep::ACK, vec![]),
    ]);
    violates(&[
        (opt::GO, rep::INFO, export),
        (opt::GO, rep::INFO, sizes(1 << 17)),
        (opt::GO, rep::ACK, vec![]),
    ]);
    let mut input = server_says(&[(opt::GO, rep::ACK, vec![])]);
    input[18] = 1;
    assert!(matches!(hear(plain(), &input), State::Close(Failure::Violation(_))));
}

#[test]
fn an_old_server_is_asked_by_name_but_not_after_extended_headers() {
    let unsupported = || (opt::GO, rep::ERR_UNSUP, vec![]);
    let mut input = server_says(&[unsupported()]);
    assert!(matches!(hear(plain(), &input), State::NeedMore));
    input.extend_from_slice(&[0; 9]);
    input.push(1);
    assert!(matches!(hear(plain(), &input), State::NeedMore), "zeroes follow, which were not declined");
    input.extend_from_slice(&[0; 124]);
    assert!(matches!(hear(plain(), &input), State::Done(Answered::Open(_))));

    let mut config = plain();
    config.wanted |= Wanted::EXTENDED_HEADERS;
    let input = server_says(&[(opt::EXTENDED_HEADERS, rep::ACK, vec![]), unsupported()]);
    let state = hear(config, &input);
    assert!(matches!(state, State::Close(Failure::Refused { option: opt::GO, .. })), "{state:?}");
}

#[test]
fn unknown_infos_are_ignored() {
    let export = Info::Export { size_bytes: 1, flags: TransmissionFlags::HAS_FLAGS }.encode();
    let input = server_says(&[
        (opt::GO, rep::INFO, vec![0, 9, 1, 2, 3]),
        (opt::GO, rep::INFO, export),
        (opt::GO, rep::ACK, vec![]),
    ]);
    assert!(matches!(hear(plain(), &input), State::Done(Answered::Open(_))));
}

#[test]
fn contexts_not_asked_for_or_told_twice_are_breaches() {
    let mut config = plain();
    config.wanted |= Wanted::STRUCTURED_REPLY;
    config.contexts = vec!["base:allocation".into(), "qemu:allocation-depth".into()];
    let context = |id, name| (opt::SET_META_CONTEXT, rep::META_CONTEXT, MetaContext { id, name }.encode());
    let ack = || (opt::STRUCTURED_REPLY, rep::ACK, vec![]);
    for replies in [
        vec![ack(), context(1, "x-other:thing")],
        vec![ack(), context(1, "base:allocation"), context(2, "base:allocation")],
        vec![ack(), context(1, "base:allocation"), context(1, "qemu:allocation-depth")],
    ] {
        let state = hear(config.clone(), &server_says(&replies));
        assert!(matches!(state, State::Close(Failure::Violation(_))), "{state:?}");
    }
}

#[test]
fn bytes_in_clear_behind_the_answer_to_starttls_are_an_attack() {
    let mut config = plain();
    config.tls = Tls::Require;
    let mut input = server_says(&[(opt::STARTTLS, rep::ACK, vec![])]);
    assert!(matches!(hear(config.clone(), &input), State::StartTls));
    input.push(0);
    assert!(matches!(hear(config, &input), State::Close(Failure::Violation(_))));
}

#[test]
fn names_are_checked_before_connecting() {
    assert!(Config::open("x".repeat(4096)).check().is_ok());
    assert!(Config::open("x".repeat(4097)).check().is_err());
    assert!(Config::open("a\0b").check().is_err());
}
