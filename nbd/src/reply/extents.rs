//! Block status: extents as a driver reports them, and the chunk that carries them.

use super::Chunk;
use crate::request::Cookie;
use crate::transmission::ReplyMode;
use crate::wire::chunk;

/// Longest extent of a 32-bit status chunk in bytes; a multiple of every block size.
const LONGEST_COMPACT_BYTES: u64 = u32::MAX as u64 & !0xffff;

/// Some bytes of an export that have the same status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, not 0.
    pub len: u64,
    /// Status bits of the context; the upper 32 are zero in every context known today.
    pub flags: u64,
}

/// Collects the extents of one answer, consecutive from the request's offset, and keeps the rules for them.
///
/// Neighbours of the same status are merged, empty ones dropped. The sum of all but the last length is below the
/// request's length, as the protocol demands. With REQ_ONE there is one extent, not longer than the request.
#[derive(Clone, Debug)]
pub struct Extents {
    extents: Vec<Extent>,
    covered_bytes: u64,
    request_bytes: u64,
    most: usize,
    req_one: bool,
}

impl Extents {
    /// An answer to a request for `request_bytes` bytes, of at most `most` extents (at least 1 is kept).
    pub fn new(request_bytes: u64, req_one: bool, most: usize) -> Extents {
        let most = if req_one { 1 } else { most.max(1) };
        Extents { extents: Vec::new(), covered_bytes: 0, request_bytes, most, req_one }
    }

    /// Adds an extent behind those before; `false` says that nothing more can be added.
    pub fn push(&mut self, len: u64, flags: u64) -> bool {
        if len == 0 || self.covered_bytes >= self.request_bytes {
            return self.covered_bytes < self.request_bytes;
        }
        let len = if self.req_one { len.min(self.request_bytes - self.covered_bytes) } else { len };
        let full = self.extents.len() == self.most;
        match self.extents.last_mut() {
            Some(last) if last.flags == flags => last.len = last.len.saturating_add(len),
            _ if full => return false,
            _ => self.extents.push(Extent { len, flags }),
        }
        self.covered_bytes = self.covered_bytes.saturating_add(len);
        self.covered_bytes < self.request_bytes
    }

    /// Bytes from the request's offset that the extents describe; may exceed the request without REQ_ONE.
    pub fn covered_bytes(&self) -> u64 {
        self.covered_bytes
    }

    /// The extents so far.
    pub fn as_slice(&self) -> &[Extent] {
        &self.extents
    }
}

impl ReplyMode {
    /// A whole chunk with the status of one context: `extents` follow each other from the request's offset.
    ///
    /// With 32-bit lengths an extent that is too long is cut and the answer ends there, which is legal: a client asks
    /// again for the rest. `extents` is not empty and keeps the rules that [`Extents`] enforces.
    ///
    /// # Panics
    /// Simple replies have no block status; [`validate`](crate::validate()) refuses the request.
    pub fn block_status(
        self,
        cookie: Cookie,
        request_offset: u64,
        context_id: u32,
        extents: &[Extent],
        done: bool,
    ) -> Vec<u8> {
        assert!(self.is_chunked(), "simple replies have no block status");
        debug_assert!(!extents.is_empty(), "a status chunk has at least one extent");
        debug_assert!(extents.iter().all(|extent| extent.len != 0), "an extent is not empty");
        if self == ReplyMode::Extended {
            return self.status_64(cookie, request_offset, context_id, extents, done);
        }
        let fitting = extents.iter().take_while(|extent| extent.len <= LONGEST_COMPACT_BYTES).count();
        let sent = &extents[..extents.len().min(fitting + 1)];
        let payload_bytes = 4 + 8 * sent.len() as u64;
        let head =
            self.head(Chunk { cookie, request_offset, kind: chunk::BLOCK_STATUS, done, payload_bytes });
        let mut out = Vec::with_capacity(head.as_bytes().len() + 4 + 8 * sent.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&context_id.to_be_bytes());
        for extent in sent {
            out.extend_from_slice(&(extent.len.min(LONGEST_COMPACT_BYTES) as u32).to_be_bytes());
            out.extend_from_slice(&(extent.flags as u32).to_be_bytes());
        }
        out
    }

    fn status_64(
        self,
        cookie: Cookie,
        request_offset: u64,
        context_id: u32,
        extents: &[Extent],
        done: bool,
    ) -> Vec<u8> {
        let payload_bytes = 8 + 16 * extents.len() as u64;
        let head =
            self.head(Chunk { cookie, request_offset, kind: chunk::BLOCK_STATUS_EXT, done, payload_bytes });
        let mut out = Vec::with_capacity(head.as_bytes().len() + 8 + 16 * extents.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&context_id.to_be_bytes());
        out.extend_from_slice(&(extents.len() as u32).to_be_bytes());
        for extent in extents {
            out.extend_from_slice(&extent.len.to_be_bytes());
            out.extend_from_slice(&extent.flags.to_be_bytes());
        }
        out
    }
}
