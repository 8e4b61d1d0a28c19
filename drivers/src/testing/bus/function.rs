//! The device as its driver reaches it.

use std::sync::{Arc, MutexGuard};

use super::Presence;
use super::model::{Chip, Model, lock};
use crate::error::Error;
use crate::pci::{Function, Registers};
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;

/// The device in the hands of its driver.
pub(in crate::testing) struct Held<C: Chip>(pub(in crate::testing) Arc<Model<C>>);

impl<C: Chip> Held<C> {
    /// The device, as long as it was not let go.
    fn state(&self) -> Result<MutexGuard<'_, C>, Error> {
        let mut state = self.0.state();
        match state.bus().presence {
            Presence::Here | Presence::Gone => Ok(state),
            Presence::Released => Err(Error::device(format!("{} was let go", C::NAME))),
        }
    }
}

impl<C: Chip> Function for Held<C> {
    fn name(&self) -> &str {
        C::NAME
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let mut state = self.state()?;
        let bus = state.bus();
        match bus.presence {
            Presence::Here => bus.space.read(offset, bytes),
            Presence::Gone | Presence::Released => bytes.fill(0xff),
        }
        Ok(())
    }

    fn write_config(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut state = self.state()?;
        let bus = state.bus();
        let written = bus.space.write(offset, bytes);
        bus.note(written);
        Ok(())
    }

    fn registers(&self, bar: u8, offset: u64, len_bytes: usize) -> Result<Arc<dyn Registers>, Error> {
        drop(self.state()?);
        let end = offset.checked_add(len_bytes as u64);
        if bar != C::BAR || end.is_none_or(|end| end > C::BAR_BYTES as u64) {
            let name = C::NAME;
            return Err(Error::device(format!(
                "{name} has no {len_bytes} bytes at {offset:#x} of BAR {bar}"
            )));
        }
        Ok(Arc::new(Window { model: self.0.clone(), at: offset as usize, len_bytes }))
    }

    fn reach(&self) -> Vec<(u64, u64)> {
        self.0.state().reach().to_vec()
    }

    fn map(&self, address: u64, memory: &Mapping) -> Result<(), Error> {
        let mut state = self.state()?;
        if state.refuses_maps() {
            return Err(Error::device(format!("cannot let {} reach memory", C::NAME)));
        }
        let reach = state.reach();
        let bus = state.bus();
        let checked = bus.dma.check(reach, address, memory);
        bus.note(checked);
        bus.dma.map(address, memory).map_err(|cause| Error::system("map memory again", &cause))
    }

    fn vectors(&self) -> usize {
        self.0.state().bus().vectors.into()
    }

    fn interrupt(&self, events: &[&EventFd]) -> Result<(), Error> {
        let mut state = self.state()?;
        let bus = state.bus();
        if events.len() > usize::from(bus.vectors) {
            return Err(Error::device(format!("{} has no {} interrupts", C::NAME, events.len())));
        }
        let events = events.iter().map(|event| event.for_vhost()).collect::<std::io::Result<_>>();
        bus.events = events.map_err(|cause| Error::system("share an event", &cause))?;
        Ok(())
    }

    fn watch(&self, wanted: &EventFd, broken: &EventFd) {
        // One that cannot be shared is missed by the test that needs it.
        *lock(&self.0.system) = [wanted, broken].map(|event| event.for_vhost().ok());
    }

    fn reset(&self) -> Result<(), Error> {
        self.state()?.reset();
        Ok(())
    }

    fn release(&self) {
        let mut state = self.0.state();
        state.released();
        state.bus().release();
    }
}

impl<C: Chip> Drop for Held<C> {
    fn drop(&mut self) {
        self.release();
    }
}

/// A part of the registers.
struct Window<C: Chip> {
    model: Arc<Model<C>>,
    /// Where it begins.
    at: usize,
    len_bytes: usize,
}

impl<C: Chip> Window<C> {
    fn load(&self, offset: usize, width: usize) -> u32 {
        match self.place(offset, width) {
            Some(at) => self.model.state().load(at, width),
            None => u32::MAX,
        }
    }

    fn store(&self, offset: usize, width: usize, value: u32) {
        if let Some(at) = self.place(offset, width) {
            self.model.state().store(at, width, value);
            self.model.wake();
        }
    }

    fn place(&self, offset: usize, width: usize) -> Option<usize> {
        let at = self.at.checked_add(offset)?;
        (offset.checked_add(width)? <= self.len_bytes && at.is_multiple_of(width)).then_some(at)
    }
}

impl<C: Chip> Registers for Window<C> {
    fn load8(&self, offset: usize) -> u8 {
        self.load(offset, 1) as u8
    }

    fn load16(&self, offset: usize) -> u16 {
        self.load(offset, 2) as u16
    }

    fn load32(&self, offset: usize) -> u32 {
        self.load(offset, 4)
    }

    fn store8(&self, offset: usize, value: u8) {
        self.store(offset, 1, value.into());
    }

    fn store16(&self, offset: usize, value: u16) {
        self.store(offset, 2, value.into());
    }

    fn store32(&self, offset: usize, value: u32) {
        self.store(offset, 4, value);
    }
}
