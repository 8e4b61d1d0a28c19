//! Negotiation of one connection over a blocking stream.

use std::io::{Read, Write};

use anyhow::{Context, bail, ensure};
use nbd::client::{Answered, Config, Handshake, State, Tls, Wanted};
use nbd::{ReplyMode, Transmission};

use super::target::{Stream, Target};

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

/// Negotiates and enters the transmission phase, through TLS if the target says so.
///
/// # Errors
/// The server is not an NBD server, does not have the export, lacks TLS or the replies that are asked for.
pub(crate) fn negotiate(
    mut stream: Stream,
    target: &Target,
    replies: Replies,
) -> anyhow::Result<(Stream, Transmission)> {
    let tls = if target.address.is_encrypted() { Tls::Require } else { Tls::Off };
    let mut handshake =
        Handshake::new(Config { wanted: replies.wanted(), tls, ..Config::open(&target.export) });
    // The server says nothing unasked after the handshake, so this cannot take bytes that belong to a reply.
    let mut buffer = [0; 4096];
    loop {
        let len = stream.read(&mut buffer).context("reading from the server")?;
        ensure!(len > 0, "the server closed the connection");
        let mut out = Vec::new();
        let state = handshake.advance(&buffer[..len], &mut out).state;
        send(&mut stream, &out)?;
        match state {
            State::NeedMore => {}
            State::Done(Answered::Open(session)) => {
                ensure!(
                    session.replies == replies.mode(),
                    "the server has {:?} replies only",
                    session.replies
                );
                return Ok((stream, *session));
            }
            State::Close(failure) => return Err(failure.into()),
            State::StartTls => {
                stream = target.address.encrypt(stream)?;
                let mut out = Vec::new();
                handshake.tls_established(&mut out);
                send(&mut stream, &out)?;
            }
            State::Done(_) => bail!("the handshake went where nobody wanted it"),
        }
    }
}

fn send(stream: &mut Stream, out: &[u8]) -> anyhow::Result<()> {
    stream.write_all(out).and_then(|()| stream.flush()).context("sending options")
}
