//! The device's side of a virtqueue: [`SplitDevice`] and [`PackedDevice`], behind [`DeviceRing`].
//!
//! For whatever plays a device: tests of the rings, fuzz targets, back-ends. It is written from the text of the
//! specification (VIRTIO 1.2, sections 2.7 and 2.8) and shares no code with the driver's side, so that what one of them
//! misreads is not confirmed by the other. It is strict: a driver that does what the text forbids is a [`Violation`].
//!
//! Memory is seen through [`DeviceMemory`], by the addresses that the driver uses. A device that is to misbehave uses
//! [`DeviceRing::push_raw`], the methods of the two types that write any element, index, flags or event, or
//! [`DeviceMemory::slice`] for the rest.

mod access;
mod packed;
mod serve;
mod split;

pub use packed::PackedDevice;
pub use serve::serve_all;
pub use split::SplitDevice;

use vm_memory::VolatileSlice;

/// Memory as a device sees it.
pub trait DeviceMemory {
    /// The bytes at `address`, if all of them are memory.
    fn slice(&self, address: u64, len: usize) -> Option<VolatileSlice<'_>>;
}

/// What the driver did against the specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// Addresses of the three parts of a virtqueue (VIRTIO 1.2, section 2.6 "Virtqueues").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Areas {
    /// Descriptor area.
    pub descriptors: u64,
    /// Driver area.
    pub driver: u64,
    /// Device area.
    pub device: u64,
}

/// What a device knows of a queue when it starts it.
#[derive(Clone, Copy, Debug)]
pub struct QueueSetup {
    /// Where its parts are.
    pub areas: Areas,
    /// Its size in descriptors.
    pub size: u16,
    /// VIRTIO_F_INDIRECT_DESC was negotiated.
    pub indirect: bool,
    /// VIRTIO_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
}

/// A piece of memory in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Where it begins.
    pub address: u64,
    /// Length in bytes.
    pub len: u32,
    /// The device writes it; otherwise it reads it.
    pub writable: bool,
}

/// A chain that the driver has made available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its head in a split ring, its buffer id in a packed one.
    pub id: u16,
    /// Descriptors that it takes in the ring.
    pub descriptors: u16,
    /// Its pieces, in order.
    pub elements: Vec<Element>,
}

impl Chain {
    fn new(id: u16, descriptors: u16, elements: Vec<Element>) -> Result<Chain, Violation> {
        let after_writable = elements.iter().skip_while(|element| !element.writable);
        if after_writable.into_iter().any(|element| !element.writable) {
            return Err(Violation(format!("chain {id} has something to read after something to write")));
        }
        Ok(Chain { id, descriptors, elements })
    }

    /// Bytes that the device may write.
    #[must_use]
    pub fn writable_bytes(&self) -> u64 {
        self.elements.iter().filter(|element| element.writable).map(|element| u64::from(element.len)).sum()
    }
}

/// The device's side of one ring.
pub trait DeviceRing: Send {
    /// The next available chain.
    ///
    /// # Errors
    /// The driver broke a rule.
    fn pop(&mut self, memory: &dyn DeviceMemory) -> Result<Option<Chain>, Violation>;

    /// Uses a chain that was popped and not pushed yet; `written` bytes of it were written.
    ///
    /// # Errors
    /// The ring is not in memory.
    ///
    /// # Panics
    /// The chain is not with the device, or has less room: the caller is wrong, which [`DeviceRing::push_raw`] allows.
    fn push(&mut self, memory: &dyn DeviceMemory, chain: &Chain, written: u32) -> Result<(), Violation>;

    /// As [`DeviceRing::push`], of anything: an element with this id and length, that takes so many descriptors.
    ///
    /// # Errors
    /// The ring is not in memory.
    fn push_raw(
        &mut self,
        memory: &dyn DeviceMemory,
        id: u16,
        written: u32,
        descriptors: u16,
    ) -> Result<(), Violation>;

    /// Whether the driver wants to be called for what was pushed since this was last asked.
    ///
    /// # Errors
    /// The driver broke a rule.
    fn is_call_wanted(&mut self, memory: &dyn DeviceMemory) -> Result<bool, Violation>;

    /// Asks to be kicked for the next chain. `true`: there is one already.
    ///
    /// # Errors
    /// The ring is not in memory.
    fn ask_kick(&mut self, memory: &dyn DeviceMemory) -> Result<bool, Violation>;

    /// Asks to be kicked when more was made available than the next `more`: chains of a split ring, descriptors of a
    /// packed one, fewer than its size. Needs the event index.
    ///
    /// # Errors
    /// The ring is not in memory.
    fn ask_kick_after(&mut self, memory: &dyn DeviceMemory, more: u16) -> Result<(), Violation>;

    /// Asks not to be kicked.
    ///
    /// # Errors
    /// The ring is not in memory.
    fn refuse_kick(&mut self, memory: &dyn DeviceMemory) -> Result<(), Violation>;

    /// Where the device is, as the vhost-user message GET_VRING_BASE tells it.
    fn base(&self) -> u32;
}
