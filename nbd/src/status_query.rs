//! The payload of BLOCK_STATUS: a range and the contexts that the client wants to hear about.
//!
//! Source: doc/proto.md on the branch extension-ext-header, section "Request types", `NBD_CMD_BLOCK_STATUS`.

use crate::errno::Errno;
use crate::request::Cookie;
use crate::transmission::{Contexts, Transmission};
use crate::validate::{Command, Refusal, Request, judge_range};
use crate::wire::{Reader, cmd};

/// Length of the shortest legal payload in bytes: a range and one context id.
pub(crate) const PAYLOAD_BYTES_MIN: u64 = 12;
/// Length of the longest legal payload in bytes: each selected context can be named once.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = 8 + 4 * Contexts::MAX as u64;

/// What a payload of BLOCK_STATUS asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusQuery {
    /// Bytes of the export from the request's offset; never 0.
    pub len: u64,
    /// Ids of selected contexts, each once, in the client's order.
    pub ids: Vec<u32>,
}

/// Why a payload of BLOCK_STATUS is refused; the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({errno})")]
pub struct BadStatusQuery {
    /// For the reply.
    pub errno: Errno,
    /// For the reply's text and the log.
    pub message: &'static str,
}

impl StatusQuery {
    /// Decodes the payload of `request`, which [`validate`](crate::validate()) accepted, and checks range and ids.
    ///
    /// A request without a payload gives its own range and all selected contexts, so that a server has one path.
    ///
    /// # Errors
    /// The length is wrong, an id is unknown or named twice, or the range is empty or outside the export.
    pub fn decode(
        request: &Request,
        payload: &[u8],
        session: &Transmission,
    ) -> Result<StatusQuery, BadStatusQuery> {
        if !matches!(request.command, Command::BlockStatus { payload_bytes: Some(_), .. }) {
            let ids = session.contexts.iter().map(|context| context.id).collect();
            return Ok(StatusQuery { len: request.len, ids });
        }
        let query = Self::parse(payload, &session.contexts)?;
        judge_range(cmd::BLOCK_STATUS, request.offset, query.len, session)
            .map_err(|Refusal { errno, message }| BadStatusQuery { errno, message })?;
        Ok(query)
    }

    fn parse(payload: &[u8], contexts: &Contexts) -> Result<StatusQuery, BadStatusQuery> {
        let invalid = |message| BadStatusQuery { errno: Errno::Inval, message };
        let mut reader = Reader::new(payload);
        let len = reader.u64().ok_or(invalid("payload of BLOCK_STATUS is too short"))?;
        if len == 0 {
            return Err(invalid("BLOCK_STATUS of an empty range"));
        }
        let (ids_bytes, stray) = reader.rest().as_chunks::<4>();
        if ids_bytes.is_empty() || !stray.is_empty() || ids_bytes.len() > contexts.len() {
            return Err(invalid("payload of BLOCK_STATUS has a wrong length"));
        }
        let mut ids = Vec::with_capacity(ids_bytes.len());
        for id in ids_bytes.iter().map(|bytes| u32::from_be_bytes(*bytes)) {
            if contexts.by_id(id).is_none() {
                return Err(invalid("BLOCK_STATUS names a context that was not selected"));
            }
            if ids.contains(&id) {
                return Err(invalid("BLOCK_STATUS names a context twice"));
            }
            ids.push(id);
        }
        Ok(StatusQuery { len, ids })
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.len.to_be_bytes());
        for id in &self.ids {
            out.extend_from_slice(&id.to_be_bytes());
        }
    }

    /// A request header for this payload; flags come from the caller.
    pub fn header(&self, flags: u16, cookie: Cookie, offset: u64) -> crate::RequestHeader {
        let len = 8 + 4 * self.ids.len() as u64;
        crate::RequestHeader { flags, kind: cmd::BLOCK_STATUS, cookie, offset, len }
    }
}
