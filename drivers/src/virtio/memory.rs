//! [`QueueMemory`]: what the device sees of one queue besides payloads: rings, tables, headers and status bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{AtomicAccess, Bytes, VolatileSlice};

use super::spec::request;
use crate::sys::mmap::Mapping;

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR_BYTES: usize = 16;
/// Bytes of an event suppression structure of a packed ring.
const SUPPRESSION_BYTES: usize = 4;

/// Where things are in the memory of a slot.
const HEADER_AT: usize = 0;
const RANGE_AT: usize = HEADER_AT + request::HEADER_BYTES as usize;
const STATUS_AT: usize = RANGE_AT + request::RANGE_BYTES as usize;
const TABLE_AT: usize = STATUS_AT + 16;

/// Alignment of the areas: more than any needs, so that no two share a cache line.
const AREA_ALIGNMENT: usize = 64;

/// What kind of ring a queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Descriptor table, available ring, used ring (VIRTIO 1.2, section 2.7 "Split Virtqueues").
    Split,
    /// One ring of descriptors, two event suppression structures (section 2.8 "Packed Virtqueues").
    Packed,
}

/// Sizes of a queue, from which all offsets follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    /// Entries of the ring, at most 32768; a power of two if it is split.
    pub(crate) size: u16,
    /// Most buffers of a chain.
    pub(crate) chain_max: u16,
    /// Whether chains lie in tables of their own.
    pub(crate) indirect: bool,
}

impl Layout {
    /// Requests that can be with the device at a time, whatever the lengths of their chains.
    pub(crate) fn slots(&self) -> u16 {
        if self.indirect { self.size } else { self.size / self.chain_max }
    }

    fn driver_area_at(&self) -> usize {
        (DESCRIPTOR_BYTES * usize::from(self.size)).next_multiple_of(AREA_ALIGNMENT)
    }

    fn device_area_at(&self) -> usize {
        let len = match self.format {
            // Flags, index, a word for each entry, and the event word.
            Format::Split => 6 + 2 * usize::from(self.size),
            Format::Packed => SUPPRESSION_BYTES,
        };
        (self.driver_area_at() + len).next_multiple_of(AREA_ALIGNMENT)
    }

    fn slots_at(&self) -> usize {
        let len = match self.format {
            Format::Split => 6 + 8 * usize::from(self.size),
            Format::Packed => SUPPRESSION_BYTES,
        };
        (self.device_area_at() + len).next_multiple_of(AREA_ALIGNMENT)
    }

    fn slot_bytes(&self) -> usize {
        TABLE_AT + DESCRIPTOR_BYTES * if self.indirect { usize::from(self.chain_max) } else { 0 }
    }

    /// Bytes of a queue, in whole pages.
    pub(crate) fn len_bytes(&self) -> usize {
        (self.slots_at() + usize::from(self.slots()) * self.slot_bytes()).next_multiple_of(4096)
    }
}

/// The memory of one queue. Both sides write to it, so all of it is read and written by atomic accesses, and what is
/// read is believed only after it was compared with private memory.
#[derive(Clone, Debug)]
pub(crate) struct QueueMemory {
    mapping: Arc<Mapping>,
    /// Where it begins in the mapping.
    start: usize,
    /// What the device calls that place.
    address: u64,
    pub(super) layout: Layout,
}

impl QueueMemory {
    /// The queue that begins `start` bytes into `mapping`, a multiple of 4096; the device calls the beginning of the
    /// mapping `address`.
    pub(crate) fn new(mapping: Arc<Mapping>, start: usize, address: u64, layout: Layout) -> QueueMemory {
        assert!(mapping.slice(start, layout.len_bytes()).is_some(), "the queue lies inside its memory");
        QueueMemory { mapping, start, address: address + start as u64, layout }
    }

    /// Entries of the ring.
    pub(crate) fn size(&self) -> u16 {
        self.layout.size
    }

    /// The device's addresses of descriptor table, driver area and device area.
    pub(crate) fn areas(&self) -> (u64, u64, u64) {
        let at = |offset: usize| self.address + offset as u64;
        (at(0), at(self.layout.driver_area_at()), at(self.layout.device_area_at()))
    }

    fn all(&self) -> VolatileSlice<'_> {
        self.mapping.slice(self.start, self.layout.len_bytes()).expect("checked when it was made")
    }

    fn load<T: AtomicAccess>(&self, at: usize, order: Ordering) -> T {
        self.all().load(at, order).expect("offsets are computed from the layout")
    }

    fn store<T: AtomicAccess>(&self, at: usize, value: T, order: Ordering) {
        self.all().store(value, at, order).expect("offsets are computed from the layout");
    }

    /// A word of the driver area: flags at 0, index at 1, then the ring, then the event word.
    pub(super) fn store_driver_word(&self, index: usize, value: u16, order: Ordering) {
        self.store(self.layout.driver_area_at() + 2 * index, value.to_le(), order);
    }

    /// Flags (0) or index (1) of the device area.
    pub(super) fn load_device_word(&self, index: usize, order: Ordering) -> u16 {
        u16::from_le(self.load(self.layout.device_area_at() + 2 * index, order))
    }

    /// The event word of the device area.
    pub(super) fn load_device_event(&self) -> u16 {
        let at = self.layout.device_area_at() + 4 + 8 * usize::from(self.layout.size);
        u16::from_le(self.load(at, Ordering::Relaxed))
    }

    /// An element of the device area's ring: id and length.
    pub(super) fn load_used(&self, index: u16) -> (u32, u32) {
        let at = self.layout.device_area_at() + 4 + 8 * usize::from(index);
        let word = |at| u32::from_le(self.load(at, Ordering::Relaxed));
        (word(at), word(at + 4))
    }

    /// Writes the descriptor at `at`.
    fn store_descriptor(&self, at: usize, descriptor: &Descriptor) {
        self.store(at, descriptor.address.to_le(), Ordering::Relaxed);
        self.store(at + 8, descriptor.len.to_le(), Ordering::Relaxed);
        self.store(at + 12, descriptor.words[0].to_le(), Ordering::Relaxed);
        self.store(at + 14, descriptor.words[1].to_le(), Ordering::Relaxed);
    }

    /// Writes a descriptor of the ring.
    pub(super) fn store_ring_descriptor(&self, index: u16, descriptor: &Descriptor) {
        self.store_descriptor(DESCRIPTOR_BYTES * usize::from(index), descriptor);
    }

    /// Writes a descriptor of a slot's own table.
    pub(super) fn store_table_descriptor(&self, slot: u16, index: u16, descriptor: &Descriptor) {
        assert!(index < self.layout.chain_max, "the table has room for the longest chain");
        let at = self.slot_at(slot) + TABLE_AT + DESCRIPTOR_BYTES * usize::from(index);
        self.store_descriptor(at, descriptor);
    }

    fn slot_at(&self, slot: u16) -> usize {
        assert!(slot < self.layout.slots(), "slots are counted from the layout");
        self.layout.slots_at() + usize::from(slot) * self.layout.slot_bytes()
    }

    fn slot_address(&self, slot: u16, at: usize) -> u64 {
        self.address + (self.slot_at(slot) + at) as u64
    }

    /// The device's address of a slot's table.
    pub(super) fn table_address(&self, slot: u16) -> u64 {
        self.slot_address(slot, TABLE_AT)
    }

    /// The device's address of a slot's header.
    pub(super) fn header_address(&self, slot: u16) -> u64 {
        self.slot_address(slot, HEADER_AT)
    }

    /// The device's address of a slot's range.
    pub(super) fn range_address(&self, slot: u16) -> u64 {
        self.slot_address(slot, RANGE_AT)
    }

    /// The device's address of a slot's status byte.
    pub(super) fn status_address(&self, slot: u16) -> u64 {
        self.slot_address(slot, STATUS_AT)
    }

    /// Writes the header of a request (VIRTIO 1.2, section 5.2.6 "Device Operation").
    pub(super) fn store_header(&self, slot: u16, kind: u32, sector: u64) {
        let at = self.slot_at(slot) + HEADER_AT;
        self.store(at, kind.to_le(), Ordering::Relaxed);
        self.store(at + 4, 0_u32, Ordering::Relaxed);
        self.store(at + 8, sector.to_le(), Ordering::Relaxed);
    }

    /// Writes the range of a discard or write zeroes request.
    pub(super) fn store_range(&self, slot: u16, sector: u64, sectors: u32, flags: u32) {
        let at = self.slot_at(slot) + RANGE_AT;
        self.store(at, sector.to_le(), Ordering::Relaxed);
        self.store(at + 8, sectors.to_le(), Ordering::Relaxed);
        self.store(at + 12, flags.to_le(), Ordering::Relaxed);
    }

    /// Writes a slot's status byte.
    pub(super) fn store_status(&self, slot: u16, status: u8) {
        self.store(self.slot_at(slot) + STATUS_AT, status, Ordering::Relaxed);
    }

    /// A slot's status byte.
    pub(super) fn load_status(&self, slot: u16) -> u8 {
        self.load(self.slot_at(slot) + STATUS_AT, Ordering::Relaxed)
    }
}

/// What the packed ring has of its own.
impl QueueMemory {
    /// Writes all of a descriptor of the ring but its flags.
    pub(super) fn store_packed_body(&self, index: u16, address: u64, len: u32, id: u16) {
        let at = DESCRIPTOR_BYTES * usize::from(index);
        self.store(at, address.to_le(), Ordering::Relaxed);
        self.store(at + 8, len.to_le(), Ordering::Relaxed);
        self.store(at + 12, id.to_le(), Ordering::Relaxed);
    }

    /// Writes the flags of a descriptor of the ring.
    pub(super) fn store_packed_flags(&self, index: u16, flags: u16, order: Ordering) {
        self.store(DESCRIPTOR_BYTES * usize::from(index) + 14, flags.to_le(), order);
    }

    /// Flags of a descriptor of the ring.
    pub(super) fn load_packed_flags(&self, index: u16, order: Ordering) -> u16 {
        u16::from_le(self.load(DESCRIPTOR_BYTES * usize::from(index) + 14, order))
    }

    /// Buffer id and length of a descriptor of the ring.
    pub(super) fn load_packed_used(&self, index: u16) -> (u16, u32) {
        let at = DESCRIPTOR_BYTES * usize::from(index);
        let len = u32::from_le(self.load(at + 8, Ordering::Relaxed));
        (u16::from_le(self.load(at + 12, Ordering::Relaxed)), len)
    }

    /// Writes the driver's event suppression structure at once: where, and flags.
    pub(super) fn store_driver_suppression(&self, place: u16, flags: u16) {
        let value = u32::from(flags) << 16 | u32::from(place);
        self.store(self.layout.driver_area_at(), value.to_le(), Ordering::Relaxed);
    }

    /// The device's event suppression structure: where, and flags.
    pub(super) fn load_device_suppression(&self) -> (u16, u16) {
        let value = u32::from_le(self.load(self.layout.device_area_at(), Ordering::Relaxed));
        (value as u16, (value >> 16) as u16)
    }
}

/// A descriptor as it lies in a table. The formats differ in its last two words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    address: u64,
    len: u32,
    words: [u16; 2],
}

impl Descriptor {
    /// One of a split ring (VIRTIO 1.2, section 2.7.5 "The Virtqueue Descriptor Table").
    pub(super) fn split(address: u64, len: u32, flags: u16, next: u16) -> Descriptor {
        Descriptor { address, len, words: [flags, next] }
    }

    /// One of an indirect table of a packed ring, where the buffer id is reserved (section 2.8.7 "Indirect Flag:
    /// Scatter-Gather Support").
    pub(super) fn packed(address: u64, len: u32, flags: u16) -> Descriptor {
        Descriptor { address, len, words: [0, flags] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(layout: Layout) {
        let entries = usize::from(layout.size);
        let (driver_len, device_len) = match layout.format {
            Format::Split => (6 + 2 * entries, 6 + 8 * entries),
            Format::Packed => (4, 4),
        };
        assert!(layout.driver_area_at() >= 16 * entries && layout.driver_area_at().is_multiple_of(4));
        assert!(layout.device_area_at() >= layout.driver_area_at() + driver_len);
        assert!(layout.device_area_at().is_multiple_of(4));
        assert!(layout.slots_at() >= layout.device_area_at() + device_len);
        assert!(layout.slot_bytes().is_multiple_of(16), "tables are aligned as descriptors are");
        let slots = usize::from(layout.slots());
        assert!(slots > 0 && layout.slots_at() + slots * layout.slot_bytes() <= layout.len_bytes());
    }

    #[test]
    fn areas_are_aligned_and_do_not_overlap() {
        for indirect in [false, true] {
            for size in [4, 8, 256, 1024, 32768] {
                check(Layout { format: Format::Split, size, chain_max: 4, indirect });
            }
            for size in [4, 5, 7, 100, 256, 1023, 32768] {
                check(Layout { format: Format::Packed, size, chain_max: 4, indirect });
            }
        }
    }
}
