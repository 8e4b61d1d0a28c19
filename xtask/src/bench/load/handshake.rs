//! Negotiation of one connection over a blocking stream.

use std::io::{Read, Write};

use anyhow::{Context, bail, ensure};
use nbd::client::{Answered, Config, Handshake, State, Wanted};
use nbd::{ReplyMode, Transmission};

/// Form of the replies to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Replies {
    /// A 16-byte header and the payload.
    #[default]
    Simple,
    /// Chunks.
    Structured,
    /// Chunks with 64-bit lengths, and extended requests.
    Extended,
}

impl Replies {
    fn mode(self) -> ReplyMode {
        match self {
            Self::Simple => ReplyMode::Simple,
            Self::Structured => ReplyMode::Structured,
            Self::Extended => ReplyMode::Extended,
        }
    }

    fn wanted(self) -> Wanted {
        let wanted = Wanted::GO | Wanted::NO_ZEROES;
        match self {
            Self::Simple => wanted,
            Self::Structured => wanted | Wanted::STRUCTURED_REPLY,
            Self::Extended => wanted | Wanted::EXTENDED_HEADERS,
        }
    }
}

/// Negotiates and enters the transmission phase.
///
/// # Errors
/// The server is not an NBD server, does not have the export, or lacks the replies that are asked for.
pub(crate) fn negotiate(
    stream: &mut (impl Read + Write),
    export: &str,
    replies: Replies,
) -> anyhow::Result<Transmission> {
    let mut handshake = Handshake::new(Config { wanted: replies.wanted(), ..Config::open(export) });
    // The server says nothing unasked after the handshake, so this cannot take bytes that belong to a reply.
    let mut buffer = [0; 4096];
    loop {
        let len = stream.read(&mut buffer).context("reading from the server")?;
        ensure!(len > 0, "the server closed the connection");
        let mut out = Vec::new();
        let state = handshake.advance(&buffer[..len], &mut out).state;
        stream.write_all(&out).context("sending options")?;
        match state {
            State::NeedMore => {}
            State::Done(Answered::Open(session)) => {
                ensure!(
                    session.replies == replies.mode(),
                    "the server has {:?} replies only",
                    session.replies
                );
                return Ok(*session);
            }
            State::Close(failure) => return Err(failure.into()),
            State::StartTls | State::Done(_) => bail!("the handshake went where nobody wanted it"),
        }
    }
}
