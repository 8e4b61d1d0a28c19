//! [`Pair`]: a submission and a completion queue (Base 2.0c, section 3.3 "NVM Queue Models").

use super::doorbells::{Doorbells, Which};
use super::memory::PairMemory;
use crate::device::lane::Lie;
use crate::nvme::command::{Command, DataPointer};
use crate::nvme::status::Status;

/// Bits of a command's number that are its slot; the others are the slot's generation.
const SLOT_BITS: u32 = 10;

/// Most entries of a queue of ours.
pub(super) const ENTRIES_MAX: u16 = 1 << SLOT_BITS;

/// A pair of queues. What the controller has said so far is kept here; its memory is never read twice.
pub(super) struct Pair {
    pub(super) memory: PairMemory,
    doorbells: Doorbells,
    tail: u16,
    head: u16,
    /// What the phase bit of the next completion is.
    phase: bool,
    /// The number of each slot's command, and whether it is with the controller.
    numbers: Vec<(u16, bool)>,
}

/// A completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completed {
    pub(super) slot: u16,
    pub(super) status: Status,
    /// What the command answers.
    pub(super) answer: u32,
}

impl Pair {
    /// A pair of fresh queues, all zeroes.
    pub(super) fn new(memory: PairMemory, doorbells: Doorbells) -> Pair {
        // There are at most 2^10 slots.
        let numbers = (0..memory.layout.slots()).map(|slot| (slot, false)).collect();
        Pair { memory, doorbells, tail: 0, head: 0, phase: true, numbers }
    }

    /// Puts a command into the submission queue, for a slot that has none with the controller. It is seen after
    /// [`Pair::publish`].
    pub(super) fn send(&mut self, slot: u16, command: &Command, data: DataPointer) {
        let (number, is_out) = &mut self.numbers[usize::from(slot)];
        // A completion that comes twice names the generation before.
        *number = number.wrapping_add(ENTRIES_MAX);
        *is_out = true;
        self.memory.store_command(self.tail, &command.encode(*number, data));
        self.tail = self.next(self.tail);
    }

    /// Shows the controller what was sent and taken. Returns whether it had to be told of commands.
    pub(super) fn publish(&mut self) -> bool {
        if self.doorbells.values[Which::Head as usize] != self.head {
            self.doorbells.ring(Which::Head, self.head);
        }
        self.doorbells.values[Which::Tail as usize] != self.tail
            && self.doorbells.ring(Which::Tail, self.tail)
    }

    /// Whether a completion waits to be taken.
    pub(super) fn has_completion(&self) -> bool {
        (self.memory.load_completion_end(self.head) >> 16 & 1 == 1) == self.phase
    }

    /// The next completion.
    ///
    /// # Errors
    /// It names a command that is not with the controller.
    pub(super) fn next_completion(&mut self) -> Result<Option<Completed>, Lie> {
        let end = self.memory.load_completion_end(self.head);
        if (end >> 16 & 1 == 1) != self.phase {
            return Ok(None);
        }
        let answer = self.memory.load_completion_answer(self.head);
        self.head = self.next(self.head);
        self.phase ^= self.head == 0;
        let (number, status) = (end as u16, Status::from_completion((end >> 16) as u16));
        let slot = number % ENTRIES_MAX;
        match self.numbers.get_mut(usize::from(slot)) {
            Some((known, is_out)) if *known == number && *is_out => {
                *is_out = false;
                Ok(Some(Completed { slot, status, answer }))
            }
            _ => Err(Lie(format!("it ended command {number:#06x}, which it does not have"))),
        }
    }

    fn next(&self, entry: u16) -> u16 {
        (entry + 1) % self.memory.layout.entries
    }
}
