//! Replies of a server, ready to be sent: heads of data and hole chunks, errors with text, block status.
//!
//! A reply's bytes are either a [`Head`], a small array that lives where it is made, followed by the data itself
//! which this crate never touches, or, off the hot path, an [`ErrorReply`] or a vector.
//!
//! Source: doc/proto.md, sections "Simple reply message", "Structured reply chunk message" and "Structured reply
//! types"; the branch extension-ext-header, section "Extended reply chunk message". A server may answer any request
//! with chunks once they are agreed, so with chunks every reply is made of them, success included: one rule for all
//! commands, and READ and BLOCK_STATUS must not be answered otherwise.

mod error;
mod extents;
mod head;

pub use error::{ERROR_TEXT_BYTES_MAX, ErrorReply};
pub use extents::{Extent, Extents};
pub use head::Head;

use crate::request::Cookie;
use crate::transmission::ReplyMode;
use crate::wire::{EXTENDED_REPLY_MAGIC, ReplyFlags, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk};

/// The fields that a chunk's header is made of.
#[derive(Clone, Copy)]
struct Chunk {
    cookie: Cookie,
    request_offset: u64,
    kind: u16,
    done: bool,
    payload_bytes: u64,
}

impl ReplyMode {
    /// Success, as the whole reply to a request, or as the end of a reply whose chunks were not marked as last.
    ///
    /// With simple replies it is also what READ of length 0 gets.
    #[inline]
    pub fn success(self, cookie: Cookie, request_offset: u64) -> Head {
        let cookie = if planted!("cookie-cut-to-32-bits") { Cookie(cookie.0 & 0xffff_ffff) } else { cookie };
        if self == ReplyMode::Simple {
            return Head::simple(cookie, 0);
        }
        self.head(Chunk { cookie, request_offset, kind: chunk::NONE, done: true, payload_bytes: 0 })
    }

    /// What goes before `chunk_len` bytes of data read at `chunk_offset` (counted from the export's start).
    ///
    /// With simple replies the chunk must be the whole range of the request: it has one header, error 0, and all its
    /// data behind it. `done` marks the last chunk, and may only be set where nothing can fail any more.
    ///
    /// With structured replies `chunk_len` is at most `u32::MAX - 8`, which [`validate`](crate::validate()) sees to.
    #[inline]
    pub fn data(
        self,
        cookie: Cookie,
        request_offset: u64,
        chunk_offset: u64,
        chunk_len: u32,
        done: bool,
    ) -> Head {
        debug_assert!(chunk_len > 0, "a content chunk describes at least one byte");
        debug_assert!(chunk_len <= u32::MAX - 8, "the length field of a structured chunk has 32 bits");
        if self == ReplyMode::Simple {
            return Head::simple(cookie, 0);
        }
        let payload_bytes = 8 + u64::from(chunk_len);
        let mut head =
            self.head(Chunk { cookie, request_offset, kind: chunk::OFFSET_DATA, done, payload_bytes });
        head.put_u64(chunk_offset);
        head
    }

    /// A whole chunk that says: `hole_len` bytes at `hole_offset` (counted from the export's start) read as zeroes.
    ///
    /// # Panics
    /// Simple replies have no holes; the caller sends zeroes there. See [`ReplyMode::is_chunked`].
    #[inline]
    pub fn hole(
        self,
        cookie: Cookie,
        request_offset: u64,
        hole_offset: u64,
        hole_len: u32,
        done: bool,
    ) -> Head {
        assert!(self.is_chunked(), "simple replies have no holes");
        debug_assert!(hole_len > 0, "a content chunk describes at least one byte");
        let hole_len = if planted!("hole-chunk-too-short") { hole_len - 1 } else { hole_len };
        let mut head =
            self.head(Chunk { cookie, request_offset, kind: chunk::OFFSET_HOLE, done, payload_bytes: 12 });
        head.put_u64(hole_offset);
        head.put_u32(hole_len);
        head
    }

    /// The header of a chunk.
    #[inline]
    fn head(self, chunk: Chunk) -> Head {
        let mut head = Head::new();
        let flags = if chunk.done { ReplyFlags::DONE } else { ReplyFlags::empty() };
        let extended = self == ReplyMode::Extended;
        head.put_u32(if extended { EXTENDED_REPLY_MAGIC } else { STRUCTURED_REPLY_MAGIC });
        head.put_u16(flags.bits());
        head.put_u16(chunk.kind);
        head.put_u64(chunk.cookie.0);
        if extended {
            head.put_u64(chunk.request_offset);
            head.put_u64(chunk.payload_bytes);
        } else {
            head.put_u32(u32::try_from(chunk.payload_bytes).unwrap_or(u32::MAX));
        }
        head
    }
}

impl Head {
    /// A simple reply.
    #[inline]
    fn simple(cookie: Cookie, error: u32) -> Head {
        let mut head = Head::new();
        head.put_u32(SIMPLE_REPLY_MAGIC);
        head.put_u32(error);
        head.put_u64(cookie.0);
        head
    }
}
