//! [`NullController`]: a controller that ends every command at once and moves nothing.
//!
//! It is there to show what the driver costs when its device costs next to nothing. The queues of administration are
//! those of [`NvmeDevice`]. Each other pair has a thread of its own that looks at its doorbell all the time, so on the
//! driver's thread a doorbell is one store to memory, and nothing of what the controller does is done there. Only the
//! numbers of commands are read, only completions are written; payload is never touched, and a read says that it read
//! its data without doing so. It never calls: its queues are polled.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vm_memory::{Bytes, VolatileSlice};

use super::command::COMMAND_BYTES;
use super::queues::COMPLETION_BYTES;
use super::state::{DOORBELLS_AT, State};
use super::{Kind, NvmeDevice};
use crate::driver::Connected;
use crate::error::Error;
use crate::pci::{Function, Registers};
use crate::property::Settings;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;
use crate::testing::bus::Held;

/// Looks at a doorbell that has not changed before the thread lets others run: where there is one core only, its
/// driver is one of them.
const LOOKS: u32 = 1000;

/// A controller that ends every command at once. It serves until it is dropped, or its driver lets it go.
pub struct NullController {
    device: NvmeDevice,
}

impl NullController {
    /// A controller with one namespace of this size, a multiple of 512.
    ///
    /// # Panics
    /// There is no thread for it.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> NullController {
        NullController { device: NvmeDevice::new(Kind { capacity_bytes, vectors: 0, ..Kind::default() }) }
    }

    /// Gives it to the driver. `patience` is how long a command of administration and a shutdown may take.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn connect(&self, settings: &Settings, patience: Duration) -> Result<Box<dyn Connected>, Error> {
        let held = self.device.in_hand();
        NvmeDevice::connect_function(Arc::new(Null { held, memory: RwLock::default() }), settings, patience)
    }

    /// What the driver did against the rules, as far as registers and commands of administration show it.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.device.violations()
    }
}

/// The controller in the hands of its driver.
struct Null {
    held: Held<State>,
    /// What the controller reaches, by its addresses.
    memory: RwLock<Vec<(u64, Arc<Mapping>)>>,
}

impl Null {
    /// Begins to serve the pair of this number, which the driver has made before it asks for the doorbells.
    fn serve(&self, number: u16) -> Result<Doorbells, Error> {
        let no_rings = || Error::device(format!("{} has no queue {number}", self.name()));
        let (submissions, completions) = self
            .held
            .0
            .state()
            .pairs
            .get(&number)
            .and_then(super::queues::Pair::rings)
            .ok_or_else(no_rings)?;
        let ring = |address, entry_bytes| self.ring(address, submissions.entries, entry_bytes);
        let rings = Rings {
            submissions: ring(submissions.address, COMMAND_BYTES).ok_or_else(no_rings)?,
            completions: ring(completions.address, COMPLETION_BYTES).ok_or_else(no_rings)?,
            entries: submissions.entries,
            number,
        };
        Doorbells::serve(number, rings).map_err(|cause| Error::system("start a thread", &cause))
    }

    fn ring(&self, address: u64, entries: u32, entry_bytes: usize) -> Option<Ring> {
        let len = entries as usize * entry_bytes;
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        memory.iter().find_map(|(start, mapping)| {
            let start = usize::try_from(address.checked_sub(*start)?).ok()?;
            mapping.slice(start, len)?;
            Some(Ring { mapping: mapping.clone(), start, len })
        })
    }
}

impl Function for Null {
    fn name(&self) -> &str {
        self.held.name()
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.held.read_config(offset, bytes)
    }

    fn write_config(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.held.write_config(offset, bytes)
    }

    fn registers(&self, bar: u8, offset: u64, len_bytes: usize) -> Result<Arc<dyn Registers>, Error> {
        // The doorbells of a pair end with those of its number: two of four bytes each.
        match len_bytes / 8 {
            pairs @ 2.. if offset == DOORBELLS_AT as u64 => Ok(Arc::new(self.serve(pairs as u16 - 1)?)),
            _ => self.held.registers(bar, offset, len_bytes),
        }
    }

    fn reach(&self) -> Vec<(u64, u64)> {
        self.held.reach()
    }

    fn map(&self, address: u64, memory: &Mapping) -> Result<(), Error> {
        self.held.map(address, memory)?;
        let again = memory.duplicate().map_err(|cause| Error::system("map memory again", &cause))?;
        let mut places = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        places.push((address, Arc::new(again)));
        Ok(())
    }

    fn vectors(&self) -> usize {
        self.held.vectors()
    }

    fn interrupt(&self, events: &[&EventFd]) -> Result<(), Error> {
        self.held.interrupt(events)
    }

    fn watch(&self, wanted: &EventFd, broken: &EventFd) {
        self.held.watch(wanted, broken);
    }

    fn reset(&self) -> Result<(), Error> {
        self.held.reset()
    }

    fn release(&self) {
        self.held.release();
    }
}

/// A part of the memory that both sides know.
struct Ring {
    mapping: Arc<Mapping>,
    start: usize,
    len: usize,
}

impl Ring {
    fn slice(&self) -> VolatileSlice<'_> {
        self.mapping.slice(self.start, self.len).expect("checked when it was made")
    }
}

/// A pair of queues of the same length.
struct Rings {
    submissions: Ring,
    completions: Ring,
    entries: u32,
    number: u16,
}

impl Rings {
    /// Ends whatever is told of, until it is over. There is always room for a completion: a queue of completions has as
    /// many entries as that of commands, and a command that has not been taken back is in one of the two.
    fn serve(&self, bell: &Bell) {
        let (submissions, completions) = (self.submissions.slice(), self.completions.slice());
        let (mut head, mut phase, mut looks) = (0, 1, 0);
        while !bell.is_over.load(Ordering::Relaxed) {
            let tail = bell.tail.load(Ordering::Acquire);
            assert!(tail < self.entries, "the tail is that of the queue");
            looks = if head == tail { looks + 1 } else { 0 };
            if looks < LOOKS {
                std::hint::spin_loop();
            } else {
                looks = 0;
                thread::yield_now();
            }
            while head != tail {
                let first: u32 = load(&submissions, head as usize * COMMAND_BYTES);
                let at = head as usize * COMPLETION_BYTES;
                head = (head + 1) % self.entries;
                // Head and number of the queue, number of the command, phase, success.
                let end = u64::from(head) | u64::from(self.number) << 16 | u64::from(first >> 16) << 32;
                store(&completions, at + 8, end | phase << 48);
                phase ^= u64::from(head == 0);
            }
        }
    }
}

fn load(memory: &VolatileSlice<'_>, at: usize) -> u32 {
    memory.load(at, Ordering::Relaxed).map(u32::from_le).expect("the ring has this entry")
}

fn store(memory: &VolatileSlice<'_>, at: usize, value: u64) {
    memory.store(value.to_le(), at, Ordering::Release).expect("the ring has this entry");
}

/// What the driver's thread says, in a line of the cache of its own.
#[derive(Default)]
#[repr(align(128))]
struct Bell {
    tail: AtomicU32,
    is_over: AtomicBool,
}

/// The doorbells of a pair, with the thread that looks at them.
struct Doorbells {
    /// Where that of the tail is; that of the head is not needed.
    tail_at: usize,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Doorbells {
    fn serve(number: u16, rings: Rings) -> std::io::Result<Doorbells> {
        let bell = Arc::new(Bell::default());
        let seen = bell.clone();
        let thread = thread::Builder::new().name("null-controller".into());
        let thread = thread.spawn(move || rings.serve(&seen))?;
        Ok(Doorbells { tail_at: usize::from(number) * 8, bell, thread: Some(thread) })
    }
}

impl Drop for Doorbells {
    fn drop(&mut self) {
        self.bell.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Registers for Doorbells {
    fn load8(&self, _offset: usize) -> u8 {
        u8::MAX
    }

    fn load16(&self, _offset: usize) -> u16 {
        u16::MAX
    }

    fn load32(&self, _offset: usize) -> u32 {
        u32::MAX
    }

    fn store8(&self, _offset: usize, _value: u8) {}

    fn store16(&self, _offset: usize, _value: u16) {}

    fn store32(&self, offset: usize, value: u32) {
        if offset == self.tail_at {
            self.bell.tail.store(value, Ordering::Release);
        }
    }
}
