//! [`SplitRing`]: the split virtqueue (VIRTIO 1.2, section 2.7), driver side.
//!
//! Every slot has descriptors of its own at fixed places, so no list of free ones is needed: with indirect descriptors
//! slot `n` is descriptor `n`, which points to the slot's table; without them it is `chain_max` descriptors in a row.

use std::sync::atomic::{Ordering, fence};

use super::memory::{DESCRIPTOR_BYTES, Descriptor, QueueMemory};
use super::ring::{Buffer, Ring, Used, is_wanted};
use super::spec::split;
use crate::device::lane::Lie;

/// Words of the driver and device areas before their rings.
const FLAGS: usize = 0;
const INDEX: usize = 1;
const RING: usize = 2;

/// A split ring. The private side of everything the device can write is here.
#[derive(Debug)]
pub(crate) struct SplitRing {
    memory: QueueMemory,
    event_idx: bool,
    /// Chains added so far; what the device sees is `published`.
    added: u16,
    published: u16,
    /// Used chains taken so far.
    taken: u16,
    /// Per slot: bytes the device may write, while the chain is with it.
    with_device: Vec<Option<u32>>,
    /// How many are with it.
    count: u16,
}

impl SplitRing {
    /// A ring in fresh memory, all zeroes. `event_idx`: the feature was negotiated.
    pub(crate) fn new(memory: QueueMemory, event_idx: bool) -> SplitRing {
        let slots = usize::from(memory.layout.slots());
        let mut ring = SplitRing {
            memory,
            event_idx,
            added: 0,
            published: 0,
            taken: 0,
            with_device: vec![None; slots],
            count: 0,
        };
        ring.disarm();
        ring
    }

    fn mask(&self) -> u16 {
        self.memory.layout.size - 1
    }

    /// Number of the descriptor that a slot's chain begins with.
    fn head(&self, slot: u16) -> u16 {
        if self.memory.layout.indirect { slot } else { slot * self.memory.layout.chain_max }
    }

    /// The slot whose chain begins with this descriptor and is with the device.
    fn slot_of(&self, id: u32) -> Option<u16> {
        let step = if self.memory.layout.indirect { 1 } else { u32::from(self.memory.layout.chain_max) };
        if !id.is_multiple_of(step) {
            return None;
        }
        let slot = u16::try_from(id / step).ok()?;
        self.with_device.get(usize::from(slot))?.is_some().then_some(slot)
    }

    /// The device's index: how many chains it says to have used.
    fn used_index(&self) -> u16 {
        self.memory.load_device_word(INDEX, Ordering::Acquire)
    }

    fn store_event(&self, event: u16) {
        let at = RING + usize::from(self.memory.layout.size);
        self.memory.store_driver_word(at, event, Ordering::Relaxed);
    }
}

impl Ring for SplitRing {
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
        *entry = Some(chain.iter().filter(|buffer| buffer.writable).map(|buffer| buffer.len).sum());
        self.count += 1;
        let head = self.head(slot);
        let first = if layout.indirect { 0 } else { head };
        for (index, buffer) in (0_u16..).zip(chain) {
            let is_last = usize::from(index) + 1 == chain.len();
            let flags = if buffer.writable { split::DESC_WRITE } else { 0 }
                | if is_last { 0 } else { split::DESC_NEXT };
            let next = if is_last { 0 } else { first + index + 1 };
            let descriptor = Descriptor::split(buffer.address, buffer.len, flags, next);
            if layout.indirect {
                self.memory.store_table_descriptor(slot, index, &descriptor);
            } else {
                self.memory.store_ring_descriptor(head + index, &descriptor);
            }
        }
        if layout.indirect {
            let address = self.memory.table_address(slot);
            let len = (chain.len() * DESCRIPTOR_BYTES) as u32;
            let descriptor = Descriptor::split(address, len, split::DESC_INDIRECT, 0);
            self.memory.store_ring_descriptor(head, &descriptor);
        }
        let at = RING + usize::from(self.added & self.mask());
        self.memory.store_driver_word(at, head, Ordering::Relaxed);
        self.added = self.added.wrapping_add(1);
    }

    fn publish(&mut self) -> bool {
        let old = std::mem::replace(&mut self.published, self.added);
        if old == self.added {
            return false;
        }
        // Release: the device sees the chains before the index that covers them.
        self.memory.store_driver_word(INDEX, self.added, Ordering::Release);
        // The device looks for chains after it has asked for a kick; we look whether it asked after we have shown
        // them. With a full fence on both sides at least one of the two sees the other.
        fence(Ordering::SeqCst);
        match self.event_idx {
            true => is_wanted(self.memory.load_device_event(), self.added, old),
            false => self.memory.load_device_word(FLAGS, Ordering::Relaxed) & split::USED_NO_NOTIFY == 0,
        }
    }

    fn next_used(&mut self) -> Result<Option<Used>, Lie> {
        // Acquire: what the device wrote before it moved the index is seen after it.
        let pending = self.used_index().wrapping_sub(self.taken);
        if pending == 0 {
            return Ok(None);
        }
        if pending > self.count {
            return Err(Lie(format!("it says that {pending} requests have ended, and has {}", self.count)));
        }
        let (id, written) = self.memory.load_used(self.taken & self.mask());
        let Some(slot) = self.slot_of(id) else {
            return Err(Lie(format!("it ended request {id}, which it does not have")));
        };
        let most = self.with_device[usize::from(slot)].take().unwrap_or(0);
        self.count -= 1;
        self.taken = self.taken.wrapping_add(1);
        if written > most {
            return Err(Lie(format!("it says that it wrote {written} bytes of a request that takes {most}")));
        }
        Ok(Some(Used { slot, written }))
    }

    fn arm(&mut self) -> bool {
        if self.event_idx {
            self.store_event(self.taken);
        } else {
            self.memory.store_driver_word(FLAGS, 0, Ordering::Relaxed);
        }
        // As for `publish`, with the roles exchanged.
        fence(Ordering::SeqCst);
        self.used_index() != self.taken
    }

    fn disarm(&mut self) {
        if self.event_idx {
            // An index that is passed only after all others.
            self.store_event(self.taken.wrapping_sub(1));
        } else {
            self.memory.store_driver_word(FLAGS, split::AVAIL_NO_INTERRUPT, Ordering::Relaxed);
        }
    }
}
