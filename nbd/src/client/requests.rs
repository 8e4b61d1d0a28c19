//! Legal request headers for a session.

use crate::errno::Errno;
use crate::request::{HeaderFormat, RequestHeader};
use crate::transmission::Transmission;
use crate::validate::{Command, Request, Verdict, validate};
use crate::wire::{CommandFlags, cmd};

/// A request that the server would refuse, or that cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({errno})")]
pub struct BadRequest {
    /// What a server would answer.
    pub errno: Errno,
    /// Why.
    pub message: &'static str,
}

/// The header that asks for `request` on this session. WRITE is to be followed by `len` bytes, BLOCK_STATUS with a
/// payload by [`StatusQuery::encode`](crate::StatusQuery::encode).
///
/// To send what is wrong on purpose, fill in a [`RequestHeader`] by hand.
///
/// # Errors
/// The request breaks a rule of the protocol, or uses what the server did not offer.
pub fn header_for(request: &Request, session: &Transmission) -> Result<RequestHeader, BadRequest> {
    let format = session.header_format();
    let header = request.header(format);
    if format == HeaderFormat::Compact && header.len > u64::from(u32::MAX) {
        return Err(BadRequest { errno: Errno::Inval, message: "length needs extended headers" });
    }
    match validate(&header, session) {
        Verdict::Accept(_) => Ok(header),
        Verdict::Refuse { errno, message, .. } => Err(BadRequest { errno, message }),
        Verdict::HardDisconnect(message) => Err(BadRequest { errno: Errno::Inval, message }),
    }
}

impl Request {
    /// The header that carries this request, unchecked.
    pub fn header(&self, format: HeaderFormat) -> RequestHeader {
        let flag = |set, flag| if set { flag } else { CommandFlags::empty() };
        let payload_flag = flag(format == HeaderFormat::Extended, CommandFlags::PAYLOAD_LEN);
        let (kind, flags, len) = match self.command {
            Command::Read { df } => (cmd::READ, flag(df, CommandFlags::DF), self.len),
            Command::Write { fua } => (cmd::WRITE, flag(fua, CommandFlags::FUA) | payload_flag, self.len),
            Command::Disconnect => (cmd::DISC, CommandFlags::empty(), 0),
            Command::Flush => (cmd::FLUSH, CommandFlags::empty(), self.len),
            Command::Trim { fua } => (cmd::TRIM, flag(fua, CommandFlags::FUA), self.len),
            Command::Cache => (cmd::CACHE, CommandFlags::empty(), self.len),
            Command::WriteZeroes { fua, no_hole, fast } => {
                let flags = flag(fua, CommandFlags::FUA)
                    | flag(no_hole, CommandFlags::NO_HOLE)
                    | flag(fast, CommandFlags::FAST_ZERO);
                (cmd::WRITE_ZEROES, flags, self.len)
            }
            Command::BlockStatus { req_one, payload_bytes } => {
                let flags = flag(req_one, CommandFlags::REQ_ONE)
                    | flag(payload_bytes.is_some(), CommandFlags::PAYLOAD_LEN);
                (cmd::BLOCK_STATUS, flags, payload_bytes.unwrap_or(self.len))
            }
            Command::Resize => (cmd::RESIZE, CommandFlags::empty(), self.len),
        };
        RequestHeader { flags: flags.bits(), kind, cookie: self.cookie, offset: self.offset, len }
    }
}
