//! [`Ring`]: what the block driver asks of a ring format.

use super::memory::{Format, QueueMemory};
use super::packed::PackedRing;
use super::split::SplitRing;
use crate::device::lane::Lie;

/// A piece of memory in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    /// What the device calls its beginning.
    pub(crate) address: u64,
    /// Length in bytes.
    pub(crate) len: u32,
    /// The device writes it; otherwise it reads it.
    pub(crate) writable: bool,
}

/// A chain that the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// Its slot.
    pub(crate) slot: u16,
    /// How many bytes of it the device says to have written; at most as many as it may write.
    pub(crate) written: u32,
}

/// One ring. A *slot* is a chain's place: its number is the chain's name on both sides of the ring.
pub(crate) trait Ring {
    /// How many slots there are.
    fn slots(&self) -> u16;

    /// Puts the chain into the slot, which is not with the device. The device sees it after [`Ring::publish`].
    fn add(&mut self, slot: u16, chain: &[Buffer]);

    /// Shows the device what was added. Returns whether it wants to be kicked for that.
    fn publish(&mut self) -> bool;

    /// The next chain that the device has used.
    ///
    /// # Errors
    /// What the device says is impossible.
    fn next_used(&mut self) -> Result<Option<Used>, Lie>;

    /// Asks to be called for the next used chain. `true`: there is one already.
    fn arm(&mut self) -> bool;

    /// Asks not to be called.
    fn disarm(&mut self);
}

/// The ring that the layout of `memory` is made for, in fresh memory, all zeroes. `event_idx`: the feature was
/// negotiated.
pub(crate) fn new_ring(memory: QueueMemory, event_idx: bool) -> Box<dyn Ring + Send> {
    match memory.layout.format {
        Format::Split => Box::new(SplitRing::new(memory, event_idx)),
        Format::Packed => Box::new(PackedRing::new(memory, event_idx)),
    }
}

/// Whether whoever wants to be notified at `event` is to be, now that the index went from `old` to `new` (VIRTIO 1.2,
/// section 2.7.10 "Available Buffer Notification Suppression").
pub(super) fn is_wanted(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_wanted_when_the_event_was_passed() {
        assert!(is_wanted(5, 6, 5) && is_wanted(5, 9, 2) && is_wanted(0xffff, 3, 0xfff0));
        assert!(
            !is_wanted(5, 5, 4) && !is_wanted(5, 9, 6) && !is_wanted(4, 0xffff, 5) && !is_wanted(0, 0, 0)
        );
    }
}
