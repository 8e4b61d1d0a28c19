//! The device as its driver reaches it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd;

use super::kind::{Fault, Kind};
use super::space::{BAR, BAR_BYTES};
use super::state::{Presence, State};
use crate::error::Error;
use crate::pci::{Function, Registers};
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;
use crate::testing::ram_disk::RamDisk;

/// What messages call it.
const NAME: &str = "the PCI device of a test";

/// The addresses that it reaches: all but a hole, as there is one on most machines.
const REACH: [(u64, u64); 2] = [(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)];
const SHORT_REACH: [(u64, u64); 1] = [(0, (1 << 20) - 1)];

/// The device, with what wakes its thread.
pub(super) struct Model {
    state: Mutex<State>,
    work: Condvar,
    stopped: Mutex<bool>,
    /// How the system tells that it wants the device back, and of errors of the bus.
    system: Mutex<[Option<eventfd::EventFd>; 2]>,
    kind: Kind,
}

impl Model {
    pub(super) fn new(kind: Kind, disk: RamDisk) -> Model {
        Model {
            state: Mutex::new(State::new(kind, disk)),
            work: Condvar::new(),
            stopped: Mutex::new(false),
            system: Mutex::default(),
            kind,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Serves the queues that the driver tells of, until it is stopped. Time alone makes it look at nothing: a kick
    /// that is lost is noticed.
    pub(super) fn serve(&self) {
        let mut state = self.state();
        while !*lock(&self.stopped) {
            match state.next_kicked() {
                Some(queue) => state.serve(queue),
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        // Its thread looks at this, and begins to wait, with the state locked.
        let state = self.state();
        *lock(&self.stopped) = true;
        drop(state);
        self.work.notify_all();
    }

    /// Signals that the system wants the device back (0), or an error of the bus (1).
    pub(super) fn tell(&self, which: usize) {
        if let Some(event) = &lock(&self.system)[which] {
            // The only error is a full counter, and then it is readable already.
            let _ = event.write(1);
        }
    }

    fn reach(&self) -> &'static [(u64, u64)] {
        if self.kind.fault == Fault::ShortReach { &SHORT_REACH } else { &REACH }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The device in the hands of its driver.
pub(super) struct Held(pub(super) Arc<Model>);

impl Held {
    /// The device, as long as it was not let go.
    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.0.state();
        match state.presence {
            Presence::Here | Presence::Gone => Ok(state),
            Presence::Released => Err(Error::device(format!("{NAME} was let go"))),
        }
    }
}

impl Function for Held {
    fn name(&self) -> &str {
        NAME
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let state = self.state()?;
        match state.presence {
            Presence::Here => state.space.read(offset, bytes),
            Presence::Gone | Presence::Released => bytes.fill(0xff),
        }
        Ok(())
    }

    fn write_config(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut state = self.state()?;
        let written = state.space.write(offset, bytes);
        state.note(written);
        Ok(())
    }

    fn registers(&self, bar: u8, offset: u64, len_bytes: usize) -> Result<Arc<dyn Registers>, Error> {
        drop(self.state()?);
        let end = offset.checked_add(len_bytes as u64);
        if bar != BAR || end.is_none_or(|end| end > BAR_BYTES as u64) {
            return Err(Error::device(format!(
                "{NAME} has no {len_bytes} bytes at {offset:#x} of BAR {bar}"
            )));
        }
        Ok(Arc::new(Window { model: self.0.clone(), at: offset as usize, len_bytes }))
    }

    fn reach(&self) -> Vec<(u64, u64)> {
        self.0.reach().to_vec()
    }

    fn map(&self, address: u64, memory: &Mapping) -> Result<(), Error> {
        let mut state = self.state()?;
        if self.0.kind.fault == Fault::MapRefused {
            return Err(Error::device(format!("cannot let {NAME} reach memory")));
        }
        let checked = state.dma.check(self.0.reach(), address, memory);
        state.note(checked);
        state.dma.map(address, memory).map_err(|cause| Error::system("map memory again", &cause))
    }

    fn vectors(&self) -> usize {
        self.0.kind.vectors.into()
    }

    fn interrupt(&self, events: &[&EventFd]) -> Result<(), Error> {
        let mut state = self.state()?;
        if events.len() > self.vectors() {
            return Err(Error::device(format!("{NAME} has no {} interrupts", events.len())));
        }
        let events = events.iter().map(|event| event.for_vhost()).collect::<std::io::Result<_>>();
        state.events = events.map_err(|cause| Error::system("share an event", &cause))?;
        Ok(())
    }

    fn watch(&self, wanted: &EventFd, broken: &EventFd) {
        // One that cannot be shared is missed by the test that needs it.
        *lock(&self.0.system) = [wanted, broken].map(|event| event.for_vhost().ok());
    }

    fn release(&self) {
        self.0.state().release();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// A part of the registers.
struct Window {
    model: Arc<Model>,
    /// Where it begins.
    at: usize,
    len_bytes: usize,
}

impl Window {
    fn load(&self, offset: usize, width: usize) -> u32 {
        match self.place(offset, width) {
            Some(at) => self.model.state().load(at, width),
            None => u32::MAX,
        }
    }

    fn store(&self, offset: usize, width: usize, value: u32) {
        if let Some(at) = self.place(offset, width) {
            self.model.state().store(at, width, value);
            self.model.work.notify_one();
        }
    }

    fn place(&self, offset: usize, width: usize) -> Option<usize> {
        let at = self.at.checked_add(offset)?;
        (offset.checked_add(width)? <= self.len_bytes && at.is_multiple_of(width)).then_some(at)
    }
}

impl Registers for Window {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::config::set_bus_master;
    use crate::testing::pci::space::{COMMON_BYTES, DEVICE_AT, NOTIFY_AT};

    /// The device after `act`, and what it noted.
    fn noted(act: impl FnOnce(&Held, &dyn Registers)) -> Vec<String> {
        let kind = Kind::default();
        let model = Arc::new(Model::new(kind, RamDisk::new(kind.capacity_bytes, false)));
        let held = Held(model.clone());
        set_bus_master(&held, false).unwrap();
        let registers = held.registers(BAR, 0, BAR_BYTES).unwrap();
        registers.store8(0x14, 0);
        act(&held, &*registers);
        model.state().violations.iter().map(ToString::to_string).collect()
    }

    /// What the device notes about accesses to its registers.
    fn told(act: impl FnOnce(&dyn Registers)) -> String {
        noted(|_, registers| act(registers)).join(", ")
    }

    /// The status up to FEATURES_OK, with these features.
    fn negotiate(registers: &dyn Registers, features: u64) {
        registers.store8(0x14, 1);
        registers.store8(0x14, 3);
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            registers.store32(0x08, select);
            registers.store32(0x0c, half);
        }
        registers.store8(0x14, 0xb);
    }

    #[test]
    fn the_steps_of_the_initialization_are_watched() {
        assert_eq!(told(|registers| negotiate(registers, Kind::default().features)), "");
        assert_eq!(told(|registers| registers.store8(0x14, 2)), "the status goes from 0x0 to 0x2");
        assert!(told(|registers| negotiate(registers, !0)).contains("not offered"));
        let late = told(|registers| {
            negotiate(registers, Kind::default().features);
            registers.store32(0x0c, 0);
            registers.store8(0x14, 3);
        });
        assert_eq!(late, "features are written at status 0xb, the status goes from 0xb to 0x3");
        let early = told(|registers| registers.store16(0x18, 4));
        assert_eq!(early, "queue 0 is set up at status 0x0");
        assert_eq!(told(|registers| registers.store16(NOTIFY_AT, 0)), "queue 0 is told of before DRIVER_OK");
    }

    #[test]
    fn queues_are_watched() {
        let queue = |act: fn(&dyn Registers)| {
            told(|registers| {
                negotiate(registers, Kind::default().features);
                act(registers);
            })
        };
        assert_eq!(queue(|registers| registers.store16(0x18, 3)), "a queue of 3 entries");
        assert_eq!(queue(|registers| registers.store16(0x18, 512)), "a queue of 512 entries");
        let unaligned = queue(|registers| {
            registers.store32(0x20, 8);
            registers.store16(0x1c, 1);
        });
        assert_eq!(unaligned, "a queue at 0x8, 0x0, 0x0");
        let twice = queue(|registers| {
            registers.store16(0x1c, 1);
            registers.store16(0x18, 4);
        });
        assert_eq!(twice, "0x4 is written at 0x18 of an enabled queue");
        assert_eq!(queue(|registers| registers.store16(0x1c, 0)), "0x0 is written at 0x1c");
    }

    #[test]
    fn widths_of_accesses_are_watched() {
        assert_eq!(told(|registers| _ = registers.load32(0x14)), "4 bytes are read at 0x14");
        assert_eq!(told(|registers| registers.store16(0x14, 0)), "2 bytes are written at 0x14");
        let at = DEVICE_AT + 24;
        assert_eq!(told(|registers| _ = registers.load32(at)), "4 bytes of the configuration are read at 24");
        assert!(told(|registers| _ = registers.load8(COMMON_BYTES)).contains("0x38 of the registers"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn chains_without_bus_mastering_are_watched() {
        let run = |is_master: bool| {
            noted(|held, registers| {
                let memory = Mapping::memory(c"test", 1 << 16).unwrap();
                held.map(1 << 21, &memory).unwrap();
                negotiate(registers, Kind::default().features);
                for (at, area) in [(0x20, 0), (0x28, 0x2000), (0x30, 0x3000)] {
                    registers.store32(at, (1 << 21) + area);
                }
                registers.store16(0x1c, 1);
                set_bus_master(held, is_master).unwrap();
                registers.store8(0x14, 0xf);
                registers.store16(NOTIFY_AT, 0);
                let queue = held.0.state().next_kicked().unwrap();
                held.0.state().serve(queue);
            })
        };
        assert_eq!(run(true), [""; 0]);
        assert!(run(false).join(", ").contains("is no memory"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn memory_is_mapped_once_and_within_reach() {
        let memory = Mapping::memory(c"test", 1 << 16).unwrap();
        let map = |addresses: &[u64]| {
            noted(|held, _| addresses.iter().for_each(|address| held.map(*address, &memory).unwrap())).len()
        };
        assert_eq!(map(&[1 << 21, 1 << 22]), 0);
        assert_eq!(map(&[1 << 21, (1 << 21) + 4096]), 1, "they overlap");
        assert_eq!(map(&[(1 << 21) + 1]), 1, "no page begins there");
        assert_eq!(map(&[0xfee0_0000, 1 << 39]), 2, "out of reach");
    }

    #[test]
    fn nothing_is_left_of_a_device_that_was_let_go() {
        let held = noted(|held, registers| {
            held.release();
            assert_eq!((registers.load8(0x14), registers.load32(DEVICE_AT)), (0xff, u32::MAX));
            registers.store16(NOTIFY_AT, 0);
            assert!(held.read_config(0, &mut [0; 4]).is_err() && held.registers(BAR, 0, 4).is_err());
        });
        assert_eq!(held, [""; 0]);
    }
}
