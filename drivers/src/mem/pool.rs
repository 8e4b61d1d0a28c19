//! [`Pool`]: a worker's share of a region, lent out in four sizes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::lease::Lease;
use super::region::Region;

/// The largest lease, and the unit in which memory changes between the sizes.
pub const LARGEST_LEASE_BYTES: usize = BLOCK_BYTES;

/// A block is one lease of the largest size or is cut into equal smaller ones.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// The sizes of leases. 64 of the smallest fill a block, so that one word tells which of them are free.
const CLASS_BYTES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, BLOCK_BYTES];

/// A worker's share of a region. Cloning gives another handle to the same share; it never leaves its thread.
///
/// Lending and returning are a few instructions each. What was returned last is lent first, because it is still in
/// the processor's cache, and small leases lie densely, so that they do not fight for the same cache sets.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Rc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) region: Arc<Region>,
    /// Where this share begins in the region, in bytes.
    start: usize,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// Whole free blocks; the last one is lent first.
    free: Vec<u32>,
    /// Per class: blocks cut to it that have room.
    partial: [Vec<u32>; CLASS_BYTES.len()],
    /// Per block: one bit per free lease in it.
    masks: Vec<u64>,
    /// Bytes on loan.
    lent_bytes: usize,
}

impl Pool {
    /// The pool over worker `share`'s part of `region`. Make one per share: a second one would lend the same memory.
    #[must_use]
    pub fn new(region: Arc<Region>, share: usize) -> Pool {
        let (start, len) = region.share(share);
        let blocks = u32::try_from(len / BLOCK_BYTES).unwrap_or(u32::MAX);
        let state = State {
            free: (0..blocks).rev().collect(),
            partial: Default::default(),
            masks: vec![0; blocks as usize],
            lent_bytes: 0,
        };
        Pool { shared: Rc::new(Shared { region, start, state: RefCell::new(state) }) }
    }

    /// Lends at least `len` bytes (at most [`LARGEST_LEASE_BYTES`]), page aligned; `None` when nothing is free.
    #[must_use]
    pub fn lease(&self, len: usize) -> Option<Lease> {
        let class = CLASS_BYTES.iter().position(|&bytes| bytes >= len)?;
        let (block, index) = self.shared.state.borrow_mut().take(class)?;
        let offset = self.shared.start + block as usize * BLOCK_BYTES + index as usize * CLASS_BYTES[class];
        Some(Lease::new(
            self.shared.clone(),
            offset,
            CLASS_BYTES[class],
            Slot { class: class as u8, block, index },
        ))
    }

    /// Bytes on loan at the moment.
    #[must_use]
    pub fn lent_bytes(&self) -> usize {
        self.shared.state.borrow().lent_bytes
    }

    /// All bytes of the pool.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.shared.state.borrow().masks.len() * BLOCK_BYTES
    }
}

/// Where a lease came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    class: u8,
    block: u32,
    index: u32,
}

impl Shared {
    /// Takes a lease back. Called by its `Drop` only, so exactly once.
    pub(super) fn give_back(&self, slot: Slot) {
        self.state.borrow_mut().put(slot);
    }
}

impl State {
    fn take(&mut self, class: usize) -> Option<(u32, u32)> {
        let block = match self.partial[class].last() {
            Some(&block) => block,
            None => {
                let block = self.free.pop()?;
                self.masks[block as usize] = full_mask(class);
                self.partial[class].push(block);
                block
            }
        };
        let mask = &mut self.masks[block as usize];
        let index = mask.trailing_zeros();
        *mask &= *mask - 1;
        if *mask == 0 {
            self.partial[class].pop();
        }
        self.lent_bytes += CLASS_BYTES[class];
        Some((block, index))
    }

    fn put(&mut self, slot: Slot) {
        let class = usize::from(slot.class);
        let mask = &mut self.masks[slot.block as usize];
        let was_full = *mask == 0;
        *mask |= 1 << slot.index;
        self.lent_bytes -= CLASS_BYTES[class];
        let all_free = *mask == full_mask(class);
        if was_full && !all_free {
            self.partial[class].push(slot.block);
        } else if all_free && (was_full || self.partial[class].len() > 1) {
            if !was_full {
                self.partial[class].retain(|&block| block != slot.block);
            }
            self.free.push(slot.block);
        }
    }
}

const fn full_mask(class: usize) -> u64 {
    let count = BLOCK_BYTES / CLASS_BYTES[class];
    if count == 64 { u64::MAX } else { (1 << count) - 1 }
}
