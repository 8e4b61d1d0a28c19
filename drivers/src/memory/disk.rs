//! [`MemoryDisk`]: the RAM disk's store and the order of its operations.
//!
//! # What concurrent operations may see
//!
//! All threads work on the store at the same time. A page is *written* when its bit is set; a page whose bit is clear
//! reads as zeroes without being looked at, so that reading never allocates memory. What must never happen is a clear
//! bit over old data that stays: a later write to a part of that page would set the bit and bring the rest of the old
//! data back. Two rules exclude it:
//!
//! * a write copies first and sets the bits afterwards;
//! * discard and zeroes clear the bits first and punch the memory afterwards.
//!
//! Proof, for one page. Suppose that all operations are over and the bit is clear, so the last change of the bit was
//! some discard's clear. Every write set the bit before that clear (the bit operations are atomic and have one
//! order), copied before it set, and its copy is visible to who sees the bit (release, acquire); the discard punched
//! after it cleared, so it erased all of those copies. Hence the memory of a page with a clear bit is zero. Between
//! clear and punch the page reads as zeroes or as old data, depending on the bit: allowed, since the discard has not
//! been answered yet; and a write that lands there may be erased by the punch: allowed, since it overlaps the discard
//! and neither is answered before the other begins.
//!
//! A part of a page is never judged by its bit: the punch zeroes exactly its range (and allocates nothing where
//! nothing is), so writes to the other parts of the page and their bits are left alone.
//!
//! A reader that was given a view may send it after a discard: it then reads fresh zero pages of the store, which
//! allocates them until the next discard. That costs memory only, and only as much as is read in that moment.

use std::io;

use vm_memory::VolatileSlice;

use super::bitmap::Bitmap;
use crate::error::Errno;
use crate::instant::{InstantDisk, Source};
use crate::limits::{DiscardLimits, Limits, ZeroesLimits};
use crate::queue::{Store, View};
use crate::request::{Extent, RequestFlags};
use crate::sys::mmap::{Mapping, MemoryFile, zero};

/// The unit of allocation, and of the bitmap.
const PAGE_BYTES: u64 = 4096;

/// Longest discard or zeroes request: giving memory back costs 50 to 200 ns per page, and a worker waits for it.
const MAX_PUNCH_BYTES: u64 = 16 << 20;

/// Most extents in one block status answer, and most bits it looks at: both bound the time of one call.
const MAX_EXTENTS: usize = 128;
const MAX_STATUS_PAGES: u64 = 1 << 20;

/// A sparse RAM disk.
pub(super) struct MemoryDisk {
    limits: Limits,
    file: MemoryFile,
    store: Mapping,
    written: Bitmap,
}

impl MemoryDisk {
    /// Makes a disk of zeroes.
    ///
    /// # Errors
    /// What the system answered to the request for address space.
    pub(super) fn new(capacity_bytes: u64, read_only: bool) -> io::Result<MemoryDisk> {
        let pages = capacity_bytes.div_ceil(PAGE_BYTES);
        let bytes = usize::try_from(pages.max(1) * PAGE_BYTES)
            .map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        let limits = Limits {
            capacity_bytes,
            read_only,
            can_grow: false,
            request_alignment_bytes: 1,
            buffer_alignment_bytes: 1,
            optimal_io_alignment_bytes: PAGE_BYTES as u32,
            optimal_io_bytes: 0,
            max_transfer_bytes: 32 << 20,
            discard: Some(DiscardLimits { max_bytes: MAX_PUNCH_BYTES, alignment_bytes: 1 }),
            write_zeroes: Some(ZeroesLimits {
                max_bytes: MAX_PUNCH_BYTES,
                alignment_bytes: 1,
                fast_unmap: true,
                fast_no_unmap: true,
            }),
            fua: true,
            flush_needed: false,
            block_status: true,
            rotational: false,
            immediate: true,
        };
        let file = MemoryFile::new(c"gateway-disk", bytes)?;
        let store = Mapping::of(&file)?;
        Ok(MemoryDisk { limits, file, store, written: Bitmap::new(pages)? })
    }

    /// The run of pages of one kind at `offset`: whether they are written, and how many of `len` bytes lie in it.
    fn run(&self, offset: u64, len: u64) -> (bool, u64) {
        let end = offset + len;
        let (written, end_page) = self.written.run(offset / PAGE_BYTES, end.div_ceil(PAGE_BYTES));
        (written, (end_page * PAGE_BYTES).min(end) - offset)
    }

    fn slice(&self, offset: u64, len: usize) -> VolatileSlice<'_> {
        let offset = usize::try_from(offset).expect("the disk fits into the address space");
        self.store.slice(offset, len).expect("a checked range lies inside the store")
    }

    /// The pages that lie in the range as a whole. The last page of the disk counts as whole when its bytes do.
    fn whole_pages(&self, offset: u64, len: u64) -> (u64, u64) {
        let first = offset.div_ceil(PAGE_BYTES);
        let end = offset + len;
        let end = if end == self.limits.capacity_bytes { end.div_ceil(PAGE_BYTES) } else { end / PAGE_BYTES };
        (first, end.max(first))
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let (first, end) = self.whole_pages(offset, len);
        self.written.clear(first, end);
        Ok(self.file.punch(offset, len)?)
    }
}

impl InstantDisk for MemoryDisk {
    const DRIVER: &'static str = "memory";

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn view(&self, offset: u64, len: usize) -> View {
        let (written, bytes) = self.run(offset, len as u64);
        // A run is not longer than the question, which is a `usize`.
        let bytes = bytes as usize;
        if written { View::Store(bytes) } else { View::Zero(bytes) }
    }

    fn read(&self, offset: u64, into: &VolatileSlice<'_>) {
        let mut done = 0;
        while done < into.len() {
            let (written, bytes) = self.run(offset + done as u64, (into.len() - done) as u64);
            let bytes = bytes as usize;
            let target = into.subslice(done, bytes).expect("a run is not longer than the question");
            if written {
                self.slice(offset + done as u64, bytes).copy_to_volatile_slice(target);
            } else {
                zero(&target);
            }
            done += bytes;
        }
    }

    fn write(&self, offset: u64, from: Source<'_>) -> Result<(), Errno> {
        let len = from.len();
        from.copy_to(&self.slice(offset, len));
        self.written.set(offset / PAGE_BYTES, (offset + len as u64).div_ceil(PAGE_BYTES));
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.punch(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: RequestFlags) -> Result<(), Errno> {
        self.punch(offset, len)?;
        if flags.no_unmap && !planted!("ignored-no-hole") {
            // New pages are zero, and those that a concurrent write made meanwhile are its own.
            self.file.allocate(offset, len)?;
            self.written.set(offset / PAGE_BYTES, (offset + len).div_ceil(PAGE_BYTES));
        }
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64, extents: &mut Vec<Extent>) {
        let end = offset + len.min(MAX_STATUS_PAGES * PAGE_BYTES);
        let mut at = offset;
        for _ in 0..MAX_EXTENTS {
            let (written, bytes) = self.run(at, end - at);
            extents.push(Extent { len: bytes, hole: !written, zero: !written });
            at += bytes;
            if at == end {
                break;
            }
        }
    }

    fn store(&self) -> Option<&dyn Store> {
        Some(self)
    }
}

impl Store for MemoryDisk {
    fn view(&self, offset: u64, len: usize) -> Option<VolatileSlice<'_>> {
        if !self.limits.contains(offset, len as u64) {
            return None;
        }
        self.store.slice(usize::try_from(offset).ok()?, len)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const OLD: u8 = 1;
    const NEW: u8 = 2;

    fn bytes(disk: &MemoryDisk, offset: u64, len: usize) -> Vec<u8> {
        let memory = Mapping::memory(c"test", len).unwrap();
        let into = memory.slice(0, len).unwrap();
        disk.read(offset, &into);
        let mut bytes = vec![0xff; len];
        into.copy_to(&mut bytes[..]);
        bytes
    }

    #[test]
    fn what_was_discarded_never_comes_back_whatever_is_written_meanwhile() {
        let disk = MemoryDisk::new(8 * PAGE_BYTES, false).unwrap();
        for round in 0..3000 {
            let offset = round % 8 * PAGE_BYTES;
            disk.write(offset, Source::Bytes(&[OLD; PAGE_BYTES as usize])).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| disk.discard(offset, PAGE_BYTES).unwrap());
                disk.write(offset + 64, Source::Bytes(&[NEW; 64])).unwrap();
            });
            // The two overlap, so either may have been the last; but all else on the page was discarded.
            disk.write(offset, Source::Bytes(&[NEW; 64])).unwrap();
            let found = bytes(&disk, offset, PAGE_BYTES as usize);
            assert!(found[..64].iter().all(|byte| *byte == NEW));
            assert!(found[64..].iter().all(|byte| *byte != OLD), "round {round}: old data came back");
        }
    }

    #[test]
    fn a_write_and_a_discard_at_once_leave_a_page_that_stays_as_it_is() {
        const PAGES: u64 = 32;
        let disk = MemoryDisk::new(PAGES * PAGE_BYTES, false).unwrap();
        let last = (PAGES - 1) * PAGE_BYTES;
        for round in 0..2000 {
            disk.discard(0, PAGES * PAGE_BYTES).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| disk.discard(last, PAGE_BYTES).unwrap());
                disk.write(0, Source::Bytes(&[OLD; (PAGES * PAGE_BYTES) as usize])).unwrap();
            });
            let before = bytes(&disk, last + 64, 4000);
            disk.write(last, Source::Bytes(&[NEW; 64])).unwrap();
            assert!(
                before == bytes(&disk, last + 64, 4000),
                "round {round}: a write changed bytes beside it"
            );
        }
    }

    #[test]
    fn zeroing_a_part_of_a_page_leaves_what_others_write_to_the_rest() {
        let disk = MemoryDisk::new(PAGE_BYTES, false).unwrap();
        for round in 0..3000 {
            disk.discard(0, PAGE_BYTES).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| disk.write_zeroes(0, 100, RequestFlags::default()).unwrap());
                disk.write(100, Source::Bytes(&[NEW; 100])).unwrap();
            });
            let found = bytes(&disk, 0, 200);
            assert!(found[..100].iter().all(|byte| *byte == 0), "round {round}");
            assert!(found[100..].iter().all(|byte| *byte == NEW), "round {round}");
        }
    }

    #[test]
    fn reading_allocates_nothing_and_discarding_gives_everything_back() {
        let disk = MemoryDisk::new(1 << 20, false).unwrap();
        let _ = bytes(&disk, 0, 1 << 20);
        assert_eq!(disk.file.allocated_bytes().unwrap(), 0);
        disk.write(0, Source::Bytes(&[NEW; 20_000])).unwrap();
        disk.write_zeroes(1 << 19, 8192, RequestFlags { no_unmap: true, ..RequestFlags::default() }).unwrap();
        assert_eq!(disk.file.allocated_bytes().unwrap(), 5 * PAGE_BYTES + 8192);
        disk.discard(0, 1 << 20).unwrap();
        assert_eq!(disk.file.allocated_bytes().unwrap(), 0);
    }

    #[test]
    fn the_last_page_may_end_inside_a_page_of_memory() {
        let disk = MemoryDisk::new(PAGE_BYTES + 10, false).unwrap();
        disk.write(PAGE_BYTES, Source::Bytes(&[NEW; 10])).unwrap();
        disk.discard(PAGE_BYTES, 10).unwrap();
        assert_eq!(InstantDisk::view(&disk, PAGE_BYTES, 10), View::Zero(10));
        assert!(Store::view(&disk, PAGE_BYTES, 11).is_none());
    }

    #[test]
    fn answers_about_a_scattered_disk_are_bounded() {
        let disk = MemoryDisk::new(1 << 22, false).unwrap();
        for page in 0..512 {
            disk.write(page * 2 * PAGE_BYTES, Source::Bytes(&[NEW; 1])).unwrap();
        }
        let mut extents = Vec::new();
        disk.block_status(0, 1 << 22, &mut extents);
        assert_eq!(extents.len(), MAX_EXTENTS);
        assert!(extents.iter().all(|extent| extent.len == PAGE_BYTES));
    }
}
