//! [`Doorbells`]: telling a controller how far queues have come (Base 2.0c, sections 3.1.3.23 and 3.1.3.24; shadow
//! doorbells: annex B.5 "Updating Controller Doorbell Properties using a Shadow Doorbell Buffer").

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use vm_memory::Bytes;

use crate::pci::Registers;
use crate::sys::mmap::Mapping;

/// Doorbells in memory, of a controller that looks there first.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    pub(super) mapping: Arc<Mapping>,
    /// Where the doorbells begin in the mapping.
    pub(super) doorbells_at: usize,
    /// Where the controller says at which values it wants to be told.
    pub(super) events_at: usize,
}

/// The two doorbells of a pair of queues.
pub(super) struct Doorbells {
    pub(super) registers: Arc<dyn Registers>,
    /// Places of the doorbells in the registers, and in the shadow: tail of the submission queue, head of the
    /// completion queue.
    pub(super) places: [usize; 2],
    pub(super) shadow: Option<Shadow>,
    /// What was written last.
    pub(super) values: [u16; 2],
}

/// Which of the two.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Tail = 0,
    Head = 1,
}

impl Doorbells {
    /// Writes a doorbell. Returns whether the controller had to be told by its register.
    pub(super) fn ring(&mut self, which: Which, value: u16) -> bool {
        let (place, old) = (self.places[which as usize], self.values[which as usize]);
        self.values[which as usize] = value;
        if let Some(shadow) = &self.shadow {
            // A place of the shadow is that of the register: both have the same distances.
            let (doorbell, event) = (shadow.doorbells_at + place, shadow.events_at + place);
            let Some(memory) = shadow.mapping.slice(0, shadow.mapping.len_bytes()) else { return false };
            // The commands are seen before the doorbell.
            let stored = memory.store(u32::from(value).to_le(), doorbell, Ordering::Release);
            // Either the controller sees the doorbell, or this sees that it wants to be told.
            fence(Ordering::SeqCst);
            let wanted: Result<u32, _> = memory.load(event, Ordering::Relaxed);
            if let (Ok(()), Ok(wanted)) = (stored, wanted)
                && !is_wanted(u32::from_le(wanted) as u16, value, old)
            {
                return false;
            }
        }
        self.registers.store32(place, value.into());
        true
    }
}

/// Whether a controller that wants to be told at `event` is to be, now that a doorbell went from `old` to `new`.
fn is_wanted(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
