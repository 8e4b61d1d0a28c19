//! One request in flight: what was told about it, and whether that keeps the rules.
//!
//! Source: doc/proto.md, sections "Structured reply types" and "Request types".

use super::coverage::Coverage;
use crate::errno::Errno;
use crate::reply::Extent;
use crate::request::Cookie;
use crate::validate::{Command, Request};

/// The server broke a rule about replies; the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server broke the protocol in a reply{}: {what}", about(*.cookie))]
pub struct Violation {
    /// The request that it was about, where known.
    pub cookie: Option<Cookie>,
    /// Which rule.
    pub what: &'static str,
}

fn about(cookie: Option<Cookie>) -> String {
    cookie.map(|cookie| format!(" to request {:#x}", cookie.0)).unwrap_or_default()
}

/// A request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{errno}{}", if .text.is_empty() { String::new() } else { format!(": {:?}", .text) })]
pub struct RequestError {
    /// Why.
    pub errno: Errno,
    /// What the server said, possibly nothing.
    pub text: String,
    /// First byte of the export that failed, if told.
    pub offset: Option<u64>,
}

/// Errors with an offset that are remembered for one request; of more, a server gains nothing.
const ERROR_OFFSETS_MAX: usize = 64;

/// A request in flight.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    /// Bytes of the export that the request is about.
    len: u64,
    /// Contexts that a status chunk is owed for.
    contexts_owed: Vec<u32>,
    covered: Coverage,
    content_chunks: u32,
    error_offsets: Vec<u64>,
    error: Option<RequestError>,
    pub(super) chunked: bool,
}

type Check<T = ()> = Result<T, &'static str>;

impl Pending {
    pub(super) fn new(request: Request, len: u64, contexts: Vec<u32>) -> Pending {
        Pending {
            request,
            len,
            contexts_owed: contexts,
            covered: Coverage::default(),
            content_chunks: 0,
            error_offsets: Vec::new(),
            error: None,
            chunked: false,
        }
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.request.command, Command::Read { .. })
    }

    /// Whether a simple reply is forbidden once chunks are agreed.
    pub(super) fn needs_chunks(&self) -> bool {
        matches!(self.request.command, Command::Read { .. } | Command::BlockStatus { .. })
    }

    /// A chunk says what these bytes are.
    pub(super) fn content(&mut self, offset: u64, len: u64) -> Check {
        let Command::Read { df } = self.request.command else {
            return Err("content in the reply to a command that has none");
        };
        let end = offset.checked_add(len).ok_or("content beyond the end of the request")?;
        if len == 0 {
            return Err("an empty content chunk");
        }
        if offset < self.request.offset || end > self.request.offset + self.len {
            return Err("content outside the range of the request");
        }
        self.content_chunks = self.content_chunks.saturating_add(1);
        if df && self.content_chunks > 1 {
            return Err("more than one content chunk in spite of DF");
        }
        if self.error_offsets.iter().any(|error| (offset..end).contains(error)) {
            return Err("content where an error was reported before");
        }
        if self.covered.add(offset, end) { Ok(()) } else { Err("content that was sent before") }
    }

    /// A status chunk of one context.
    pub(super) fn status(&mut self, context_id: u32, extents: &[Extent]) -> Check {
        let Command::BlockStatus { req_one, .. } = self.request.command else {
            return Err("block status in the reply to another command");
        };
        let owed = self.contexts_owed.iter().position(|id| *id == context_id);
        self.contexts_owed.swap_remove(owed.ok_or("block status of a context not asked for, or told twice")?);
        let Some((last, before)) = extents.split_last() else {
            return Err("block status without an extent");
        };
        if extents.iter().any(|extent| extent.len == 0) {
            return Err("an empty extent");
        }
        let sum = before.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.len));
        if sum.is_none_or(|sum| sum >= self.len) {
            return Err("an extent that begins beyond the request");
        }
        if req_one && (!before.is_empty() || last.len > self.len) {
            return Err("more than was asked for in spite of REQ_ONE");
        }
        Ok(())
    }

    /// An error chunk. The first error counts.
    pub(super) fn fail(&mut self, error: RequestError) -> Check {
        if let Some(offset) = error.offset {
            let end = self.request.offset.saturating_add(self.len);
            if !(self.request.offset..end).contains(&offset) {
                return Err("an error outside the range of the request");
            }
            if self.error_offsets.len() < ERROR_OFFSETS_MAX {
                self.error_offsets.push(offset);
            }
        }
        self.error.get_or_insert(error);
        Ok(())
    }

    /// The last chunk was taken: success must be complete.
    pub(super) fn finish(self) -> Check<(Request, Result<(), RequestError>)> {
        if let Some(error) = self.error {
            return Ok((self.request, Err(error)));
        }
        if self.is_read() && self.covered.bytes() != self.len {
            return Err("success of a READ whose data were not all sent");
        }
        if !self.contexts_owed.is_empty() {
            return Err("success of a BLOCK_STATUS that does not tell all contexts");
        }
        Ok((self.request, Ok(())))
    }
}
