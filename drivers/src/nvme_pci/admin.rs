//! [`Admin`]: commands of administration, one after the other.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::controller::{Controller, State};
use super::doorbells::Shadow;
use super::memory::{Layout, PairMemory};
use super::pair::{Completed, Pair};
use crate::error::Error;
use crate::nvme::command::{Command, DataPointer};
use crate::nvme::disk::Ask;
use crate::nvme::identify::Answer;
use crate::nvme::spec::ANSWER_BYTES;
use crate::sys::mmap::Mapping;

/// Entries of the admin queues.
const ENTRIES: u16 = 32;

/// Pages behind the queues: answers, shadow doorbells, values at which the controller wants to be told of them.
const ANSWERS: usize = 0;
const DOORBELLS: usize = 1;
const EVENTS: usize = 2;
const PAGES: usize = 3;

/// The admin queues, with memory for answers.
pub(super) struct Admin {
    controller: Arc<Controller>,
    pair: Pair,
    mapping: Arc<Mapping>,
    /// What the controller calls the beginning of the mapping.
    address: u64,
    /// A command did not end as commands do, so nothing else is to be asked.
    is_stuck: bool,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("controller", &self.controller).finish_non_exhaustive()
    }
}

fn layout(controller: &Controller) -> Layout {
    let entries = ENTRIES.min(controller.capabilities.entries_max.min(ENTRIES.into()) as u16);
    Layout { entries, list_entries: 1, page_bytes: controller.capabilities.page_bytes }
}

/// Length of the memory for the admin queues and all that belongs to them.
pub(super) fn len_bytes(controller: &Controller) -> usize {
    layout(controller).len_bytes() + PAGES * controller.capabilities.page_bytes
}

impl Admin {
    /// Starts the controller with admin queues in fresh memory, which it sees at `address`.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(
        controller: Arc<Controller>,
        mapping: Arc<Mapping>,
        address: u64,
    ) -> Result<Admin, Error> {
        let layout = layout(&controller);
        let memory = PairMemory::new(mapping.clone(), 0, address, layout);
        let (submissions, completions) = memory.queues();
        controller.enable(submissions, completions, layout.entries)?;
        let pair = Pair::new(memory, controller.doorbells(0, None)?);
        Ok(Admin { controller, pair, mapping, address, is_stuck: false })
    }

    /// Where a page behind the queues begins in the mapping.
    fn page(&self, page: usize) -> usize {
        layout(&self.controller).len_bytes() + page * self.controller.capabilities.page_bytes
    }

    /// Runs a command without data. Returns what it answers.
    ///
    /// # Errors
    /// It fails, or does not end. `what` is what was to be done, for messages.
    pub(super) fn run(&mut self, what: &str, command: &Command, data: DataPointer) -> Result<u32, Error> {
        // One at a time: a command that never ends is the last one.
        if self.is_stuck {
            let name = self.controller.name();
            return Err(Error::device(format!("{name} does not {what}: it did not answer before")));
        }
        self.is_stuck = true;
        self.pair.send(0, command, data);
        self.pair.publish();
        let started = Instant::now();
        loop {
            let name = self.controller.name();
            match self.pair.next_completion() {
                Ok(Some(Completed { status, answer, .. })) => {
                    self.pair.publish();
                    self.is_stuck = false;
                    return match status.is_success() {
                        true => Ok(answer),
                        false => Err(Error::device(format!("{name} does not {what}: {status}"))),
                    };
                }
                Ok(None) => {}
                Err(lie) => return Err(Error::device(format!("{name} broke the rules of its queue: {lie}"))),
            }
            if self.controller.state() != State::Fine || started.elapsed() > self.controller.patience.admin {
                return Err(Error::device(format!("{name} does not {what}: it does not answer")));
            }
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// Whether a command did not end as commands do.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Puts a queue there, in contiguous memory.
    ///
    /// # Errors
    /// As of [`Admin::run`].
    pub(super) fn create(&mut self, command: &Command, address: u64) -> Result<(), Error> {
        self.run("make a queue", command, DataPointer { prp1: address, prp2: 0 }).map(|_| ())
    }

    /// Has the controller look for doorbells in memory.
    ///
    /// # Errors
    /// As of [`Admin::run`].
    pub(super) fn shadow_doorbells(&mut self) -> Result<Shadow, Error> {
        let (doorbells_at, events_at) = (self.page(DOORBELLS), self.page(EVENTS));
        let data =
            DataPointer { prp1: self.address + doorbells_at as u64, prp2: self.address + events_at as u64 };
        self.run("take doorbells in memory", &Command::doorbell_buffer_config(), data)?;
        Ok(Shadow { mapping: self.mapping.clone(), doorbells_at, events_at })
    }
}

impl Ask for Admin {
    fn ask(&mut self, what: &str, command: &Command) -> Result<Box<Answer>, Error> {
        let at = self.page(ANSWERS);
        let data = DataPointer { prp1: self.address + at as u64, prp2: 0 };
        self.run(what, command, data)?;
        let mut answer = Box::new([0; ANSWER_BYTES]);
        if let Some(slice) = self.mapping.slice(at, ANSWER_BYTES) {
            slice.copy_to(&mut answer[..]);
        }
        Ok(answer)
    }
}
