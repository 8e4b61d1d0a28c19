//! [`DriverRing`]: the rings of this crate by themselves, for whatever plays the device.

use std::io;
use std::sync::Arc;

use vm_memory::VolatileSlice;

use super::device_ring::{Areas, DeviceMemory, DeviceRing, Element, PackedDevice, QueueSetup, SplitDevice};
use crate::sys::mmap::Mapping;
use crate::virtio::memory::{Format, Layout, QueueMemory};
use crate::virtio::ring::{Buffer, Ring, new_ring};

/// What the device calls the beginning of the memory.
const START: u64 = 1 << 32;

/// What a ring is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// It is packed, not split.
    pub packed: bool,
    /// Its size in descriptors, 1 to 32768; a power of two if it is split.
    pub size: u16,
    /// Most elements of a chain; without indirect descriptors at most the size.
    pub chain_max: u16,
    /// Chains lie in tables of their own.
    pub indirect: bool,
    /// Each side says at which chain it wants to be notified.
    pub event_idx: bool,
}

/// Memory of a ring as its device sees it.
#[derive(Clone, Debug)]
pub struct RingMemory {
    mapping: Arc<Mapping>,
}

impl RingMemory {
    /// All of it: rings, tables and what the driver keeps for each slot.
    #[must_use]
    pub fn all(&self) -> VolatileSlice<'_> {
        self.mapping.slice(0, self.mapping.len_bytes()).expect("it is as long as it is")
    }
}

impl DeviceMemory for RingMemory {
    fn slice(&self, address: u64, len: usize) -> Option<VolatileSlice<'_>> {
        self.mapping.slice(usize::try_from(address.checked_sub(START)?).ok()?, len)
    }
}

/// The driver's side of a ring.
pub struct DriverRing {
    shape: Shape,
    ring: Box<dyn Ring + Send>,
    areas: Areas,
    memory: RingMemory,
}

impl DriverRing {
    /// A ring in memory of its own.
    ///
    /// # Errors
    /// The system has no memory for it.
    pub fn new(shape: Shape) -> io::Result<DriverRing> {
        let format = if shape.packed { Format::Packed } else { Format::Split };
        let layout =
            Layout { format, size: shape.size, chain_max: shape.chain_max, indirect: shape.indirect };
        let mapping = Arc::new(Mapping::memory(c"ring", layout.len_bytes())?);
        let memory = QueueMemory::new(mapping.clone(), 0, START, layout);
        let (descriptors, driver, device) = memory.areas();
        let ring = new_ring(memory, shape.event_idx);
        let areas = Areas { descriptors, driver, device };
        Ok(DriverRing { shape, ring, areas, memory: RingMemory { mapping } })
    }

    /// What the device is told of the ring.
    #[must_use]
    pub fn setup(&self) -> QueueSetup {
        let Shape { size, indirect, event_idx, .. } = self.shape;
        QueueSetup { areas: self.areas, size, indirect, event_idx }
    }

    /// A device for it.
    #[must_use]
    pub fn device(&self) -> Box<dyn DeviceRing> {
        match self.shape.packed {
            true => Box::new(PackedDevice::new(self.setup())),
            false => Box::new(SplitDevice::new(self.setup())),
        }
    }

    /// Memory that it shares with the device.
    #[must_use]
    pub fn memory(&self) -> RingMemory {
        self.memory.clone()
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> u16 {
        self.ring.slots()
    }

    /// Puts a chain into a slot that is not with the device.
    ///
    /// # Panics
    /// There is no such slot, it is with the device, or the chain is empty or too long.
    pub fn add(&mut self, slot: u16, chain: &[Element]) {
        let buffer = |element: &Element| Buffer {
            address: element.address,
            len: element.len,
            writable: element.writable,
        };
        self.ring.add(slot, &chain.iter().map(buffer).collect::<Vec<_>>());
    }

    /// Shows the device what was added. Returns whether it wants to be kicked for that.
    pub fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// The next chain that the device has used: slot and bytes written.
    ///
    /// # Errors
    /// What the device says is impossible; nothing more is to be asked of the ring.
    pub fn next_used(&mut self) -> Result<Option<(u16, u32)>, String> {
        let used = self.ring.next_used().map_err(|lie| lie.to_string())?;
        Ok(used.map(|used| (used.slot, used.written)))
    }

    /// Asks to be called for the next used chain. `true`: there is one already.
    pub fn arm(&mut self) -> bool {
        self.ring.arm()
    }

    /// Asks not to be called.
    pub fn disarm(&mut self) {
        self.ring.disarm();
    }
}
