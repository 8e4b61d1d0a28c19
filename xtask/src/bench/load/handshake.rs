//! Fixed newstyle negotiation of one connection, as short as it can be.

use std::io::{Read, Write};

use anyhow::{Context, bail, ensure};
use nbd::option::{OptionHeader, OptionReplyHeader};
use nbd::wire::{self, ClientFlags, HandshakeFlags, info, opt, rep};

use super::bytes::{be16, be64};

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
    let mut greeting = [0; wire::GREETING_BYTES];
    stream.read_exact(&mut greeting).context("reading the server's greeting")?;
    ensure!(
        be64(&greeting, 0) == wire::NBDMAGIC,
        "the peer is not an NBD server: it greets with {greeting:02x?}"
    );
    ensure!(be64(&greeting, 8) == wire::IHAVEOPT, "the server speaks oldstyle negotiation only");
    let flags = HandshakeFlags::from_bits_truncate(be16(&greeting, 16));
    ensure!(flags.contains(HandshakeFlags::FIXED_NEWSTYLE), "the server is not fixed newstyle");
    // NO_ZEROES only changes the answer to EXPORT_NAME, which is not used here.
    stream.write_all(&ClientFlags::FIXED_NEWSTYLE.bits().to_be_bytes())?;
    if replies == Replies::Structured {
        option(stream, opt::STRUCTURED_REPLY, &[])?;
        let (kind, _) = option_reply(stream, opt::STRUCTURED_REPLY)?;
        ensure!(kind == rep::ACK, "the server refuses structured replies (reply type {kind:#x})");
    }
    go(stream, export)
}

fn go(stream: &mut (impl Read + Write), export: &str) -> anyhow::Result<Export> {
    let mut data = u32::try_from(export.len())?.to_be_bytes().to_vec();
    data.extend_from_slice(export.as_bytes());
    data.extend_from_slice(&0u16.to_be_bytes());
    option(stream, opt::GO, &data)?;
    let mut size_bytes = None;
    loop {
        let (kind, data) = option_reply(stream, opt::GO)?;
        match kind {
            rep::ACK => break,
            rep::INFO if data.len() >= 10 && be16(&data, 0) == info::EXPORT => {
                size_bytes = Some(be64(&data, 2));
            }
            rep::INFO => {}
            _ if kind & rep::ERROR_BIT != 0 => {
                bail!("the server refuses export {export:?}: {kind:#x} {}", String::from_utf8_lossy(&data))
            }
            _ => bail!("unknown reply {kind:#x} to NBD_OPT_GO"),
        }
    }
    let size_bytes = size_bytes.context("the server did not tell the size of the export")?;
    Ok(Export { size_bytes })
}

fn option(stream: &mut impl Write, option: u32, data: &[u8]) -> anyhow::Result<()> {
    let mut message = Vec::new();
    OptionHeader::encode(option, data, &mut message);
    stream.write_all(&message).context("sending an option")
}

/// Type and data of the next reply to `option`.
fn option_reply(stream: &mut impl Read, option: u32) -> anyhow::Result<(u32, Vec<u8>)> {
    let mut header = [0; wire::OPTION_REPLY_HEADER_BYTES];
    stream.read_exact(&mut header).context("reading the reply to an option")?;
    let header = OptionReplyHeader::decode(&header)
        .with_context(|| format!("bad magic in the reply to option {option}"))?;
    ensure!(header.option == option, "reply to option {} while {option} was sent", header.option);
    let len = header.len as usize;
    ensure!(len <= OPTION_REPLY_MAX_BYTES, "reply of {len} bytes to option {option}");
    let mut data = vec![0; len];
    stream.read_exact(&mut data).context("reading the reply to an option")?;
    Ok((header.kind, data))
}
