//! [`PairMemory`]: the memory of one pair of queues that the controller sees.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{AtomicAccess, Bytes, VolatileSlice};

use crate::nvme::command::{COMMAND_BYTES, RANGE_BYTES};
use crate::sys::mmap::Mapping;

/// Length of a completion (Base 2.0c, section 3.3.3.2).
const COMPLETION_BYTES: usize = 16;

/// Length of an entry of a page list.
const ENTRY_BYTES: usize = 8;

/// How the memory of a pair is divided. Every part begins at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Entries of each queue.
    pub(super) entries: u16,
    /// Entries of the page list that each slot has: a power of two, so that no list crosses a page.
    pub(super) list_entries: usize,
    /// Length of a page of the controller.
    pub(super) page_bytes: usize,
}

impl Layout {
    /// Requests that the pair holds. A submission queue that has one entry less than it could is never taken for an
    /// empty one.
    pub(super) fn slots(&self) -> u16 {
        self.entries - 1
    }

    fn in_pages(&self, len_bytes: usize) -> usize {
        len_bytes.next_multiple_of(self.page_bytes)
    }

    fn completions_at(&self) -> usize {
        self.in_pages(usize::from(self.entries) * COMMAND_BYTES)
    }

    fn lists_at(&self) -> usize {
        self.completions_at() + self.in_pages(usize::from(self.entries) * COMPLETION_BYTES)
    }

    fn ranges_at(&self) -> usize {
        let lists = usize::from(self.entries) * self.list_entries * ENTRY_BYTES;
        self.lists_at() + self.in_pages(lists)
    }

    /// Length of the memory.
    pub(super) fn len_bytes(&self) -> usize {
        self.ranges_at() + self.in_pages(usize::from(self.entries) * RANGE_BYTES)
    }
}

/// The memory of one pair.
#[derive(Clone, Debug)]
pub(super) struct PairMemory {
    mapping: Arc<Mapping>,
    /// Where it begins in the mapping.
    start: usize,
    /// What the controller calls its beginning.
    address: u64,
    pub(super) layout: Layout,
}

impl PairMemory {
    /// The part of `mapping` from `start` on, where the controller sees the mapping at `address`.
    ///
    /// # Panics
    /// When it is not in the mapping: the caller computed its length.
    pub(super) fn new(mapping: Arc<Mapping>, start: usize, address: u64, layout: Layout) -> PairMemory {
        assert!(mapping.slice(start, layout.len_bytes()).is_some(), "the mapping has room for the pair");
        PairMemory { mapping, start, address: address + start as u64, layout }
    }

    /// The controller's addresses of submission and completion queue.
    pub(super) fn queues(&self) -> (u64, u64) {
        (self.address, self.address + self.layout.completions_at() as u64)
    }

    fn all(&self) -> VolatileSlice<'_> {
        self.mapping.slice(self.start, self.layout.len_bytes()).expect("checked when it was made")
    }

    fn load<T: AtomicAccess>(&self, at: usize, order: Ordering) -> T {
        self.all().load(at, order).expect("offsets are computed from the layout")
    }

    fn store<T: AtomicAccess>(&self, at: usize, value: T) {
        self.all().store(value, at, Ordering::Relaxed).expect("offsets are computed from the layout");
    }

    /// Writes a command to an entry of the submission queue.
    pub(super) fn store_command(&self, entry: u16, dwords: &[u32; COMMAND_BYTES / 4]) {
        let at = usize::from(entry % self.layout.entries) * COMMAND_BYTES;
        for (index, pair) in dwords.as_chunks::<2>().0.iter().enumerate() {
            let word = u64::from(pair[0]) | u64::from(pair[1]) << 32;
            self.store(at + index * 8, word.to_le());
        }
    }

    /// The last dword of a completion: number of the command, phase, status. What lies before it is to be read after.
    pub(super) fn load_completion_end(&self, entry: u16) -> u32 {
        u32::from_le(self.load(self.completion_at(entry) + 12, Ordering::Acquire))
    }

    /// The first dword of a completion: what the command answers.
    pub(super) fn load_completion_answer(&self, entry: u16) -> u32 {
        u32::from_le(self.load(self.completion_at(entry), Ordering::Relaxed))
    }

    fn completion_at(&self, entry: u16) -> usize {
        self.layout.completions_at() + usize::from(entry % self.layout.entries) * COMPLETION_BYTES
    }

    /// Writes an entry of a slot's page list.
    pub(super) fn store_list_entry(&self, slot: u16, index: usize, address: u64) {
        assert!(index < self.layout.list_entries, "the list has room for the longest transfer");
        self.store(self.list_at(slot) + index * ENTRY_BYTES, address.to_le());
    }

    /// The controller's address of a slot's page list.
    pub(super) fn list_address(&self, slot: u16) -> u64 {
        self.address + self.list_at(slot) as u64
    }

    fn list_at(&self, slot: u16) -> usize {
        let slot = usize::from(slot % self.layout.entries);
        self.layout.lists_at() + slot * self.layout.list_entries * ENTRY_BYTES
    }

    /// Writes a slot's range for a discard, and returns the controller's address of it.
    pub(super) fn store_range(&self, slot: u16, range: [u32; RANGE_BYTES / 4]) -> u64 {
        let at = self.layout.ranges_at() + usize::from(slot % self.layout.entries) * RANGE_BYTES;
        for (index, dword) in range.into_iter().enumerate() {
            self.store(at + index * 4, dword.to_le());
        }
        self.address + at as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_at_pages_and_do_not_overlap() {
        for (entries, list_entries, page_bytes) in
            [(2, 1, 4096), (256, 64, 4096), (1024, 64, 65536), (3, 16, 4096)]
        {
            let layout = Layout { entries, list_entries, page_bytes };
            let count = usize::from(entries);
            let parts = [
                (0, count * 64),
                (layout.completions_at(), count * 16),
                (layout.lists_at(), count * list_entries * 8),
                (layout.ranges_at(), count * 16),
            ];
            let mut free = 0;
            for (at, len) in parts {
                assert!(at >= free && at.is_multiple_of(page_bytes), "{layout:?}");
                free = at + len;
            }
            assert!(free <= layout.len_bytes() && layout.slots() + 1 == entries);
        }
    }
}
