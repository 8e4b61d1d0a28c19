//! Decoders of the `nbd` crate.

mod handshake;
mod reply;
mod request;
pub mod seeds;

use nbd::{Contexts, ExportFacts, ReplyMode, Transmission, TransmissionFlags};

pub use handshake::{client_handshake, server_handshake};
pub use reply::reply;
pub use request::request;

use crate::knobs::Knobs;

/// URIs: what is parsed prints to itself, and quoting keeps the text.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let strict = text.parse::<nbd::uri::Uri>();
    let parsed = nbd::uri::Uri::parse(text, nbd::uri::LocalFiles::Allow);
    if let Ok(strict) = strict {
        assert_eq!(parsed.as_ref(), Ok(&strict), "local files make no other difference");
    }
    if let Ok(uri) = parsed {
        let printed = uri.to_string();
        assert!(printed.is_ascii(), "{printed}");
        assert_eq!(nbd::uri::Uri::parse(&printed, nbd::uri::LocalFiles::Allow), Ok(uri), "{printed}");
    }
    let quoted = nbd::uri::shell_quote(text);
    assert_eq!(unquote(&quoted), text);
}

/// What a shell makes of a quoted word.
fn unquote(word: &str) -> String {
    match word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
        Some(inner) => inner.replace(r"'\''", "'"),
        None => word.to_owned(),
    }
}

fn mode(knobs: &mut Knobs<'_>) -> ReplyMode {
    match knobs.u8() % 3 {
        0 => ReplyMode::Simple,
        1 => ReplyMode::Structured,
        _ => ReplyMode::Extended,
    }
}

/// A session with two contexts, as far as the mode has any.
fn session(mode: ReplyMode, flags: u16, size_bytes: u64) -> Transmission {
    let mut facts = ExportFacts::new("disk", size_bytes);
    facts.flags = TransmissionFlags::from_bits_truncate(flags);
    facts.block_sizes.maximum_payload_bytes = 1 << 20;
    let mut contexts = Contexts::none();
    if mode.is_chunked() {
        contexts.select(7, "base:allocation");
        contexts.select(9, "qemu:allocation-depth");
    }
    Transmission::new(facts, mode, contexts)
}
