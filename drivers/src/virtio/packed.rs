//! [`PackedRing`]: the packed virtqueue (VIRTIO 1.2, section 2.8), driver side.
//!
//! Both sides go around one ring of descriptors. The driver writes chains where the device is to look next; the device
//! writes one descriptor for each chain it has used where the driver is to look next, in whatever order they end, and
//! both then skip as many descriptors as that chain took. How many that were is private memory, as is everything else
//! that decides where to look: of what lies in the ring only the marks, the id and the length of the next used
//! descriptor are read, and compared with it.
//!
//! A slot's number is its buffer id. With indirect descriptors a chain takes one descriptor, which points to the
//! slot's table; without them one for each of its buffers.

use std::sync::atomic::{Ordering, fence};

use super::memory::{DESCRIPTOR_BYTES, Descriptor, QueueMemory};
use super::ring::{Buffer, Ring, Used, is_wanted};
use super::spec::packed;
use crate::device::lane::Lie;

/// Both marks of a descriptor.
const MARKS: u16 = packed::DESC_AVAIL | packed::DESC_USED;

/// A place in the ring, with the wrap counter of whoever is there (section 2.8.1 "Driver and Device Ring Wrap
/// Counters").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    index: u16,
    wrap: bool,
}

impl Position {
    const START: Position = Position { index: 0, wrap: true };

    /// Goes on by at most `size` descriptors.
    fn advance(&mut self, by: u16, size: u16) {
        // Below 2^16: the index is below the size, and both are at most 2^15.
        self.index += by;
        if self.index >= size {
            self.index -= size;
            self.wrap = !self.wrap;
        }
    }

    /// Marks of a descriptor that is made available here.
    fn available(self) -> u16 {
        if self.wrap { packed::DESC_AVAIL } else { packed::DESC_USED }
    }

    /// Marks of a descriptor that is used here.
    fn used(self) -> u16 {
        if self.wrap { MARKS } else { 0 }
    }

    /// How an event suppression structure names it.
    fn event(self) -> u16 {
        self.index | if self.wrap { packed::EVENT_WRAP } else { 0 }
    }
}

/// What is known of a chain that was added.
#[derive(Clone, Copy, Debug)]
struct Lent {
    /// Descriptors that it takes in the ring.
    descriptors: u16,
    /// Bytes the device may write.
    writable: u32,
    /// The batch that it belongs to.
    batch: u64,
}

/// A packed ring. The private side of everything the device can write is here.
#[derive(Debug)]
pub(crate) struct PackedRing {
    memory: QueueMemory,
    event_idx: bool,
    /// Where the next chain begins.
    next_added: Position,
    /// Where the device puts the next used descriptor.
    next_used: Position,
    /// Index and flags of the first descriptor that was added since the last `publish`. It is the only one that is
    /// not in the ring yet: the device does not look behind it.
    held: Option<(u16, u16)>,
    /// Descriptors added since then.
    batch_len: u16,
    /// Number of the batch that is being added.
    batch: u64,
    /// Per slot: the chain, while it is with the device.
    with_device: Vec<Option<Lent>>,
}

impl PackedRing {
    /// A ring in fresh memory, all zeroes. `event_idx`: the feature was negotiated.
    pub(crate) fn new(memory: QueueMemory, event_idx: bool) -> PackedRing {
        let slots = usize::from(memory.layout.slots());
        let mut ring = PackedRing {
            memory,
            event_idx,
            next_added: Position::START,
            next_used: Position::START,
            held: None,
            batch_len: 0,
            batch: 0,
            with_device: vec![None; slots],
        };
        ring.disarm();
        ring
    }

    fn size(&self) -> u16 {
        self.memory.layout.size
    }

    /// Writes the next descriptor of the ring but for its flags; returns where they belong, and the flags.
    fn place(&mut self, slot: u16, address: u64, len: u32, flags: u16) -> (u16, u16) {
        let at = self.next_added;
        // The id counts in the last descriptor of a chain only, but some devices read it in the first.
        self.memory.store_packed_body(at.index, address, len, slot);
        self.next_added.advance(1, self.size());
        self.batch_len += 1;
        (at.index, flags | at.available())
    }

    /// Writes the chain into the slot's table and one descriptor for it into the ring; returns as `place` does.
    fn add_indirect(&mut self, slot: u16, chain: &[Buffer]) -> (u16, u16) {
        for (index, buffer) in (0..).zip(chain) {
            let descriptor = Descriptor::packed(buffer.address, buffer.len, write_flag(buffer));
            self.memory.store_table_descriptor(slot, index, &descriptor);
        }
        let len = (chain.len() * DESCRIPTOR_BYTES) as u32;
        self.place(slot, self.memory.table_address(slot), len, packed::DESC_INDIRECT)
    }

    /// Writes the chain into the ring, all but the flags of its first descriptor; returns as `place` does.
    fn add_direct(&mut self, slot: u16, chain: &[Buffer]) -> (u16, u16) {
        let last = chain.len() - 1;
        let mut head = None;
        for (index, buffer) in chain.iter().enumerate() {
            let next = if index == last { 0 } else { packed::DESC_NEXT };
            let placed = self.place(slot, buffer.address, buffer.len, write_flag(buffer) | next);
            if head.is_none() {
                head = Some(placed);
            } else {
                self.memory.store_packed_flags(placed.0, placed.1, Ordering::Relaxed);
            }
        }
        head.expect("chains are not empty")
    }

    /// The flags with which the device has used the next chain, if it has.
    fn used_flags(&self) -> Option<u16> {
        // Acquire: what the device wrote before the flags is seen after them.
        let flags = self.memory.load_packed_flags(self.next_used.index, Ordering::Acquire);
        (flags & MARKS == self.next_used.used()).then_some(flags)
    }

    /// Takes back the chain with this buffer id, if the device has it.
    fn take(&mut self, id: u16) -> Option<Lent> {
        let entry = self.with_device.get_mut(usize::from(id))?;
        // One that was not published cannot have been seen by an honest device.
        entry.take_if(|lent| lent.batch != self.batch)
    }

    /// Whether the last `count` descriptors reached the one that the device named.
    fn reached(&self, event: u16, count: u16) -> bool {
        let (index, wrap) = (event & !packed::EVENT_WRAP, event & packed::EVENT_WRAP != 0);
        // The other wrap counter means the lap before, which ends where this one begins.
        let event = if wrap == self.next_added.wrap { index } else { index.wrapping_sub(self.size()) };
        let new = self.next_added.index;
        is_wanted(event, new, new.wrapping_sub(count))
    }
}

fn write_flag(buffer: &Buffer) -> u16 {
    if buffer.writable { packed::DESC_WRITE } else { 0 }
}

impl Ring for PackedRing {
    fn slots(&self) -> u16 {
        self.memory.layout.slots()
    }

    fn add(&mut self, slot: u16, chain: &[Buffer]) {
        let layout = self.memory.layout;
        assert!(
            (1..=usize::from(layout.chain_max)).contains(&chain.len()),
            "chains are bounded by the layout"
        );
        let entry = &mut self.with_device[usize::from(slot)];
        assert!(entry.is_none(), "the slot is free");
        *entry = Some(Lent {
            descriptors: if layout.indirect { 1 } else { chain.len() as u16 },
            writable: chain.iter().filter(|buffer| buffer.writable).map(|buffer| buffer.len).sum(),
            batch: self.batch,
        });
        let head =
            if layout.indirect { self.add_indirect(slot, chain) } else { self.add_direct(slot, chain) };
        match self.held {
            None => self.held = Some(head),
            // Release: whoever sees these flags sees the chain.
            Some(_) => self.memory.store_packed_flags(head.0, head.1, Ordering::Release),
        }
    }

    fn publish(&mut self) -> bool {
        let Some((index, flags)) = self.held.take() else { return false };
        let count = std::mem::take(&mut self.batch_len);
        self.batch += 1;
        // Release: the device sees all chains of the batch before the flags that lead to them.
        self.memory.store_packed_flags(index, flags, Ordering::Release);
        // The device looks for chains after it has asked for a kick; we look whether it asked after we have shown
        // them. With a full fence on both sides at least one of the two sees the other.
        fence(Ordering::SeqCst);
        let (event, flags) = self.memory.load_device_suppression();
        match flags & packed::EVENT_MASK {
            packed::EVENT_DISABLE => false,
            packed::EVENT_DESC if self.event_idx => self.reached(event, count),
            // A kick too many does no harm.
            _ => true,
        }
    }

    fn next_used(&mut self) -> Result<Option<Used>, Lie> {
        let Some(flags) = self.used_flags() else { return Ok(None) };
        let (slot, len) = self.memory.load_packed_used(self.next_used.index);
        let Some(lent) = self.take(slot) else {
            return Err(Lie(format!("it ended request {slot}, which it does not have")));
        };
        self.next_used.advance(lent.descriptors, self.size());
        let most = lent.writable;
        // Without the flag the length is reserved, but QEMU never sets it and tells the length all the same
        // (section 2.8.4 "Element Address and Length").
        let written = if flags & packed::DESC_WRITE == 0 && len > most { 0 } else { len };
        if written > most {
            return Err(Lie(format!("it says that it wrote {written} bytes of a request that takes {most}")));
        }
        Ok(Some(Used { slot, written }))
    }

    fn arm(&mut self) -> bool {
        if self.event_idx {
            self.memory.store_driver_suppression(self.next_used.event(), packed::EVENT_DESC);
        } else {
            self.memory.store_driver_suppression(0, packed::EVENT_ENABLE);
        }
        // As for `publish`, with the roles exchanged.
        fence(Ordering::SeqCst);
        self.used_flags().is_some()
    }

    fn disarm(&mut self) {
        self.memory.store_driver_suppression(0, packed::EVENT_DISABLE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::memory::{Format, Layout};
    use super::*;
    use crate::sys::mmap::Mapping;

    /// A ring, and the memory that the device sees of it.
    fn ring(size: u16, chain_max: u16, indirect: bool, event_idx: bool) -> (PackedRing, Arc<Mapping>) {
        let layout = Layout { format: Format::Packed, size, chain_max, indirect };
        let mapping = Arc::new(Mapping::memory(c"test", layout.len_bytes()).unwrap());
        (PackedRing::new(QueueMemory::new(mapping.clone(), 0, 0, layout), event_idx), mapping)
    }

    fn bytes<const N: usize>(mapping: &Mapping, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        mapping.slice(at, N).unwrap().copy_to(&mut bytes[..]);
        bytes
    }

    /// Address, length, id and flags of a descriptor.
    fn descriptor(mapping: &Mapping, at: usize) -> (u64, u32, u16, u16) {
        let word = |at| u16::from_le_bytes(bytes(mapping, at));
        let len = u32::from_le_bytes(bytes(mapping, at + 8));
        (u64::from_le_bytes(bytes(mapping, at)), len, word(at + 12), word(at + 14))
    }

    /// The device uses a descriptor.
    fn put_used(mapping: &Mapping, index: usize, id: u16, len: u32, flags: u16) {
        let tail = [&len.to_le_bytes()[..], &id.to_le_bytes(), &flags.to_le_bytes()].concat();
        mapping.slice(16 * index + 8, 8).unwrap().copy_from(&tail[..]);
    }

    const OUT: Buffer = Buffer { address: 0x1000, len: 16, writable: false };
    const IN: Buffer = Buffer { address: 0x2000, len: 512, writable: true };

    #[test]
    fn the_first_flags_of_a_batch_are_written_when_it_is_published() {
        let (mut ring, mapping) = ring(8, 3, false, false);
        ring.add(1, &[OUT, IN]);
        ring.add(0, &[OUT]);
        assert_eq!(descriptor(&mapping, 0), (0x1000, 16, 1, 0), "not available yet");
        assert_eq!(descriptor(&mapping, 16), (0x2000, 512, 1, 0x0082));
        assert_eq!(descriptor(&mapping, 32), (0x1000, 16, 0, 0x0080));
        assert!(ring.publish() && !ring.publish(), "nothing is published twice");
        assert_eq!(descriptor(&mapping, 0), (0x1000, 16, 1, 0x0081));
    }

    #[test]
    fn marks_are_turned_around_with_each_lap() {
        let (mut ring, mapping) = ring(3, 2, false, false);
        for (first, flags) in [(0, [0x0081, 0x0082]), (2, [0x0081, 0x8002]), (1, [0x8001, 0x8002])] {
            ring.add(0, &[OUT, IN]);
            ring.publish();
            let second = (first + 1) % 3;
            assert_eq!(descriptor(&mapping, 16 * first).3, flags[0]);
            assert_eq!(descriptor(&mapping, 16 * second).3, flags[1]);
            assert_eq!(ring.next_used(), Ok(None), "it is available, not used");
            put_used(&mapping, first, 0, 7, if flags[0] & 0x80 != 0 { 0x8082 } else { 0x0002 });
            assert_eq!(ring.next_used(), Ok(Some(Used { slot: 0, written: 7 })));
            assert_eq!(ring.next_used(), Ok(None));
        }
    }

    #[test]
    fn a_table_holds_the_chain_and_the_ring_one_descriptor() {
        let (mut ring, mapping) = ring(4, 3, true, false);
        assert_eq!(ring.slots(), 4);
        ring.add(2, &[OUT, IN, IN]);
        ring.publish();
        let (table, len, id, flags) = descriptor(&mapping, 0);
        assert_eq!((len, id, flags), (48, 2, 0x0084));
        assert_eq!(descriptor(&mapping, table as usize), (0x1000, 16, 0, 0));
        assert_eq!(descriptor(&mapping, table as usize + 32), (0x2000, 512, 0, 2));
    }

    #[test]
    fn what_cannot_be_is_a_lie() {
        // Id, length, flags; the slots 0 and 1 are with the device, 2 is only added.
        let cases = [(3, 0, 0x8080), (2, 0, 0x8080), (0, 513, 0x8082), (0xffff, 1, 0x8082)];
        for (id, len, flags) in cases {
            let (mut ring, mapping) = ring(8, 2, false, true);
            ring.add(0, &[OUT, IN]);
            ring.add(1, &[OUT, IN]);
            ring.publish();
            ring.add(2, &[OUT, IN]);
            put_used(&mapping, 0, id, len, flags);
            assert!(ring.next_used().is_err(), "{id} {len} {flags:x}");
        }
        let (mut ring, mapping) = ring(8, 2, false, true);
        put_used(&mapping, 0, 0, 0, 0x8080);
        assert!(ring.next_used().is_err(), "it has nothing");
    }

    #[test]
    fn a_length_without_the_flag_counts_if_it_can_be() {
        let (mut ring, mapping) = ring(8, 2, false, true);
        for (index, (len, written)) in [(512, 512), (513, 0)].into_iter().enumerate() {
            ring.add(1, &[OUT, IN]);
            ring.publish();
            put_used(&mapping, 2 * index, 1, len, 0x8080);
            assert_eq!(ring.next_used(), Ok(Some(Used { slot: 1, written })));
        }
    }

    #[test]
    fn the_suppression_structures_say_when_to_notify() {
        let (mut ring, mapping) = ring(5, 1, false, true);
        let layout = Layout { format: Format::Packed, size: 5, chain_max: 1, indirect: false };
        let (_, driver, device) = QueueMemory::new(mapping.clone(), 0, 0, layout).areas();
        let said = || bytes(&mapping, driver as usize);
        assert_eq!(said(), [0, 0, 1, 0], "disabled");
        assert!(!ring.arm());
        assert_eq!(said(), [0, 0x80, 2, 0], "descriptor 0 of the first lap");
        // The device names descriptor 3, of the first lap and of the second; one descriptor is added at a time.
        let mut kicked = |event: [u8; 4]| -> Vec<bool> {
            mapping.slice(device as usize, 4).unwrap().copy_from(&event[..]);
            let mut one = || {
                ring.add(0, &[IN]);
                let kick = ring.publish();
                let (at, lap) = (ring.next_used.index, ring.next_used.used());
                put_used(&mapping, at.into(), 0, 0, lap);
                assert_eq!(ring.next_used(), Ok(Some(Used { slot: 0, written: 0 })));
                kick
            };
            (0..5).map(|_| one()).collect()
        };
        assert_eq!(kicked([3, 0x80, 2, 0]), [false, false, false, true, false]);
        assert_eq!(kicked([3, 0, 2, 0]), [false, false, false, true, false]);
        assert_eq!(kicked([3, 0, 2, 0]), [false; 5], "it was the lap before");
        assert_eq!(kicked([0, 0, 1, 0]), [false; 5]);
        assert_eq!(kicked([0, 0, 0, 0]), [true; 5]);
        assert_eq!(kicked([0, 0, 3, 0]), [true; 5], "what is reserved is no reason to be silent");
    }
}
