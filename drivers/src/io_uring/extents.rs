//! Holes of a file: searching them (on a helper's thread) and remembering data that was found.

use super::disk::Disk;
use crate::error::Errno;
use crate::request::Extent;
use crate::sys::file;

/// Most extents in one answer: bounds the time one search takes.
const MAX_EXTENTS: usize = 128;

/// What a search found.
pub(super) struct Found {
    pub(super) extents: Vec<Extent>,
    /// The first data that was found: begin and end, which may lie outside of the range that was searched.
    pub(super) data: Option<(u64, u64)>,
}

/// Searches `offset..offset + len` by `SEEK_DATA` and `SEEK_HOLE`. Blocks on metadata.
///
/// # Errors
/// `EIO` when the range begins beyond the end of the file, and what `lseek(2)` answered.
pub(super) fn search(disk: &Disk, offset: u64, len: u64) -> Result<Found, Errno> {
    let end = offset + len;
    let mut found = Found { extents: Vec::new(), data: None };
    let mut at = offset;
    while at < end && found.extents.len() < MAX_EXTENTS {
        let data = match file::seek_data(disk.file(), at)? {
            Some(data) => data,
            None => end_of_hole(disk, at, end)?,
        };
        if data > at {
            let until = data.min(end);
            found.extents.push(Extent { len: until - at, hole: true, zero: true });
            at = until;
        }
        if at == end {
            break;
        }
        let hole = file::seek_hole(disk.file(), at)?;
        // The file changes meanwhile, so data may be gone when its end is searched. Without progress, one byte is
        // called data, which is never wrong.
        let hole = hole.max(at + 1);
        found.data.get_or_insert((at, hole));
        let until = hole.min(end);
        found.extents.push(Extent { len: until - at, hole: false, zero: false });
        at = until;
    }
    Ok(found)
}

/// Where the hole at `at` ends, when no data follows: at the end of the range, if the file reaches so far.
fn end_of_hole(disk: &Disk, at: u64, end: u64) -> Result<u64, Errno> {
    let size = disk.target.size_bytes()?;
    if size <= at {
        disk.tell_shrunk(at);
        return Err(Errno::IO);
    }
    Ok(end.min(size))
}

/// Extents of data found by earlier searches. Calling a range data is always allowed, so a stale entry is never
/// wrong; it is forgotten all the same when holes are made.
#[derive(Debug)]
pub(super) struct KnownData {
    extents: [(u64, u64); 16],
    next: usize,
    /// [`Disk::holes_made`] when the entries were good.
    age: u64,
}

impl KnownData {
    pub(super) fn new() -> KnownData {
        KnownData { extents: [(0, 0); 16], next: 0, age: 0 }
    }

    /// The end of known data that `offset` lies in.
    pub(super) fn end_at(&mut self, holes_made: u64, offset: u64) -> Option<u64> {
        self.forget_if_older(holes_made);
        self.extents.iter().find(|(begin, end)| *begin <= offset && offset < *end).map(|(_, end)| *end)
    }

    /// Remembers data that was found by a search that began when `holes_made` was as given.
    pub(super) fn remember(&mut self, holes_made: u64, data: (u64, u64)) {
        self.forget_if_older(holes_made);
        if self.age == holes_made {
            self.extents[self.next] = data;
            self.next = (self.next + 1) % self.extents.len();
        }
    }

    fn forget_if_older(&mut self, holes_made: u64) {
        if holes_made > self.age {
            *self = KnownData { age: holes_made, ..KnownData::new() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_known_until_holes_are_made() {
        let mut known = KnownData::new();
        known.remember(0, (100, 200));
        assert_eq!(known.end_at(0, 99), None);
        assert_eq!(known.end_at(0, 100), Some(200));
        assert_eq!(known.end_at(0, 200), None);
        assert_eq!(known.end_at(1, 100), None);
    }

    #[test]
    fn an_answer_that_was_overtaken_by_a_hole_is_not_remembered() {
        let mut known = KnownData::new();
        assert_eq!(known.end_at(5, 0), None);
        known.remember(4, (0, 10));
        assert_eq!(known.end_at(5, 0), None);
    }
}
