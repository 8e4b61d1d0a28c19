//! [`SplitDevice`]: the split ring from the device's side (VIRTIO 1.2, section 2.7 "Split Virtqueues").

use std::collections::HashSet;
use std::sync::atomic::{Ordering, fence};

use super::access::{load16, load32, load64, store16, store32};
use super::{Chain, DeviceMemory, DeviceRing, Element, QueueSetup, Violation};

/// Flags of descriptors (`VIRTQ_DESC_F_…`).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Flag of the available ring: do not call (`VIRTQ_AVAIL_F_NO_INTERRUPT`).
const NO_INTERRUPT: u16 = 1;
/// Flag of the used ring: do not kick (`VIRTQ_USED_F_NO_NOTIFY`).
const NO_NOTIFY: u16 = 1;

/// A split ring, device side.
#[derive(Debug)]
pub struct SplitDevice {
    queue: QueueSetup,
    /// Chains read, modulo 2^16 as the indices of the rings are.
    read: u16,
    /// Chains used.
    used: u16,
    /// `used` when the driver's wish was last looked at.
    told: u16,
    /// Heads of the chains that were read and not used.
    pending: HashSet<u16>,
}

impl SplitDevice {
    /// The device of a ring that has just been made.
    #[must_use]
    pub fn new(queue: QueueSetup) -> SplitDevice {
        SplitDevice { queue, read: 0, used: 0, told: 0, pending: HashSet::new() }
    }

    /// The device of a ring that begins at `base`, as the vhost-user message SET_VRING_BASE tells it.
    #[must_use]
    pub fn at_base(queue: QueueSetup, base: u32) -> SplitDevice {
        let at = base as u16;
        SplitDevice { queue, read: at, used: at, told: at, pending: HashSet::new() }
    }

    /// Writes any element of the used ring, as it is.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn write_element(
        &self,
        memory: &dyn DeviceMemory,
        place: u16,
        id: u32,
        len: u32,
    ) -> Result<(), Violation> {
        let at = self.queue.areas.device + 4 + 8 * u64::from(place);
        store32(memory, at, id)?;
        store32(memory, at + 4, len)
    }

    /// Writes the index of the used ring, as it is.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn write_index(&self, memory: &dyn DeviceMemory, index: u16) -> Result<(), Violation> {
        // Whoever sees the index sees the elements.
        store16(memory, self.queue.areas.device + 2, index, Ordering::Release)
    }

    /// Writes the flags of the used ring, as they are.
    ///
    /// # Errors
    /// They are not in memory.
    pub fn write_flags(&self, memory: &dyn DeviceMemory, flags: u16) -> Result<(), Violation> {
        store16(memory, self.queue.areas.device, flags, Ordering::Relaxed)
    }

    /// Writes `avail_event`, as it is.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn write_event(&self, memory: &dyn DeviceMemory, event: u16) -> Result<(), Violation> {
        let at = self.queue.areas.device + 4 + 8 * u64::from(self.queue.size);
        store16(memory, at, event, Ordering::Relaxed)
    }

    /// How many chains the driver has made available since the start, modulo 2^16.
    fn available(&self, memory: &dyn DeviceMemory) -> Result<u16, Violation> {
        load16(memory, self.queue.areas.driver + 2, Ordering::Acquire)
    }

    /// The elements of the chain that begins with descriptor `head` of a table of `len` descriptors, and whether the
    /// last one read is a table.
    fn walk(
        &self,
        memory: &dyn DeviceMemory,
        table: u64,
        len: u32,
        head: u16,
    ) -> Result<(Vec<Element>, bool), Violation> {
        let (mut elements, mut index) = (Vec::new(), head);
        loop {
            // No chain is longer than the queue; one that seems so may have a loop.
            if u32::from(index) >= len || elements.len() >= self.queue.size.into() {
                return Err(Violation(format!("descriptor {index} of {len}, or a chain too long")));
            }
            let at = table.wrapping_add(16 * u64::from(index));
            let flags = load16(memory, at + 12, Ordering::Relaxed)?;
            if flags & !(NEXT | WRITE | INDIRECT) != 0 {
                return Err(Violation(format!("flags {flags:#x} of a descriptor")));
            }
            let (address, len) = (load64(memory, at)?, load32(memory, at + 8)?);
            elements.push(Element { address, len, writable: flags & WRITE != 0 });
            match (flags & INDIRECT != 0, flags & NEXT != 0) {
                (true, true) => return Err(Violation("INDIRECT and NEXT in one descriptor".into())),
                (is_table, false) => return Ok((elements, is_table)),
                (false, true) => index = load16(memory, at + 14, Ordering::Relaxed)?,
            }
        }
    }

    fn read_chain(&self, memory: &dyn DeviceMemory, head: u16) -> Result<Chain, Violation> {
        let (mut elements, is_table) =
            self.walk(memory, self.queue.areas.descriptors, self.queue.size.into(), head)?;
        let descriptors = elements.len() as u16;
        if is_table {
            let table = elements.pop().filter(|_| self.queue.indirect && elements.is_empty());
            let Some(table) = table.filter(|table| table.len > 0 && table.len.is_multiple_of(16)) else {
                return Err(Violation("a table without the feature, in a chain, or of no length".into()));
            };
            let (inner, is_table) = self.walk(memory, table.address, table.len / 16, 0)?;
            if is_table {
                return Err(Violation("a table in a table".into()));
            }
            elements = inner;
        }
        Chain::new(head, descriptors, elements)
    }
}

impl DeviceRing for SplitDevice {
    fn pop(&mut self, memory: &dyn DeviceMemory) -> Result<Option<Chain>, Violation> {
        let waiting = self.available(memory)?.wrapping_sub(self.read);
        if waiting == 0 {
            return Ok(None);
        }
        if usize::from(waiting) + self.pending.len() > usize::from(self.queue.size) {
            return Err(Violation(format!("{waiting} chains more are available")));
        }
        let place = u64::from(self.read % self.queue.size);
        let head = load16(memory, self.queue.areas.driver + 4 + 2 * place, Ordering::Relaxed)?;
        let chain = self.read_chain(memory, head)?;
        if !self.pending.insert(head) {
            return Err(Violation(format!("chain {head} is available twice")));
        }
        self.read = self.read.wrapping_add(1);
        Ok(Some(chain))
    }

    fn push(&mut self, memory: &dyn DeviceMemory, chain: &Chain, written: u32) -> Result<(), Violation> {
        assert!(u64::from(written) <= chain.writable_bytes(), "no more is written than there is room for");
        assert!(self.pending.remove(&chain.id), "the chain is with the device");
        self.push_raw(memory, chain.id, written, chain.descriptors)
    }

    fn push_raw(
        &mut self,
        memory: &dyn DeviceMemory,
        id: u16,
        written: u32,
        _descriptors: u16,
    ) -> Result<(), Violation> {
        self.write_element(memory, self.used % self.queue.size, id.into(), written)?;
        self.used = self.used.wrapping_add(1);
        self.write_index(memory, self.used)
    }

    fn is_call_wanted(&mut self, memory: &dyn DeviceMemory) -> Result<bool, Violation> {
        let (old, count) = (self.told, self.used.wrapping_sub(self.told));
        self.told = self.used;
        if count == 0 {
            return Ok(false);
        }
        // The driver is to have seen what was used before its wish is looked at.
        fence(Ordering::SeqCst);
        let at = self.queue.areas.driver;
        if self.queue.event_idx {
            let event = load16(memory, at + 4 + 2 * u64::from(self.queue.size), Ordering::Relaxed)?;
            return Ok((0..count).any(|more| old.wrapping_add(more) == event));
        }
        match load16(memory, at, Ordering::Relaxed)? {
            0 => Ok(true),
            NO_INTERRUPT => Ok(false),
            flags => Err(Violation(format!("flags {flags:#x} of the available ring"))),
        }
    }

    fn ask_kick(&mut self, memory: &dyn DeviceMemory) -> Result<bool, Violation> {
        if self.queue.event_idx {
            self.ask_kick_after(memory, 0)?;
        } else {
            self.write_flags(memory, 0)?;
        }
        // The wish is to be seen before the ring is looked at once more.
        fence(Ordering::SeqCst);
        Ok(self.available(memory)? != self.read)
    }

    fn ask_kick_after(&mut self, memory: &dyn DeviceMemory, more: u16) -> Result<(), Violation> {
        assert!(self.queue.event_idx, "an index can be named");
        self.write_event(memory, self.read.wrapping_add(more))
    }

    fn refuse_kick(&mut self, memory: &dyn DeviceMemory) -> Result<(), Violation> {
        match self.queue.event_idx {
            // An index that was passed already.
            true => self.write_event(memory, self.read.wrapping_sub(1)),
            false => self.write_flags(memory, NO_NOTIFY),
        }
    }

    fn base(&self) -> u32 {
        self.read.into()
    }
}
