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
    /// Leases that came back so far.
    returns: u64,
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
            returns: 0,
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

    /// Lends at least `len` bytes as [`Pool::lease`] does, or else the longest lease there is, if that has at least
    /// `least` bytes.
    #[must_use]
    pub fn lease_up_to(&self, len: usize, least: usize) -> Option<Lease> {
        self.lease(len).or_else(|| {
            let mut smaller = CLASS_BYTES.into_iter().rev().filter(|&bytes| bytes < len && bytes >= least);
            smaller.find_map(|bytes| self.lease(bytes))
        })
    }

    /// Bytes on loan at the moment.
    #[must_use]
    pub fn lent_bytes(&self) -> usize {
        self.shared.state.borrow().lent_bytes
    }

    /// Leases that came back so far: who waits for one need not ask again while this is the same.
    #[must_use]
    pub fn returns(&self) -> u64 {
        self.shared.state.borrow().returns
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
                let block = self.free.pop().or_else(|| self.steal(class))?;
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

    /// Takes a block away from another class that has cut it and lent nothing of it. Only reached when memory is
    /// short.
    fn steal(&mut self, for_class: usize) -> Option<u32> {
        for class in (0..CLASS_BYTES.len()).filter(|&class| class != for_class) {
            let is_idle = |block: &u32| self.masks[*block as usize] == full_mask(class);
            if let Some(at) = self.partial[class].iter().position(is_idle) {
                return Some(self.partial[class].remove(at));
            }
        }
        None
    }

    fn put(&mut self, slot: Slot) {
        let class = usize::from(slot.class);
        let mask = &mut self.masks[slot.block as usize];
        let was_full = *mask == 0;
        *mask |= 1 << slot.index;
        self.lent_bytes -= CLASS_BYTES[class];
        self.returns += 1;
        let all_free = *mask == full_mask(class);
        // A class keeps its last block although nothing of it is lent, so that one lease that comes and goes does not
        // cut a block each time.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(blocks: usize) -> Pool {
        Pool::new(Arc::new(Region::new(blocks * BLOCK_BYTES, 1).unwrap()), 0)
    }

    #[test]
    fn a_lease_is_at_least_as_long_as_asked_and_page_aligned() {
        let pool = pool(8);
        for len in [0, 1, 4096, 4097, 16 << 10, (64 << 10) + 1, BLOCK_BYTES] {
            let lease = pool.lease(len).unwrap();
            assert!(lease.len() >= len && lease.region_offset().is_multiple_of(4096), "{len}");
        }
        assert!(pool.lease(BLOCK_BYTES + 1).is_none());
        assert_eq!(pool.lent_bytes(), 0);
    }

    #[test]
    fn an_idle_block_of_one_size_serves_another() {
        let pool = pool(2);
        let small = pool.lease(4096).unwrap();
        let large = pool.lease(BLOCK_BYTES).unwrap();
        drop(small);
        let second = pool.lease(BLOCK_BYTES);
        assert!(second.is_some(), "the block of the small lease is idle");
        assert!(pool.lease(1).is_none());
        drop((large, second));
        assert_eq!((0..).map_while(|_| pool.lease(4096)).collect::<Vec<_>>().len(), 128);
    }

    #[test]
    fn a_shorter_lease_serves_where_there_is_no_longer_one() {
        let pool = pool(2);
        let small: Vec<_> = (0..65).map(|_| pool.lease(4096).unwrap()).collect();
        assert!(pool.lease(BLOCK_BYTES).is_none(), "both blocks are cut");
        assert_eq!(pool.lease_up_to(BLOCK_BYTES, 4096).map(|lease| lease.len()), Some(4096));
        assert!(pool.lease_up_to(BLOCK_BYTES, 8192).is_none());
        drop(small);
        assert_eq!(pool.lease_up_to(BLOCK_BYTES, 4096).map(|lease| lease.len()), Some(BLOCK_BYTES));
    }

    #[test]
    fn shares_do_not_overlap() {
        let region = Arc::new(Region::new(0, 3).unwrap());
        let mut ranges: Vec<_> = (0..3).map(|share| region.share(share)).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        assert!(
            ranges.iter().all(|(offset, len)| offset + len <= region.len_bytes() && *len >= 2 * BLOCK_BYTES)
        );
        let leases: Vec<_> = (0..3).map(|share| Pool::new(region.clone(), share).lease(1).unwrap()).collect();
        assert!(leases.iter().zip(&ranges).all(|(lease, range)| lease.region_offset() >= range.0));
    }

    #[test]
    fn a_lease_outlives_its_pool() {
        let pool = pool(2);
        let lease = pool.lease(4096).unwrap();
        drop(pool);
        lease.slice(0, 4096).copy_from(&[1u8; 4096]);
    }

    #[test]
    fn what_is_skipped_comes_back_with_the_rest() {
        let pool = pool(2);
        let mut lease = pool.lease(8192).unwrap();
        let (offset, len) = (lease.region_offset(), lease.len());
        lease.skip(100);
        assert_eq!((lease.region_offset(), lease.len()), (offset + 100, len - 100));
        assert_eq!(lease.slice(len - 101, 50).len(), 1, "a slice ends with the lease");
        drop(lease);
        assert_eq!(pool.lent_bytes(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 200 }, ..ProptestConfig::default() })]

        /// A step is a length to lease, or, above the longest, the place of a lease to give back.
        #[test]
        fn leases_never_overlap_and_all_memory_comes_back(
            steps in proptest::collection::vec(0usize..2 * BLOCK_BYTES, 1..300)
        ) {
            let pool = pool(3);
            let mut leases: Vec<Lease> = Vec::new();
            for step in steps {
                if step > BLOCK_BYTES {
                    if !leases.is_empty() {
                        let at = step % leases.len();
                        leases.swap_remove(at);
                    }
                } else if let Some(lease) = pool.lease(step) {
                    let (start, end) = (lease.region_offset(), lease.region_offset() + lease.len());
                    prop_assert!(lease.len() >= step && end <= pool.len_bytes());
                    for other in &leases {
                        let (from, to) = (other.region_offset(), other.region_offset() + other.len());
                        prop_assert!(end <= from || to <= start, "{start}..{end} and {from}..{to}");
                    }
                    leases.push(lease);
                }
                prop_assert_eq!(pool.lent_bytes(), leases.iter().map(Lease::len).sum::<usize>());
            }
            leases.clear();
            prop_assert_eq!(pool.lent_bytes(), 0);
            let whole: Vec<_> = (0..).map_while(|_| pool.lease(BLOCK_BYTES)).collect();
            prop_assert_eq!(whole.len(), 3);
        }
    }
}
