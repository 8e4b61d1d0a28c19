//! Judges requests: each rule of the protocol about a request is in this file, and nothing behind it checks again.
//!
//! Source: doc/proto.md, sections "Request types", "Command flags", "Block size constraints" and "Error values"; for
//! payloads the branch extension-ext-header, section "Request message".

use crate::errno::Errno;
use crate::request::{Cookie, HeaderFormat, RequestHeader};
use crate::status_query::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
use crate::transmission::Transmission;
use crate::wire::{CommandFlags, TransmissionFlags, cmd};

/// A payload up to this length is read away and the request refused; a longer one that the export does not take
/// ends the connection. The specification asks to tolerate 32 MiB whatever was announced.
pub const PAYLOAD_TOLERATED_BYTES: u64 = 64 << 20;

/// Longest READ whose single data chunk still has a 32-bit length.
const READ_BYTES_MAX: u32 = u32::MAX - 8;

/// A legal request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// To be returned in each reply.
    pub cookie: Cookie,
    /// First byte of the export; for RESIZE the new size.
    pub offset: u64,
    /// Bytes of the export; 0 asks for nothing and is answered with success at once. For BLOCK_STATUS with a payload
    /// it is 0: the payload tells, see [`StatusQuery::decode`](crate::StatusQuery::decode).
    pub len: u64,
    /// What to do there.
    pub command: Command,
}

/// What a legal request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send the range.
    Read {
        /// At most one content chunk, holes written out as zeroes.
        df: bool,
    },
    /// Store the `len` bytes that follow the header.
    Write {
        /// Reply only when they are on stable storage.
        fua: bool,
    },
    /// Answer what is in flight, then close; there is no reply.
    Disconnect,
    /// Bring all that was replied to on stable storage.
    Flush,
    /// The range is no longer needed.
    Trim {
        /// Reply only when this is on stable storage.
        fua: bool,
    },
    /// The range will be read soon. Arrives also where it was not announced: success without effect is right then.
    Cache,
    /// The range shall read as zeroes.
    WriteZeroes {
        /// Reply only when this is on stable storage.
        fua: bool,
        /// The range must stay provisioned.
        no_hole: bool,
        /// Fail at once with [`Errno::NotSup`] where this is no faster than writing.
        fast: bool,
    },
    /// Describe the range in each selected context.
    BlockStatus {
        /// One extent only, not longer than the range.
        req_one: bool,
        /// Length of the payload that follows the header and says range and contexts.
        payload_bytes: Option<u64>,
    },
    /// Change the size of the export to `offset` bytes.
    Resize,
}

/// What to do with a request header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Do it.
    Accept(Request),
    /// Read `payload_bytes` away, then answer the header's cookie with this error.
    Refuse {
        /// For the reply.
        errno: Errno,
        /// For the reply's text and the log.
        message: &'static str,
        /// Bytes behind the header that belong to this request.
        payload_bytes: u64,
    },
    /// Close the connection without a reply; the text is for the log.
    HardDisconnect(&'static str),
}

/// Why a request is refused.
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(crate) message: &'static str,
}

const fn invalid(message: &'static str) -> Refusal {
    Refusal { errno: Errno::Inval, message }
}

/// Judges one request header on this session.
#[inline]
pub fn validate(header: &RequestHeader, session: &Transmission) -> Verdict {
    // A soft disconnect is obeyed whatever else the header says: nothing is read or sent after it.
    if header.kind == cmd::DISC {
        let request = Request { cookie: header.cookie, offset: 0, len: 0, command: Command::Disconnect };
        return Verdict::Accept(request);
    }

    // A payload is read away even if its request is refused, or the stream would be out of step; one that is absurdly
    // long is an attack.
    let payload_bytes = payload_bytes(header, session.header_format());
    let maximum_payload_bytes = u64::from(session.export.block_sizes.maximum_payload_bytes);
    if payload_bytes > maximum_payload_bytes && payload_bytes > PAYLOAD_TOLERATED_BYTES {
        return Verdict::HardDisconnect("payload is longer than any that is tolerated");
    }

    match judge(header, session, payload_bytes) {
        Ok(request) => Verdict::Accept(request),
        Err(Refusal { errno, message }) if planted!("refused-payload-not-read-away") => {
            Verdict::Refuse { errno, message, payload_bytes: 0 }
        }
        Err(Refusal { errno, message }) => Verdict::Refuse { errno, message, payload_bytes },
    }
}

/// Bytes that follow the header: a WRITE always has some; with extended headers other commands have if their flag says
/// so.
///
/// The specification wants the flag on an extended WRITE too. qemu's client (8.2 to 10.0 at least) leaves it out and
/// sends the payload all the same, and qemu's server takes that; so does this one, or no qemu could write to it.
#[inline]
fn payload_bytes(header: &RequestHeader, format: HeaderFormat) -> u64 {
    let says_so = format == HeaderFormat::Extended && header.flags & CommandFlags::PAYLOAD_LEN.bits() != 0;
    if header.kind == cmd::WRITE || says_so { header.len } else { 0 }
}

/// The rules, in the order in which they are checked.
#[inline]
fn judge(header: &RequestHeader, session: &Transmission, payload_bytes: u64) -> Result<Request, Refusal> {
    let export = &session.export;
    let extended = session.header_format() == HeaderFormat::Extended;

    // The command is known.
    if header.kind > cmd::RESIZE {
        return Err(invalid("unknown command"));
    }

    // A read-only export refuses what would change it, announced or not.
    let changes = matches!(header.kind, cmd::WRITE | cmd::TRIM | cmd::WRITE_ZEROES | cmd::RESIZE);
    if changes && export.is_read_only() && !planted!("read-only-not-enforced") {
        return Err(Refusal { errno: Errno::Perm, message: "the export is read-only" });
    }

    // Flags are known, belong to the command, and were announced where they need it.
    let flags = judge_flags(header, export.flags, extended)?;

    // The command was announced. CACHE may come unannounced: clients do send it, and success promises nothing.
    let needed = match header.kind {
        cmd::FLUSH => TransmissionFlags::SEND_FLUSH,
        cmd::TRIM => TransmissionFlags::SEND_TRIM,
        cmd::WRITE_ZEROES => TransmissionFlags::SEND_WRITE_ZEROES,
        cmd::RESIZE => TransmissionFlags::SEND_RESIZE,
        _ => TransmissionFlags::empty(),
    };
    if !export.flags.contains(needed) {
        return Err(invalid("the export does not offer this command"));
    }

    // A payload fits the announced maximum.
    if payload_bytes > u64::from(export.block_sizes.maximum_payload_bytes) {
        return Err(invalid("payload is longer than the maximum payload size"));
    }

    // The range lies inside the export and is not too long. FLUSH has none; the offset of RESIZE is the new size; the
    // range of a BLOCK_STATUS with payload is known only when that is decoded.
    match header.kind {
        cmd::FLUSH if header.offset != 0 || header.len != 0 => {
            return Err(invalid("FLUSH with an offset or a length"));
        }
        cmd::FLUSH | cmd::RESIZE => {}
        cmd::BLOCK_STATUS => judge_block_status(header, session, flags.contains(CommandFlags::PAYLOAD_LEN))?,
        cmd::READ => {
            judge_range(header.kind, header.offset, header.len, session)?;
            judge_read_length(header.len, flags, session)?;
        }
        _ => judge_range(header.kind, header.offset, header.len, session)?,
    }

    Ok(accepted(header, flags))
}

/// Flags are known, belong to the command, and were announced where they need it.
#[inline]
fn judge_flags(
    header: &RequestHeader,
    offered: TransmissionFlags,
    extended: bool,
) -> Result<CommandFlags, Refusal> {
    // The usual case: no flag needs no rule.
    if header.flags == 0 {
        return Ok(CommandFlags::empty());
    }
    let Some(flags) = CommandFlags::from_bits(header.flags) else {
        return Err(invalid("unknown command flag"));
    };

    // FUA, where announced, is taken on every command and ignored where nothing is written.
    if flags.contains(CommandFlags::FUA) && !offered.contains(TransmissionFlags::SEND_FUA) {
        return Err(invalid("FUA was not offered"));
    }

    // Every other flag belongs to one command.
    let own = match header.kind {
        cmd::READ => CommandFlags::DF,
        cmd::WRITE if extended => CommandFlags::PAYLOAD_LEN,
        cmd::WRITE_ZEROES => CommandFlags::NO_HOLE | CommandFlags::FAST_ZERO,
        cmd::BLOCK_STATUS if extended => CommandFlags::REQ_ONE | CommandFlags::PAYLOAD_LEN,
        cmd::BLOCK_STATUS => CommandFlags::REQ_ONE,
        _ => CommandFlags::empty(),
    };
    if !(own | CommandFlags::FUA).contains(flags) {
        return Err(invalid("command flag does not belong to this command"));
    }

    // DF, FAST_ZERO and a payload of BLOCK_STATUS are used only where announced.
    if flags.contains(CommandFlags::DF) && !offered.contains(TransmissionFlags::SEND_DF) {
        return Err(invalid("DF was not offered"));
    }
    if flags.contains(CommandFlags::FAST_ZERO) && !offered.contains(TransmissionFlags::SEND_FAST_ZERO) {
        return Err(invalid("FAST_ZERO was not offered"));
    }
    if header.kind == cmd::BLOCK_STATUS
        && flags.contains(CommandFlags::PAYLOAD_LEN)
        && !offered.contains(TransmissionFlags::BLOCK_STATUS_PAYLOAD)
    {
        return Err(invalid("a payload of BLOCK_STATUS was not offered"));
    }
    Ok(flags)
}

/// The range lies inside the export and is aligned as the export demands; nothing is done partially.
#[inline]
pub(crate) fn judge_range(kind: u16, offset: u64, len: u64, session: &Transmission) -> Result<(), Refusal> {
    let export = &session.export;

    // Neither does the end wrap around nor does it lie beyond the export's. Writing there is "no space".
    let inside = offset.checked_add(len).is_some_and(|end| end <= export.size_bytes);
    if !inside {
        let errno = if matches!(kind, cmd::WRITE | cmd::WRITE_ZEROES) { Errno::NoSpc } else { Errno::Inval };
        return Err(Refusal { errno, message: "the range lies beyond the end of the export" });
    }

    // Alignment binds only where the server does not take care of it.
    let mask = u64::from(export.required_alignment_bytes).wrapping_sub(1);
    if (offset | len) & mask != 0 {
        return Err(invalid("offset or length is not a multiple of the minimum block size"));
    }
    Ok(())
}

/// A READ is not longer than the server serves; with DF not longer than it sends in one piece.
#[inline]
fn judge_read_length(len: u64, flags: CommandFlags, session: &Transmission) -> Result<(), Refusal> {
    let export = &session.export;
    if flags.contains(CommandFlags::DF) && len > u64::from(export.maximum_df_bytes.min(READ_BYTES_MAX)) {
        return Err(Refusal { errno: Errno::Overflow, message: "READ with DF is too long for one chunk" });
    }
    if len > u64::from(export.maximum_read_bytes.min(READ_BYTES_MAX)) {
        return Err(invalid("READ is longer than this server sends"));
    }
    Ok(())
}

/// BLOCK_STATUS needs contexts, and a range that is not empty because an answer has at least one extent.
fn judge_block_status(
    header: &RequestHeader,
    session: &Transmission,
    has_payload: bool,
) -> Result<(), Refusal> {
    if !session.replies.is_chunked() || session.contexts.is_empty() {
        return Err(invalid("BLOCK_STATUS without a selected metadata context"));
    }
    if has_payload {
        let sensible = (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&header.len);
        return if sensible { Ok(()) } else { Err(invalid("payload of BLOCK_STATUS has a wrong length")) };
    }
    if header.len == 0 {
        return Err(invalid("BLOCK_STATUS of an empty range"));
    }
    judge_range(header.kind, header.offset, header.len, session)
}

/// The request behind a header that passed every rule.
#[inline]
fn accepted(header: &RequestHeader, flags: CommandFlags) -> Request {
    let fua = flags.contains(CommandFlags::FUA);
    let has_payload = flags.contains(CommandFlags::PAYLOAD_LEN);
    let command = match header.kind {
        cmd::READ => Command::Read { df: flags.contains(CommandFlags::DF) },
        cmd::WRITE => Command::Write { fua },
        cmd::FLUSH => Command::Flush,
        cmd::TRIM => Command::Trim { fua },
        cmd::CACHE => Command::Cache,
        cmd::WRITE_ZEROES => Command::WriteZeroes {
            fua,
            no_hole: flags.contains(CommandFlags::NO_HOLE),
            fast: flags.contains(CommandFlags::FAST_ZERO),
        },
        cmd::BLOCK_STATUS => Command::BlockStatus {
            req_one: flags.contains(CommandFlags::REQ_ONE),
            payload_bytes: has_payload.then_some(header.len),
        },
        _ => Command::Resize,
    };
    let len = match command {
        Command::BlockStatus { payload_bytes: Some(_), .. } => 0,
        _ => header.len,
    };
    let offset = match header.offset {
        high if planted!("off-by-one-at-4-gib") && high >> 32 != 0 => high - 1,
        high if planted!("offset-cut-to-32-bits") => high & u64::from(u32::MAX),
        offset => offset,
    };
    Request { cookie: header.cookie, offset, len, command }
}

#[cfg(test)]
mod tests;
