//! [`Kick`]: how a device is told of new chains.

use std::sync::Arc;

use crate::pci::Registers;
use crate::sys::eventfd::EventFd;

/// Tells the device that a queue has new chains (VIRTIO 1.2, section 2.3 "Notifications").
pub(crate) enum Kick {
    /// An event that the device waits for.
    Event(Arc<EventFd>),
    /// A register that takes the number of the queue.
    Register {
        /// Where the register is.
        registers: Arc<dyn Registers>,
        /// Its place there.
        offset: usize,
        /// The number of the queue.
        queue: u16,
    },
}

impl Kick {
    pub(crate) fn signal(&self) {
        match self {
            Kick::Event(event) => event.signal(),
            Kick::Register { registers, offset, queue } => registers.store16(*offset, *queue),
        }
    }
}
