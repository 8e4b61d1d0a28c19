//! Both sides of the handshake.

use nbd::client::{self, Config, Goal, Tls, Wanted};
use nbd::option::OptionReplyHeader;
use nbd::server::{self, Exports, Handshake, ListAnswer, Listed, Offer, Policy, State, TlsMode};
use nbd::wire::OPTION_REPLY_HEADER_BYTES;
use nbd::{BlockSizeDemand, ExportFacts, TransmissionFlags};

use crate::knobs::Knobs;

struct Disks;

impl Exports for Disks {
    fn list(&self) -> ListAnswer {
        ListAnswer::Exports(vec![Listed { name: "disk".into(), description: "text".into() }])
    }

    fn find(&self, name: &str) -> Option<ExportFacts> {
        let mut facts = ExportFacts::new(name, 1 << 30);
        facts.flags = TransmissionFlags::all();
        facts.description = Some("text".into());
        facts.contexts = vec!["base:allocation".into(), "qemu:dirty-bitmap:b".into()];
        match name {
            "" | "disk" | "secret" => {}
            "strict" => facts.block_size_demand = BlockSizeDemand::Required,
            _ => return None,
        }
        Some(facts)
    }

    fn needs_tls(&self, name: &str) -> bool {
        name == "secret"
    }
}

/// The server's side: knobs are features (2 bytes) and TLS (1 byte), then comes what a client sends.
pub fn server_handshake(data: &[u8]) {
    let mut knobs = Knobs(data);
    let offer = Offer::from_bits_truncate(!knobs.u16());
    let tls = [TlsMode::Off, TlsMode::On, TlsMode::Require][usize::from(knobs.u8() % 3)];
    let policy = Policy { offer, tls, ..Policy::default() };
    let whole = serve(policy, knobs.0, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(serve(policy, knobs.0, piece), whole, "in pieces of {piece}");
    }
}

/// Output, end and consumed bytes of one conversation. TLS is taken as done at once, and only if nothing is waiting.
fn serve(policy: Policy, input: &[u8], piece: usize) -> (Vec<u8>, String, usize) {
    let mut handshake = Handshake::new(policy);
    let (mut out, mut at) = (Vec::new(), 0);
    loop {
        let end = at + piece.min(input.len() - at);
        let advance = handshake.advance(&input[at..end], &Disks, &mut out);
        at += advance.consumed;
        match advance.state {
            State::NeedMore if at == input.len() => break,
            State::NeedMore => assert_eq!(at, end, "all is taken when more is needed"),
            ended => {
                if let State::Transmission(session) = &ended {
                    check_session(session);
                } else {
                    check_replies(&out);
                }
                // How much more had arrived decides whether STARTTLS is an attack: pieces may differ there.
                let tls = matches!(ended, State::StartTls)
                    || matches!(ended, State::Close(server::CloseReason::Violation(text)) if text.contains("STARTTLS"));
                return (out, if tls { "TLS".to_owned() } else { format!("{ended:?}") }, at);
            }
        }
    }
    check_replies(&out);
    (out, "NeedMore".to_owned(), at)
}

fn check_session(session: &nbd::Transmission) {
    let flags = session.export.flags;
    assert_eq!(flags, flags.announced(session.replies, &session.contexts), "flags that may not be announced");
    assert!(session.contexts.is_empty() || session.replies.is_chunked());
}

/// The output is a row of option replies.
fn check_replies(mut out: &[u8]) {
    while !out.is_empty() {
        let header = OptionReplyHeader::decode(out).expect("a reply header");
        out = &out[OPTION_REPLY_HEADER_BYTES + header.len as usize..];
    }
}

/// The client's side: knobs are goal, wishes, TLS and contexts (1 byte each), then comes what a server sends.
pub fn client_handshake(data: &[u8]) {
    let mut knobs = Knobs(data);
    let mut config = Config::open("disk");
    config.goal = [Goal::Open, Goal::Describe, Goal::List][usize::from(knobs.u8() % 3)];
    config.wanted = Wanted::from_bits_truncate(!u16::from(knobs.u8()));
    config.tls = [Tls::Off, Tls::Try, Tls::Require][usize::from(knobs.u8() % 3)];
    if knobs.u8() % 2 == 1 {
        config.contexts = vec!["base:allocation".into(), "x-a:b".into()];
    }
    let whole = call(&config, knobs.0, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(call(&config, knobs.0, piece), whole, "in pieces of {piece}");
    }
}

/// Output and end of one conversation. The handshake ends where TLS starts.
fn call(config: &Config, input: &[u8], piece: usize) -> (Vec<u8>, String) {
    let mut handshake = client::Handshake::new(config.clone());
    let (mut out, mut at) = (Vec::new(), 0);
    loop {
        let end = at + piece.min(input.len() - at);
        let advance = handshake.advance(&input[at..end], &mut out);
        at += advance.consumed;
        let text = match &advance.state {
            client::State::NeedMore if at == input.len() => "NeedMore".to_owned(),
            client::State::NeedMore => {
                assert_eq!(at, end, "all is taken when more is needed");
                continue;
            }
            client::State::StartTls => "TLS".to_owned(),
            client::State::Close(client::Failure::Violation(text)) if text.contains("STARTTLS") => {
                "TLS".to_owned()
            }
            client::State::Done(client::Answered::Open(session) | client::Answered::Described(session)) => {
                check_session(session);
                format!("{:?}", advance.state)
            }
            other => format!("{other:?}"),
        };
        return (out, text);
    }
}
