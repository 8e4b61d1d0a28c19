//! Error replies, with a text where the connection has room for one.

use super::{Chunk, Head};
use crate::errno::Errno;
use crate::request::Cookie;
use crate::transmission::ReplyMode;
use crate::wire::chunk;

/// Longest text of an error reply in bytes; a longer one is cut. The protocol would allow 4096.
pub const ERROR_TEXT_BYTES_MAX: usize = 200;

/// Header (32), error and text length (6), text, offset (8).
const CAPACITY: usize = 32 + 6 + ERROR_TEXT_BYTES_MAX + 8;

/// A whole error reply; no heap, at most 246 bytes.
#[derive(Clone, Copy)]
pub struct ErrorReply {
    bytes: [u8; CAPACITY],
    len: u8,
}

impl ErrorReply {
    fn new(head: &Head) -> ErrorReply {
        let mut reply = ErrorReply { bytes: [0; CAPACITY], len: 0 };
        reply.put(head.as_bytes());
        reply
    }

    fn put(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for ErrorReply {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl std::fmt::Debug for ErrorReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ErrorReply").field(&self.as_bytes()).finish()
    }
}

/// `message` cut at a character's boundary, without NUL.
fn text(message: &str) -> &[u8] {
    let message = message.split('\0').next().unwrap_or("");
    let cut = (0..=ERROR_TEXT_BYTES_MAX.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
    &message.as_bytes()[..cut.unwrap_or(0)]
}

impl ReplyMode {
    /// The request failed; this is its whole reply or, after chunks, its last.
    ///
    /// With simple replies the text is dropped, and nothing may have been sent for the request before: if its header
    /// is out already, the connection must be closed instead.
    pub fn error(self, cookie: Cookie, request_offset: u64, errno: Errno, message: &str) -> ErrorReply {
        let errno = if planted!("wrong-error-number") { Errno::Io } else { errno };
        if self == ReplyMode::Simple {
            return ErrorReply::new(&Head::simple(cookie, errno.code()));
        }
        self.error_chunk(chunk::ERROR, (cookie, request_offset), errno, (message, &[]))
    }

    /// As [`ReplyMode::error`], and says where: `error_offset` counts from the export's start and lies inside the
    /// request.
    pub fn error_offset(
        self,
        cookie: Cookie,
        request_offset: u64,
        errno: Errno,
        message: &str,
        error_offset: u64,
    ) -> ErrorReply {
        if self == ReplyMode::Simple {
            return ErrorReply::new(&Head::simple(cookie, errno.code()));
        }
        let tail = error_offset.to_be_bytes();
        self.error_chunk(chunk::ERROR_OFFSET, (cookie, request_offset), errno, (message, &tail))
    }

    fn error_chunk(
        self,
        kind: u16,
        (cookie, request_offset): (Cookie, u64),
        errno: Errno,
        (message, tail): (&str, &[u8]),
    ) -> ErrorReply {
        let text = text(message);
        let payload_bytes = (6 + text.len() + tail.len()) as u64;
        let head = self.head(Chunk { cookie, request_offset, kind, done: true, payload_bytes });
        let mut reply = ErrorReply::new(&head);
        reply.put(&errno.code().to_be_bytes());
        reply.put(&(text.len() as u16).to_be_bytes());
        reply.put(text);
        reply.put(tail);
        reply
    }
}
