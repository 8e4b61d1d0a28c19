//! [`State`]: the controller, between the registers and the memory.

use std::collections::{BTreeMap, VecDeque};
use std::thread;
use std::time::Instant;

use super::command::Command;
use super::io::Disks;
use super::kind::{Fault, Kind};
use super::lies::Lies;
use super::mishap::{self, Act, Mishap};
use super::queues::{Pair, Ring, Shadow};
use super::registers::{Effect, Properties};
use crate::testing::bus::{Bus, Chip, Space, Work};
use crate::testing::device_ring::Violation;

/// Where doorbells begin.
pub(super) const DOORBELLS_AT: usize = 0x1000;

/// The queues of administration.
const ADMIN: u16 = 0;

/// How long a controller that does not stop goes on, in times of a change.
const LATE: u32 = 32;

/// A number that no command has: the driver's numbers have no such slot in these tests.
const STRANGER: u16 = 0xffff;

/// The controller.
pub(super) struct State {
    pub(super) kind: Kind,
    pub(super) bus: Bus,
    pub(super) properties: Properties,
    pub(super) pairs: BTreeMap<u16, Pair>,
    pub(super) shadow: Option<Shadow>,
    pub(super) disks: Disks,
    /// Queues that the driver told of.
    kicked: VecDeque<u16>,
    pub(super) mishaps: Vec<Mishap>,
    /// What becomes of commands of administration.
    pub(super) admin_mishaps: Vec<Mishap>,
    pub(super) lies: Lies,
    late: Vec<(Instant, u16, Command)>,
    /// What it never does.
    pub(super) held: Vec<(u16, Command)>,
    pub(super) was_shut_down: bool,
    pub(super) starts: u32,
    /// Fetched: of administration, others.
    pub(super) commands: [u64; 2],
    pub(super) kicks: u64,
    /// Completions that nobody waits for, which single commands led to.
    pub(super) strangers: u64,
}

impl State {
    pub(super) fn new(kind: Kind) -> State {
        let mut space = match kind.fault {
            Fault::NotThere => Space::nobody(),
            _ => Space::new((0x1b36, 0x0010)),
        };
        if kind.fault != Fault::NotThere {
            space.put(9, &kind.class);
        }
        State {
            kind,
            bus: Bus::new(space, kind.vectors),
            properties: Properties::new(kind),
            pairs: BTreeMap::new(),
            shadow: None,
            disks: Disks::new(kind),
            kicked: VecDeque::new(),
            mishaps: Vec::new(),
            admin_mishaps: Vec::new(),
            lies: Lies::default(),
            late: Vec::new(),
            held: Vec::new(),
            was_shut_down: false,
            starts: 0,
            commands: [0; 2],
            kicks: 0,
            strangers: 0,
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.kind.fault = fault;
        self.properties.fault(fault);
    }

    pub(super) fn go_fatal(&mut self) {
        self.properties.go_fatal();
    }

    pub(super) fn halt(&mut self) {
        self.properties.reset();
        self.properties.is_excused = true;
        self.forget();
    }

    /// Places of a pair's doorbells behind the first one: tail, head.
    pub(super) fn places(&self, queue: u16) -> [u64; 2] {
        let stride = 4_u64 << self.kind.stride_exponent;
        [0, 1].map(|which| (2 * u64::from(queue) + which) * stride)
    }

    fn forget(&mut self) {
        self.pairs.clear();
        self.shadow = None;
        self.kicked.clear();
        self.late.clear();
        self.held.clear();
    }

    fn start(&mut self) {
        self.starts += 1;
        self.was_shut_down = false;
        self.forget();
        let [submissions, completions] =
            self.properties.queues().map(|(address, entries)| Ring { address, entries });
        let mut pair = Pair::new(ADMIN, completions, Some(0));
        pair.set_submissions(submissions);
        self.pairs.insert(ADMIN, pair);
    }

    /// Stops, unless it does not.
    fn stop(&mut self, by_function: bool) {
        match self.kind.fault {
            Fault::NeverStops => {}
            Fault::StopsByReset if !by_function => {}
            _ => self.forget(),
        }
    }

    /// Does what was held after all, whether it may reach memory or not.
    fn do_held(&mut self) {
        self.bus.dma.is_on = true;
        for (_, command) in std::mem::take(&mut self.held).into_iter().filter(|(queue, _)| *queue != ADMIN) {
            let done = self.disks.serve(&self.bus.dma, &command);
            self.bus.note(done);
        }
    }

    fn ring(&mut self, at: usize, value: u32) -> Result<(), Violation> {
        let index = at / (4 << self.kind.stride_exponent);
        let (queue, which) = ((index / 2) as u16, index % 2);
        if !at.is_multiple_of(4 << self.kind.stride_exponent) {
            return Err(Violation(format!("{at:#x} of the doorbells is written")));
        }
        if !self.properties.is_running() {
            let is_excused = self.properties.is_excused || self.was_shut_down;
            let told =
                Violation(format!("a doorbell of queue {queue} is rung when the controller is stopped"));
            return if is_excused { Ok(()) } else { Err(told) };
        }
        let Some(pair) = self.pairs.get_mut(&queue) else {
            return Err(Violation(format!("queue {queue} has no doorbells, as it is not there")));
        };
        pair.ring(self.bus.memory(), which, value)?;
        if which == 0 {
            self.kicks += u64::from(queue != ADMIN);
            self.kicked.push_back(queue);
        }
        Ok(())
    }

    /// Fetches a command and begins it. `false`: there was none.
    fn step(&mut self, queue: u16) -> Result<bool, Violation> {
        let Some(pair) = self.pairs.get_mut(&queue) else { return Ok(false) };
        let Some(command) = pair.fetch(self.bus.memory())? else { return Ok(false) };
        self.commands[usize::from(queue != ADMIN)] += 1;
        if queue == ADMIN && self.kind.fault == Fault::AdminHangs {
            return Ok(true);
        }
        let mishaps = if queue == ADMIN { &mut self.admin_mishaps } else { &mut self.mishaps };
        match mishap::next(mishaps, command.opcode(), command.block()) {
            None => self.do_one(queue, &command)?,
            Some(Act::Status(status)) => self.end(queue, command.id(), status, 0)?,
            Some(Act::Late(time)) => self.late.push((Instant::now() + time, queue, command)),
            Some(Act::Hold) => self.held.push((queue, command)),
            Some(Act::Twice) => {
                self.do_one(queue, &command)?;
                self.intrude(queue, command.id())?;
            }
            Some(Act::Stranger) => {
                self.intrude(queue, STRANGER)?;
                self.do_one(queue, &command)?;
            }
        }
        Ok(true)
    }

    pub(super) fn do_one(&mut self, queue: u16, command: &Command) -> Result<(), Violation> {
        let (status, answer) = match queue {
            ADMIN => self.administrate(command)?,
            _ => (self.disks.serve(self.bus.memory(), command)?, 0),
        };
        self.end(queue, command.id(), status, answer)
    }

    /// A completion that nobody waits for. It is counted if there is room for it.
    fn intrude(&mut self, queue: u16, id: u16) -> Result<(), Violation> {
        let written = |state: &State| state.pairs.get(&queue).map(Pair::written);
        let before = written(self);
        self.forge(queue, id, 0)?;
        self.strangers += u64::from(queue != ADMIN && written(self) != before);
        Ok(())
    }

    /// A completion that the driver may not wait for.
    pub(super) fn forge(&mut self, queue: u16, id: u16, status: u16) -> Result<(), Violation> {
        if let Some(pair) = self.pairs.get_mut(&queue) {
            pair.is_forged = true;
        }
        self.end(queue, id, status, 0)
    }

    fn end(&mut self, queue: u16, id: u16, status: u16, answer: u32) -> Result<(), Violation> {
        let Some(pair) = self.pairs.get_mut(&queue) else { return Ok(()) };
        pair.end(self.bus.memory(), id, status, answer)?;
        if let Some(vector) = pair.vector {
            self.bus.call(vector);
        }
        Ok(())
    }

    /// Does a command that is late, if it is time.
    fn do_late(&mut self) -> Option<Result<(), Violation>> {
        let index = self.late.iter().position(|(when, ..)| *when <= Instant::now())?;
        let (_, queue, command) = self.late.remove(index);
        Some(self.do_one(queue, &command))
    }

    /// A driver that breaks the rules is not served any more.
    pub(super) fn judge<T>(&mut self, done: Result<T, Violation>) -> Option<T> {
        let noted = self.bus.note(done);
        if noted.is_none() {
            self.properties.go_fatal();
        }
        noted
    }
}

impl Chip for State {
    const NAME: &'static str = "the NVMe controller of a test";
    const BAR: u8 = 0;
    const BAR_BYTES: usize = 0x4000;

    fn bus(&mut self) -> &mut Bus {
        &mut self.bus
    }

    fn load(&mut self, at: usize, width: usize) -> u32 {
        if matches!(self.kind.fault, Fault::NotThere | Fault::NoRegisters) || !self.bus.answers() {
            return u32::MAX;
        }
        let value = match width {
            4 => self.properties.load(at).map(|value| self.lies.register(at, value)),
            _ => Err(Violation(format!("{width} bytes of the registers are read at {at:#x}"))),
        };
        self.bus.note(value).unwrap_or(u32::MAX)
    }

    fn store(&mut self, at: usize, width: usize, value: u32) {
        if matches!(self.kind.fault, Fault::NotThere | Fault::NoRegisters) || !self.bus.answers() {
            return;
        }
        let effect = match (at, width) {
            (DOORBELLS_AT.., 4) => self.ring(at - DOORBELLS_AT, value).map(|()| Effect::Nothing),
            (_, 4) => self.properties.store(at, value),
            _ => Err(Violation(format!("{width} bytes of the registers are written at {at:#x}"))),
        };
        match self.bus.note(effect) {
            Some(Effect::Start) => self.start(),
            Some(Effect::Stop) => self.stop(false),
            Some(Effect::Shutdown) => self.was_shut_down = true,
            Some(Effect::Nothing) | None => {}
        }
    }

    fn work(&mut self) -> Work {
        if !self.properties.is_running() {
            return Work::Wait(None);
        }
        if let Some(done) = self.do_late() {
            let _ = self.judge(done);
            return Work::Done;
        }
        let Some(queue) = self.kicked.front().copied() else {
            let next = self.late.iter().map(|(when, ..)| *when).min();
            return Work::Wait(next.map(|when| when.saturating_duration_since(Instant::now())));
        };
        let done = self.step(queue);
        if self.judge(done) != Some(true) {
            self.kicked.pop_front();
        }
        Work::Done
    }

    fn reset(&mut self) {
        if self.kind.fault != Fault::NeverStops {
            self.properties.reset();
        }
        self.stop(true);
    }

    fn refuses_maps(&self) -> bool {
        self.kind.fault == Fault::NoMaps
    }

    fn released(&mut self) {
        if self.kind.fault == Fault::NeverStops {
            // Late enough for whoever gave it up to have taken the memory back.
            thread::sleep(self.kind.change * LATE);
            self.do_held();
        }
        self.forget();
    }
}
