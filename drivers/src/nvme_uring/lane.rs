//! [`UringLane`]: a ring of commands to one namespace.
//!
//! An entry names the memory of a lease or of the lane's own ranges until its completion has been taken. Whoever
//! drives the lane keeps the lease of a slot until then, or until the lane is dropped, which waits for all of them.
#![expect(unsafe_code, reason = "entries name memory that the kernel uses until their completion")]

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{cqueue, squeue};

use super::passthrough::{self, Memory};
use super::target::Target;
use crate::device::lane::{Ended, Errand, Lane, Lie, Verdict};
use crate::error::Errno;
use crate::mem::{Lease, Region};
use crate::nvme::command::{Command, RANGE_BYTES};
use crate::nvme::errand::{Data, Dialect};
use crate::nvme::status::Status;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;
use crate::sys::ring::{Mode, Ring};

/// A ring whose entries have room for a command, and whose completions have room for its result.
pub(super) type BigRing = Ring<squeue::Entry128, cqueue::Entry32>;

/// How long the end of a lane waits for commands. The kernel ends each after its own time-out at the latest.
const LONGEST_FAREWELL: Duration = Duration::from_secs(60);

/// A ring with a place for one command of each slot, which is told by the number of the slot.
pub(super) struct UringLane {
    ring: BigRing,
    dialect: Dialect,
    /// `None`: the queue is polled.
    call: Option<Arc<EventFd>>,
    /// Which slots have a command with the kernel.
    out: Vec<bool>,
    in_flight: usize,
    /// The part of the region that is registered as buffer 0: begin and end.
    registered: Option<(usize, usize)>,
    /// The range of each slot's discard.
    ranges: Arc<Mapping>,
    is_awake: bool,
    /// The kernel was asked since the completion queue was empty.
    is_asked: bool,
    /// Why the ring is of no use any more.
    broken: Option<String>,
    /// Keeps the registered memory mapped as long as the ring.
    _region: Arc<Region>,
}

impl UringLane {
    /// A lane of `slots` commands, a power of two, for the worker that has share `share` of the region.
    ///
    /// # Errors
    /// What the kernel answered. One that cannot be registered is no error: see [`UringLane::is_registered`].
    pub(super) fn new(
        target: &Target,
        dialect: Dialect,
        region: Arc<Region>,
        share: usize,
        mode: Mode,
        slots: u16,
    ) -> io::Result<UringLane> {
        let mut ring = BigRing::asleep(slots.into(), mode)?;
        ring.register_files(&[target.file()])?;
        let call = match mode {
            Mode::Poll => None,
            Mode::Interrupt => {
                let event = Arc::new(EventFd::new()?);
                ring.register_event(&event)?;
                Some(event)
            }
        };
        let (offset, len) = region.share(share);
        let memory = region.slice(offset, len).ok_or(io::ErrorKind::InvalidInput)?;
        let registered = match ring.register_buffer(&memory) {
            Ok(()) => Some((offset, offset + len)),
            Err(_) => None,
        };
        let ranges = Arc::new(Mapping::memory(c"gateway-ranges", usize::from(slots) * RANGE_BYTES)?);
        Ok(UringLane {
            ring,
            dialect,
            call,
            out: vec![false; slots.into()],
            in_flight: 0,
            registered,
            ranges,
            is_awake: false,
            is_asked: false,
            broken: None,
            _region: region,
        })
    }

    /// Whether the kernel knows the payload memory beforehand, which is faster. It does not when it may not lock as
    /// much.
    pub(super) fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    fn memory(&self, slot: u16, data: Data<'_>) -> Memory {
        match data {
            Data::None => Memory::default(),
            // A lease is far shorter than 4 GiB.
            Data::Payload(lease, len) => Memory {
                address: lease.slice(0, len as usize).ptr_guard_mut().as_ptr() as u64,
                len: len as u32,
                is_registered: self.has_registered(lease),
            },
            Data::Range(range) => {
                // There is one for each slot.
                let place = self.ranges.slice(usize::from(slot) * RANGE_BYTES, RANGE_BYTES);
                place.map_or_else(Memory::default, |place| {
                    place.copy_from(&range.map(u32::to_le));
                    Memory {
                        address: place.ptr_guard_mut().as_ptr() as u64,
                        len: RANGE_BYTES as u32,
                        is_registered: false,
                    }
                })
            }
        }
    }

    fn has_registered(&self, lease: &Lease) -> bool {
        let begin = lease.region_offset();
        self.registered.is_some_and(|(from, to)| from <= begin && begin + lease.len() <= to)
    }

    fn push(&mut self, slot: u16, command: &Command, memory: Memory) {
        let entry = passthrough::entry(command, memory, slot.into());
        // SAFETY: the memory is that of the slot's lease or of its range, and `out` tells that no other command of
        // this slot is with the kernel. See the head of this file for how long both stay.
        let queued = unsafe { self.ring.push(&entry) };
        debug_assert!(queued, "a submission queue has a place for every slot");
    }

    /// Takes a completion that is in the queue: the slot and the result.
    ///
    /// # Errors
    /// There was no such command.
    fn take(&mut self) -> Result<Option<(u16, i32)>, Lie> {
        let Some((user_data, result)) = self.ring.next() else { return Ok(None) };
        let slot = u16::try_from(user_data).ok();
        let out = slot.and_then(|slot| self.out.get_mut(usize::from(slot)));
        let (Some(slot), Some(out @ true)) = (slot, out) else {
            return Err(Lie(format!("the kernel ended command {user_data}, which it does not have")));
        };
        *out = false;
        self.in_flight -= 1;
        Ok(Some((slot, result)))
    }

    /// Lets the kernel bring what it has. `false`: it was asked already, or has nothing.
    fn ask(&mut self) -> bool {
        let is_worth_it = match self.call {
            Some(_) => self.ring.has_deferred(),
            None => self.in_flight > 0,
        };
        if std::mem::take(&mut self.is_asked) || !is_worth_it {
            return false;
        }
        self.ring.fetch_deferred();
        self.is_asked = true;
        true
    }

    fn judge(&self, slot: u16, result: i32) -> Verdict {
        match result {
            // The upper bits of a status are not used.
            0.. => self.dialect.verdict(slot, Status::from_passthrough(result as u16)),
            _ if [libc::EINTR, libc::EAGAIN].contains(&-result) => Dialect::cancelled(),
            _ => {
                tracing::debug!(
                    slot,
                    "the kernel refused a command: {}",
                    io::Error::from_raw_os_error(-result)
                );
                Verdict::Failed(Errno::from_raw(-result))
            }
        }
    }

    fn submit(&mut self) {
        if !self.is_awake {
            // Here, because this is the first time that the thread of the queue calls.
            match self.ring.wake() {
                Ok(()) => self.is_awake = true,
                Err(cause) => self.broken = Some(format!("the ring does not wake: {cause}")),
            }
        }
        if let Err(cause) = self.ring.submit() {
            self.broken = Some(format!("the ring takes no commands: {cause}"));
        }
    }
}

impl Lane for UringLane {
    fn slots(&self) -> u16 {
        // It was made of such a number.
        self.out.len() as u16
    }

    fn send(&mut self, slot: u16, errand: Errand<'_>) {
        let (command, data) = self.dialect.command(errand);
        let memory = self.memory(slot, data);
        if let Some(out @ false) = self.out.get_mut(usize::from(slot)) {
            *out = true;
            self.in_flight += 1;
            self.push(slot, &command, memory);
        }
    }

    fn publish(&mut self) -> bool {
        if self.broken.is_some() || !self.ring.has_unsubmitted() {
            return false;
        }
        self.submit();
        true
    }

    fn next_ended(&mut self) -> Result<Option<Ended>, Lie> {
        if let Some(reason) = &self.broken {
            return Err(Lie(reason.clone()));
        }
        let taken = match self.take()? {
            None if self.ask() => self.take()?,
            taken => taken,
        };
        Ok(taken.map(|(slot, result)| Ended { slot, verdict: self.judge(slot, result) }))
    }

    fn arm(&mut self) -> bool {
        // What the kernel did not take is offered again.
        self.ring.arm() || self.broken.is_some() || self.ring.has_unsubmitted()
    }

    fn disarm(&mut self) {
        self.ring.disarm();
    }

    fn call(&self) -> Option<&Arc<EventFd>> {
        self.call.as_ref()
    }
}

impl Drop for UringLane {
    /// Waits for the commands, so that no lease is given back while the device may still use it.
    fn drop(&mut self) {
        let started = Instant::now();
        if self.in_flight > 0 {
            self.submit();
        }
        while self.in_flight > 0 && started.elapsed() < LONGEST_FAREWELL {
            while matches!(self.take(), Ok(Some(_))) {}
            if self.in_flight > 0 {
                self.ring.wait(Duration::from_millis(100));
            }
        }
        if self.in_flight > 0 {
            tracing::error!("{} commands to a disk did not end; their memory is given up", self.in_flight);
            // The kernel holds on to the pages of payloads, and these stay where they are.
            std::mem::forget(self.ranges.clone());
        }
    }
}
