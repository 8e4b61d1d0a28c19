//! [`PackedDevice`]: the packed ring from the device's side (VIRTIO 1.2, section 2.8 "Packed Virtqueues").

use std::collections::HashMap;
use std::sync::atomic::{Ordering, fence};

use super::access::{load16, load32, load64, store16, store32};
use super::{Chain, DeviceMemory, DeviceRing, Element, QueueSetup, Violation};

/// Flags of descriptors (`VIRTQ_DESC_F_…`).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Values of `desc_event_flags` (`RING_EVENT_FLAGS_…`).
const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const DESC: u16 = 2;

/// A packed ring, device side.
///
/// Both positions are counts of descriptors since the start: place and wrap counter follow from a division.
#[derive(Debug)]
pub struct PackedDevice {
    queue: QueueSetup,
    /// Descriptors read.
    read: u64,
    /// Descriptors used, those that were skipped included.
    used: u64,
    /// `used` when the driver's wish was last looked at.
    told: u64,
    /// Chains that were read and not used: id to number of descriptors.
    pending: HashMap<u16, u16>,
}

/// A descriptor as it was read.
struct Descriptor {
    element: Element,
    id: u16,
    flags: u16,
}

impl PackedDevice {
    /// The device of a ring that has just been made.
    #[must_use]
    pub fn new(queue: QueueSetup) -> PackedDevice {
        PackedDevice { queue, read: 0, used: 0, told: 0, pending: HashMap::new() }
    }

    /// The device of a ring that begins at `base`, as the vhost-user message SET_VRING_BASE tells it: bits 0 to 14 the
    /// next descriptor to read, bit 15 its wrap counter, bits 16 to 31 the same of the next one to use.
    #[must_use]
    pub fn at_base(queue: QueueSetup, base: u32) -> PackedDevice {
        let count = |half: u32| {
            let lap = if half & 0x8000 != 0 { 0 } else { u64::from(queue.size) };
            u64::from(half & 0x7fff) + lap
        };
        let (read, used) = (count(base & 0xffff), count(base >> 16));
        PackedDevice { queue, read, used, told: used, pending: HashMap::new() }
    }

    /// Writes id, length and flags of any descriptor, as they are.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn write_descriptor(
        &self,
        memory: &dyn DeviceMemory,
        index: u16,
        id: u16,
        len: u32,
        flags: u16,
    ) -> Result<(), Violation> {
        let at = self.queue.areas.descriptors + 16 * u64::from(index);
        store32(memory, at + 8, len)?;
        store16(memory, at + 12, id, Ordering::Relaxed)?;
        // The flags go last: whoever sees them sees the rest.
        store16(memory, at + 14, flags, Ordering::Release)
    }

    /// Writes the device's event suppression structure, as it is.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn write_event(&self, memory: &dyn DeviceMemory, place: u16, flags: u16) -> Result<(), Violation> {
        let at = self.queue.areas.device;
        store16(memory, at, place, Ordering::Relaxed)?;
        store16(memory, at + 2, flags, Ordering::Release)
    }

    /// Flags with which the next element would be used, the write flag aside.
    #[must_use]
    pub fn used_flags(&self) -> u16 {
        if self.wrap(self.used) { AVAIL | USED } else { 0 }
    }

    /// Place in the ring of a count.
    fn place(&self, count: u64) -> u16 {
        (count % u64::from(self.queue.size)) as u16
    }

    /// Wrap counter at a count: 1 in the first lap, then changing.
    fn wrap(&self, count: u64) -> bool {
        (count / u64::from(self.queue.size)).is_multiple_of(2)
    }

    /// The two fields of an event suppression structure that name the descriptor at a count.
    fn event(&self, count: u64) -> u16 {
        self.place(count) | u16::from(self.wrap(count)) << 15
    }

    fn address(&self, count: u64) -> u64 {
        self.queue.areas.descriptors + 16 * u64::from(self.place(count))
    }

    fn is_available(&self, memory: &dyn DeviceMemory, count: u64) -> Result<bool, Violation> {
        let flags = load16(memory, self.address(count) + 14, Ordering::Acquire)?;
        let wrap = self.wrap(count);
        Ok((flags & AVAIL != 0) == wrap && (flags & USED != 0) != wrap)
    }

    /// The chain that begins at `read`, whose first descriptor is available.
    fn read_chain(&self, memory: &dyn DeviceMemory) -> Result<Chain, Violation> {
        let mut elements = Vec::new();
        let mut count = self.read;
        loop {
            // A device that lies may have used more than it read.
            if count.saturating_sub(self.used) >= u64::from(self.queue.size) {
                return Err(Violation("a descriptor was made available again before it was used".into()));
            }
            if !self.is_available(memory, count)? {
                return Err(Violation("the first descriptor of a list is available, another one not".into()));
            }
            let descriptor = descriptor_at(memory, self.address(count))?;
            count += 1;
            if descriptor.flags & INDIRECT != 0 {
                if !self.queue.indirect || descriptor.flags & NEXT != 0 || !elements.is_empty() {
                    return Err(Violation("INDIRECT without the feature, or in a list".into()));
                }
                elements = table(memory, descriptor.element, self.queue.size)?;
            } else {
                elements.push(descriptor.element);
            }
            if descriptor.flags & NEXT == 0 {
                return Chain::new(descriptor.id, (count - self.read) as u16, elements);
            }
        }
    }
}

fn descriptor_at(memory: &dyn DeviceMemory, at: u64) -> Result<Descriptor, Violation> {
    let flags = load16(memory, at + 14, Ordering::Relaxed)?;
    let known = NEXT | WRITE | INDIRECT | AVAIL | USED;
    if flags & !known != 0 {
        return Err(Violation(format!("reserved flags are set in {flags:#x}")));
    }
    let (address, len) = (load64(memory, at)?, load32(memory, at + 8)?);
    let id = load16(memory, at + 12, Ordering::Relaxed)?;
    Ok(Descriptor { element: Element { address, len, writable: flags & WRITE != 0 }, id, flags })
}

/// The elements of an indirect table; a list is never longer than the queue.
fn table(memory: &dyn DeviceMemory, table: Element, most: u16) -> Result<Vec<Element>, Violation> {
    if table.len == 0 || !table.len.is_multiple_of(16) || table.len / 16 > most.into() {
        return Err(Violation(format!("a table of {} bytes", table.len)));
    }
    let element = |index| {
        let descriptor = descriptor_at(memory, table.address.wrapping_add(16 * u64::from(index)))?;
        match descriptor.flags & !WRITE {
            0 => Ok(descriptor.element),
            flags => Err(Violation(format!("flags {flags:#x} in a table"))),
        }
    };
    (0..table.len / 16).map(element).collect()
}

impl DeviceRing for PackedDevice {
    fn pop(&mut self, memory: &dyn DeviceMemory) -> Result<Option<Chain>, Violation> {
        if !self.is_available(memory, self.read)? {
            return Ok(None);
        }
        let chain = self.read_chain(memory)?;
        if self.pending.insert(chain.id, chain.descriptors).is_some() {
            return Err(Violation(format!("buffer id {} is in use", chain.id)));
        }
        self.read += u64::from(chain.descriptors);
        Ok(Some(chain))
    }

    fn push(&mut self, memory: &dyn DeviceMemory, chain: &Chain, written: u32) -> Result<(), Violation> {
        assert!(u64::from(written) <= chain.writable_bytes(), "no more is written than there is room for");
        let descriptors = self.pending.remove(&chain.id).expect("the chain is with the device");
        self.push_raw(memory, chain.id, written, descriptors)
    }

    fn push_raw(
        &mut self,
        memory: &dyn DeviceMemory,
        id: u16,
        written: u32,
        descriptors: u16,
    ) -> Result<(), Violation> {
        let flags = self.used_flags() | if written > 0 { WRITE } else { 0 };
        self.write_descriptor(memory, self.place(self.used), id, written, flags)?;
        self.used += u64::from(descriptors);
        Ok(())
    }

    fn is_call_wanted(&mut self, memory: &dyn DeviceMemory) -> Result<bool, Violation> {
        let mut news = self.told..self.used;
        self.told = self.used;
        if news.is_empty() {
            return Ok(false);
        }
        // The driver is to have seen what was used before its wish is looked at.
        fence(Ordering::SeqCst);
        let at = self.queue.areas.driver;
        // What the driver wrote first, the place, is read last.
        let flags = load16(memory, at + 2, Ordering::Acquire)?;
        let place = load16(memory, at, Ordering::Relaxed)?;
        match flags {
            ENABLE => Ok(true),
            DISABLE => Ok(false),
            DESC if self.queue.event_idx => Ok(news.any(|count| self.event(count) == place)),
            _ => Err(Violation(format!("event flags {flags:#x}"))),
        }
    }

    fn ask_kick(&mut self, memory: &dyn DeviceMemory) -> Result<bool, Violation> {
        if self.queue.event_idx {
            self.ask_kick_after(memory, 0)?;
        } else {
            self.write_event(memory, 0, ENABLE)?;
        }
        // The wish is to be seen before the ring is looked at once more.
        fence(Ordering::SeqCst);
        self.is_available(memory, self.read)
    }

    fn ask_kick_after(&mut self, memory: &dyn DeviceMemory, more: u16) -> Result<(), Violation> {
        assert!(self.queue.event_idx && more < self.queue.size, "a place in the ring can be named");
        self.write_event(memory, self.event(self.read + u64::from(more)), DESC)
    }

    fn refuse_kick(&mut self, memory: &dyn DeviceMemory) -> Result<(), Violation> {
        self.write_event(memory, 0, DISABLE)
    }

    fn base(&self) -> u32 {
        u32::from(self.event(self.used)) << 16 | u32::from(self.event(self.read))
    }
}
