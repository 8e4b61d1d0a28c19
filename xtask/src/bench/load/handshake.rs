//! Fixed newstyle negotiation of one connection, as short as it can be.

use std::io::{Read, Write};

use anyhow::{Context, bail, ensure};

use super::wire::{self, be16, be32, be64};

/// An option reply longer than this comes from something that is not an NBD server.
const OPTION_REPLY_MAX_BYTES: usize = 64 * 1024;

/// Form of the replies to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Replies {
    /// A 16-byte header and the payload.
    #[default]
    Simple,
    /// Chunks, negotiated with `NBD_OPT_STRUCTURED_REPLY`.
    Structured,
}

/// What the server said about the export.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Export {
    /// Size of the export in bytes.
    pub size_bytes: u64,
}

/// Negotiates and enters the transmission phase.
///
/// # Errors
/// The server is not an NBD server, does not have the export, or refuses structured replies when they are asked for.
pub(crate) fn negotiate(
    stream: &mut (impl Read + Write),
    export: &str,
    replies: Replies,
) -> anyhow::Result<Export> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).context("reading the server's greeting")?;
    ensure!(
        be64(&greeting, 0) == wire::MAGIC,
        "the peer is not an NBD server: it greets with {greeting:02x?}"
    );
    ensure!(be64(&greeting, 8) == wire::OPTION_MAGIC, "the server speaks oldstyle negotiation only");
    ensure!(
        be16(&greeting, 16) & wire::HANDSHAKE_FLAGS == wire::HANDSHAKE_FLAGS,
        "the server is not fixed newstyle"
    );
    stream.write_all(&u32::from(wire::HANDSHAKE_FLAGS).to_be_bytes())?;
    if replies == Replies::Structured {
        option(stream, wire::OPT_STRUCTURED_REPLY, &[])?;
        let (kind, _) = option_reply(stream, wire::OPT_STRUCTURED_REPLY)?;
        ensure!(kind == wire::REP_ACK, "the server refuses structured replies (reply type {kind:#x})");
    }
    go(stream, export)
}

fn go(stream: &mut (impl Read + Write), export: &str) -> anyhow::Result<Export> {
    let mut data = u32::try_from(export.len())?.to_be_bytes().to_vec();
    data.extend_from_slice(export.as_bytes());
    data.extend_from_slice(&0u16.to_be_bytes());
    option(stream, wire::OPT_GO, &data)?;
    let mut size_bytes = None;
    loop {
        let (kind, data) = option_reply(stream, wire::OPT_GO)?;
        match kind {
            wire::REP_ACK => break,
            wire::REP_INFO if data.len() >= 10 && be16(&data, 0) == wire::INFO_EXPORT => {
                size_bytes = Some(be64(&data, 2));
            }
            wire::REP_INFO => {}
            _ if kind & wire::REP_FLAG_ERROR != 0 => {
                bail!("the server refuses export {export:?}: {kind:#x} {}", String::from_utf8_lossy(&data))
            }
            _ => bail!("unknown reply {kind:#x} to NBD_OPT_GO"),
        }
    }
    let size_bytes = size_bytes.context("the server did not tell the size of the export")?;
    Ok(Export { size_bytes })
}

fn option(stream: &mut impl Write, option: u32, data: &[u8]) -> anyhow::Result<()> {
    let mut message = wire::OPTION_MAGIC.to_be_bytes().to_vec();
    message.extend_from_slice(&option.to_be_bytes());
    message.extend_from_slice(&u32::try_from(data.len())?.to_be_bytes());
    message.extend_from_slice(data);
    stream.write_all(&message).context("sending an option")
}

fn option_reply(stream: &mut impl Read, option: u32) -> anyhow::Result<(u32, Vec<u8>)> {
    let mut header = [0; 20];
    stream.read_exact(&mut header).context("reading the reply to an option")?;
    ensure!(be64(&header, 0) == wire::OPTION_REPLY_MAGIC, "bad magic in the reply to option {option}");
    ensure!(be32(&header, 8) == option, "reply to option {} while {option} was sent", be32(&header, 8));
    let len = be32(&header, 16) as usize;
    ensure!(len <= OPTION_REPLY_MAX_BYTES, "reply of {len} bytes to option {option}");
    let mut data = vec![0; len];
    stream.read_exact(&mut data).context("reading the reply to an option")?;
    Ok((be32(&header, 12), data))
}
