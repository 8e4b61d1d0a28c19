//! [`Pair`]: a submission and a completion queue with their doorbells (Base 2.0c, section 3.3; annex B.5).

use std::collections::HashSet;
use std::sync::atomic::{Ordering, fence};

use vm_memory::Bytes;

use super::command::{COMMAND_BYTES, Command};
use crate::testing::device_ring::{DeviceMemory, Violation};

/// Length of a completion.
pub(super) const COMPLETION_BYTES: usize = 16;

/// Doorbells in memory, and where the controller says at which values it wants to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shadow {
    pub(super) doorbells: u64,
    pub(super) events: u64,
}

/// One queue of a pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    pub(super) address: u64,
    pub(super) entries: u32,
}

/// A pair of queues of the same number.
#[derive(Debug)]
pub(super) struct Pair {
    number: u16,
    submissions: Option<Ring>,
    completions: Ring,
    /// Its interrupt.
    pub(super) vector: Option<u16>,
    /// Where commands are fetched next, and how far the driver has told of them.
    head: u32,
    tail: u32,
    /// Where completions are written next, and how far the driver has taken them.
    end: u32,
    taken: u32,
    phase: bool,
    /// There are completions in it that no command had: the driver may have taken them for others.
    pub(super) is_forged: bool,
    /// Commands that have not ended.
    under_way: HashSet<u16>,
    /// Its doorbells in memory: tail, head.
    shadow: Option<[(u64, u64); 2]>,
}

impl Pair {
    pub(super) fn new(number: u16, completions: Ring, vector: Option<u16>) -> Pair {
        Pair {
            number,
            submissions: None,
            completions,
            vector,
            head: 0,
            tail: 0,
            end: 0,
            taken: 0,
            phase: true,
            is_forged: false,
            under_way: HashSet::new(),
            shadow: None,
        }
    }

    /// Where the queues of commands and of completions lie, if both are there and have the same length.
    pub(super) fn rings(&self) -> Option<(Ring, Ring)> {
        let submissions = self.submissions?;
        (submissions.entries == self.completions.entries).then_some((submissions, self.completions))
    }

    pub(super) fn has_submissions(&self) -> bool {
        self.submissions.is_some()
    }

    pub(super) fn set_submissions(&mut self, ring: Ring) {
        self.submissions = Some(ring);
    }

    /// Looks for doorbells in memory from now on, at these places behind the beginnings.
    pub(super) fn set_shadow(&mut self, shadow: Shadow, places: [u64; 2]) {
        self.shadow = Some(places.map(|place| (shadow.doorbells + place, shadow.events + place)));
    }

    /// A doorbell was written: of the tail (0), or the head (1).
    ///
    /// # Errors
    /// That cannot be.
    pub(super) fn ring(
        &mut self,
        memory: &dyn DeviceMemory,
        which: usize,
        value: u32,
    ) -> Result<(), Violation> {
        match (which, self.shadow) {
            (_, Some(places)) => self.look(memory, which, places[which].0),
            (0, None) => self.set_tail(value),
            (_, None) => self.set_taken(value),
        }
    }

    fn look(&mut self, memory: &dyn DeviceMemory, which: usize, at: u64) -> Result<(), Violation> {
        let value = load(memory, at)?;
        if which == 0 { self.set_tail(value) } else { self.set_taken(value) }
    }

    fn set_tail(&mut self, value: u32) -> Result<(), Violation> {
        let number = self.number;
        let Some(ring) = self.submissions.filter(|ring| value < ring.entries) else {
            return Err(Violation(format!("the tail of queue {number} is set to {value}")));
        };
        let distance = |from: u32, to: u32| (to + ring.entries - from) % ring.entries;
        if distance(self.head, self.tail) + distance(self.tail, value) >= ring.entries {
            return Err(Violation(format!("queue {number} gets more commands than it holds")));
        }
        self.tail = value;
        Ok(())
    }

    fn set_taken(&mut self, value: u32) -> Result<(), Violation> {
        let entries = self.completions.entries;
        let distance = |from: u32, to: u32| (to + entries - from) % entries;
        let is_taken = distance(self.taken, value) <= distance(self.taken, self.end) || self.is_forged;
        if value >= entries || !is_taken {
            let number = self.number;
            return Err(Violation(format!("the head of queue {number} is set to {value}")));
        }
        self.taken = value;
        Ok(())
    }

    /// The next command that the driver told of. When there is none, the driver is asked to tell of the next one, if
    /// doorbells lie in memory.
    ///
    /// # Errors
    /// The queue is not as it must be.
    pub(super) fn fetch(&mut self, memory: &dyn DeviceMemory) -> Result<Option<Command>, Violation> {
        let Some(ring) = self.submissions else { return Ok(None) };
        if self.head == self.tail
            && let Some([(doorbell, event), _]) = self.shadow
        {
            store(memory, event, self.tail)?;
            // Either the driver sees the event, or this sees the doorbell.
            fence(Ordering::SeqCst);
            self.look(memory, 0, doorbell)?;
        }
        if self.head == self.tail {
            return Ok(None);
        }
        let mut bytes = [0; COMMAND_BYTES];
        let at = ring.address + u64::from(self.head) * COMMAND_BYTES as u64;
        memory.slice(at, COMMAND_BYTES).ok_or_else(|| no_memory(at))?.copy_to(&mut bytes[..]);
        self.head = (self.head + 1) % ring.entries;
        let command = Command::decode(&bytes)?;
        if !self.under_way.insert(command.id()) && !self.is_forged {
            return Err(Violation(format!("command {:#06x} is under way already", command.id())));
        }
        Ok(Some(command))
    }

    /// Ends a command with a status (without the phase) and an answer.
    ///
    /// # Errors
    /// There is no room.
    pub(super) fn end(
        &mut self,
        memory: &dyn DeviceMemory,
        id: u16,
        status: u16,
        answer: u32,
    ) -> Result<(), Violation> {
        self.under_way.remove(&id);
        let next = (self.end + 1) % self.completions.entries;
        if next == self.taken
            && let Some([_, (doorbell, _)]) = self.shadow
        {
            self.look(memory, 1, doorbell)?;
        }
        if next == self.taken && self.is_forged {
            return Ok(());
        }
        if next == self.taken {
            return Err(Violation(format!("completion queue {} has no room", self.number)));
        }
        let at = self.completions.address + u64::from(self.end) * COMPLETION_BYTES as u64;
        store(memory, at, answer)?;
        store(memory, at + 4, 0)?;
        store(memory, at + 8, self.head | u32::from(self.number) << 16)?;
        let half = u32::from(status << 1 | u16::from(self.phase));
        store(memory, at + 12, u32::from(id) | half << 16)?;
        self.end = next;
        self.phase ^= next == 0;
        Ok(())
    }
}

impl Pair {
    /// Where the next completion is written.
    pub(super) fn written(&self) -> u32 {
        self.end
    }

    /// Writes a dword of a completion, wherever it is.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn scribble(
        &mut self,
        memory: &dyn DeviceMemory,
        at: usize,
        value: u32,
    ) -> Result<(), Violation> {
        self.is_forged = true;
        let dwords = self.completions.entries as usize * COMPLETION_BYTES / 4;
        store(memory, self.completions.address + (at % dwords * 4) as u64, value)
    }
}

fn load(memory: &dyn DeviceMemory, address: u64) -> Result<u32, Violation> {
    let slice = memory.slice(address, 4).ok_or_else(|| no_memory(address))?;
    slice.load(0, Ordering::Acquire).map(u32::from_le).map_err(|_| no_memory(address))
}

fn store(memory: &dyn DeviceMemory, address: u64, value: u32) -> Result<(), Violation> {
    let slice = memory.slice(address, 4).ok_or_else(|| no_memory(address))?;
    slice.store(value.to_le(), 0, Ordering::Release).map_err(|_| no_memory(address))
}

fn no_memory(address: u64) -> Violation {
    Violation(format!("{address:#x} is no memory, or not aligned"))
}
