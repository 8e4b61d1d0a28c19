//! The rules that every reply must keep, whatever was asked.
//!
//! Source: doc/proto.md, sections "Simple reply message", "Structured reply chunk message", "Structured reply types"
//! and "Error values"; for extended chunks the branch extension-ext-header, section "Extended reply chunk message".

use nbd::wire::{CommandFlags, chunk, cmd};

use super::check::{Outcome, demand, failed};
use super::session::Ask;

/// The eight values that an error may have on the wire (section "Error values").
pub(super) const ERRORS: [u32; 8] = [EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN];
pub(super) const EPERM: u32 = 1;
pub(super) const EIO: u32 = 5;
pub(super) const ENOMEM: u32 = 12;
pub(super) const EINVAL: u32 = 22;
pub(super) const ENOSPC: u32 = 28;
pub(super) const EOVERFLOW: u32 = 75;
pub(super) const ENOTSUP: u32 = 95;
pub(super) const ESHUTDOWN: u32 = 108;

/// What a write beyond the end of the export may get; `bounds/error-numbers` is about which.
pub(super) const BEYOND: [u32; 2] = [ENOSPC, EINVAL];

/// Extents that no server has a reason to exceed in one reply (section "Structured reply types").
const EXTENTS_MAX: usize = 1 << 20;

/// A range with a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) len: u64,
    pub(super) status: u64,
}

/// A piece of the answer to a READ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) is_hole: bool,
}

/// A request, and what was answered so far; complete once the last chunk was taken.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) cookie: u64,
    pub(super) asked: Ask,
    /// Contexts that are selected, or those that a status payload names.
    owed: Vec<u32>,
    /// 0 is success.
    pub(super) error: u32,
    /// Text of the error.
    pub(super) text: String,
    /// What was read.
    pub(super) data: Vec<u8>,
    pub(super) pieces: Vec<Piece>,
    /// Extents of each context.
    pub(super) statuses: Vec<(u32, Vec<Extent>)>,
    pub(super) chunks: usize,
}

impl Reply {
    /// Nothing was answered yet. `owed`: contexts that a success of this request must describe.
    pub(super) fn new(cookie: u64, asked: Ask, owed: Vec<u32>) -> Reply {
        Reply {
            cookie,
            asked,
            owed,
            error: 0,
            text: String::new(),
            data: Vec::new(),
            pieces: Vec::new(),
            statuses: Vec::new(),
            chunks: 0,
        }
    }

    fn has_flag(&self, flag: CommandFlags) -> bool {
        self.asked.flags & flag.bits() != 0
    }

    /// A piece of data or a hole is announced: it must lie inside the request, and say nothing that was said before.
    pub(super) fn take_piece(&mut self, offset: u64, len: u64, is_hole: bool) -> Outcome {
        demand!(self.asked.kind == cmd::READ, "content in the reply to {}", self.asked);
        demand!(len > 0, "an empty piece of content in the reply to {}", self.asked);
        let range = self.asked.offset..self.asked.offset.saturating_add(self.asked.len);
        let end = offset.saturating_add(len);
        demand!(
            range.contains(&offset) && end <= range.end,
            "content {offset}+{len} outside the request {}",
            self.asked
        );
        let again = self.pieces.iter().find(|piece| offset < piece.offset + piece.len && piece.offset < end);
        demand!(again.is_none(), "content {offset}+{len} overlaps {again:?} in the reply to {}", self.asked);
        let second = self.has_flag(CommandFlags::DF) && !self.pieces.is_empty();
        demand!(!second, "a second content chunk in spite of DF, in the reply to {}", self.asked);
        // Room is made only for what a server really answers: the length field may be anything.
        self.data.resize(self.asked.len as usize, 0);
        self.pieces.push(Piece { offset, len, is_hole });
        Ok(())
    }

    /// Bytes of an announced piece.
    pub(super) fn take_data(&mut self, offset: u64, bytes: &[u8]) {
        let start = (offset - self.asked.offset) as usize;
        self.data[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Payload of a chunk that is not data.
    pub(super) fn take_chunk(&mut self, kind: u16, payload: &[u8]) -> Outcome {
        match kind {
            chunk::NONE => {
                demand!(payload.is_empty(), "a NONE chunk of {} bytes", payload.len());
                Ok(())
            }
            chunk::OFFSET_HOLE => {
                demand!(payload.len() == 12, "an OFFSET_HOLE chunk of {} bytes instead of 12", payload.len());
                self.take_piece(u64_at(payload, 0), u64::from(u32_at(payload, 8)), true)
            }
            chunk::BLOCK_STATUS => self.take_status(payload, 4, 8),
            chunk::BLOCK_STATUS_EXT => self.take_status(payload, 8, 16),
            chunk::ERROR => self.take_error(payload, 6),
            chunk::ERROR_OFFSET => self.take_error(payload, 14),
            unknown => failed(format!("a chunk of the unknown type {unknown:#x}")),
        }
    }

    fn take_error(&mut self, payload: &[u8], head: usize) -> Outcome {
        demand!(payload.len() >= head, "an error chunk of {} bytes, shorter than {head}", payload.len());
        let error = u32_at(payload, 0);
        self.set_error(error)?;
        let text_len = usize::from(u16::from_be_bytes([payload[4], payload[5]]));
        demand!(
            text_len <= 4096 && text_len <= payload.len() - head,
            "an error message of {text_len} bytes in a chunk of {}",
            payload.len()
        );
        let Ok(text) = std::str::from_utf8(&payload[6..6 + text_len]) else {
            return failed("an error message that is not UTF-8");
        };
        text.clone_into(&mut self.text);
        if head == 14 {
            let offset = u64_at(payload, 6 + text_len);
            let range = self.asked.offset..self.asked.offset.saturating_add(self.asked.len);
            demand!(range.contains(&offset), "an error at {offset}, outside the request {}", self.asked);
        }
        Ok(())
    }

    /// An error value of a simple reply or an error chunk. The first one counts.
    pub(super) fn set_error(&mut self, error: u32) -> Outcome {
        demand!(error != 0, "an error chunk with error 0 in the reply to {}", self.asked);
        demand!(
            ERRORS.contains(&error),
            "error {error} in the reply to {}: no such value exists",
            self.asked
        );
        if self.error == 0 {
            self.error = error;
        }
        Ok(())
    }

    fn take_status(&mut self, payload: &[u8], head: usize, entry: usize) -> Outcome {
        demand!(self.asked.kind == cmd::BLOCK_STATUS, "block status in the reply to {}", self.asked);
        let extents_len = payload.len().saturating_sub(head);
        demand!(
            extents_len >= entry && extents_len.is_multiple_of(entry),
            "a block status chunk of {} bytes",
            payload.len()
        );
        let extents: Vec<Extent> = payload[head..]
            .chunks_exact(entry)
            .map(|bytes| match entry {
                8 => Extent { len: u32_at(bytes, 0).into(), status: u32_at(bytes, 4).into() },
                _ => Extent { len: u64_at(bytes, 0), status: u64_at(bytes, 8) },
            })
            .collect();
        if head == 8 {
            let count = u32_at(payload, 4) as usize;
            demand!(count == extents.len(), "a count of {count} before {} extents", extents.len());
        }
        let id = u32_at(payload, 0);
        demand!(self.owed.contains(&id), "block status of context {id}, which was not asked for");
        let again = self.statuses.iter().any(|(known, _)| *known == id);
        demand!(!again, "a second block status of context {id}");
        self.judge_extents(&extents)?;
        self.statuses.push((id, extents));
        Ok(())
    }

    fn judge_extents(&self, extents: &[Extent]) -> Outcome {
        demand!(extents.len() <= EXTENTS_MAX, "{} extents in one reply", extents.len());
        demand!(
            extents.iter().all(|extent| extent.len > 0),
            "an empty extent in the reply to {}",
            self.asked
        );
        let (last, before) = extents.split_last().expect("at least one entry");
        let sum: u64 = before.iter().map(|extent| extent.len).fold(0, u64::saturating_add);
        let asked = self.asked.range_len();
        demand!(sum < asked, "an extent that begins at or behind the end of {}", self.asked);
        if self.has_flag(CommandFlags::REQ_ONE) {
            demand!(before.is_empty(), "{} extents in spite of REQ_ONE", extents.len());
            demand!(last.len <= asked, "{} bytes in spite of REQ_ONE for {}", last.len, self.asked);
        }
        Ok(())
    }

    /// The last chunk was taken: a success must be complete.
    pub(super) fn finish(&self) -> Outcome {
        if self.error != 0 {
            return Ok(());
        }
        if self.asked.kind == cmd::READ {
            let told: u64 = self.pieces.iter().map(|piece| piece.len).sum();
            demand!(told == self.asked.len, "{told} of {} bytes told by {}", self.asked.len, self.asked);
        }
        if self.asked.kind == cmd::BLOCK_STATUS {
            let missing = self.owed.iter().find(|id| !self.statuses.iter().any(|(told, _)| told == *id));
            demand!(missing.is_none(), "no status of context {missing:?} in the reply to {}", self.asked);
        }
        Ok(())
    }

    /// Fails unless the request succeeded.
    pub(super) fn success(self) -> Outcome<Reply> {
        demand!(
            self.error == 0,
            "expected success of {}, got error {} {:?}",
            self.asked,
            self.error,
            self.text
        );
        Ok(self)
    }

    /// Fails unless the request was refused with one of these errors.
    pub(super) fn error_in(self, errors: &[u32]) -> Outcome {
        let got = if self.error == 0 { "success".to_owned() } else { format!("error {}", self.error) };
        demand!(errors.contains(&self.error), "expected one of {errors:?} for {}, got {got}", self.asked);
        Ok(())
    }

    /// Extents of the only context.
    pub(super) fn extents(&self) -> &[Extent] {
        self.statuses.first().map_or(&[], |(_, extents)| extents.as_slice())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
