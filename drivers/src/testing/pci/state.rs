//! [`State`]: the device, between the registers and the memory.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::common::{Common, Effect};
use super::config::Config;
use super::kind::{Fault, Kind};
use super::structures::{
    self, BAR, BAR_BYTES, COMMON_AT, COMMON_BYTES, DEVICE_AT, NOTIFY_AT, NOTIFY_MULTIPLIER,
};
use crate::testing::bus::{Bus, Chip, Presence, Work};
use crate::testing::device_ring::{
    Chain, DeviceRing, PackedDevice, QueueSetup, SplitDevice, Violation, serve_all,
};
use crate::testing::ram_disk::RamDisk;

/// How long a slow device takes for a reset.
const SLOW_RESET: Duration = Duration::from_millis(100);

/// A queue that is served.
struct Queue {
    ring: Box<dyn DeviceRing>,
    /// What it does not do before it is reset.
    held: Vec<Chain>,
}

/// The device.
pub(super) struct State {
    pub(super) kind: Kind,
    pub(super) bus: Bus,
    pub(super) common: Common,
    config: Config,
    disk: RamDisk,
    queues: Vec<Option<Queue>>,
    /// Those that the driver told of.
    kicked: VecDeque<usize>,
    /// Taken so far.
    requests: u64,
    has_run: bool,
    /// When a reset that was asked for ends.
    reset_ends: Option<Instant>,
}

impl State {
    pub(super) fn new(kind: Kind, disk: RamDisk) -> State {
        State {
            kind,
            bus: Bus::new(structures::space(&kind), kind.vectors),
            common: Common::new(kind),
            config: Config::new(&kind),
            disk,
            queues: Vec::new(),
            kicked: VecDeque::new(),
            requests: 0,
            has_run: false,
            reset_ends: None,
        }
    }

    /// Whether somebody answers at the registers.
    fn answers(&mut self) -> bool {
        !matches!(self.kind.fault, Fault::NotThere | Fault::NoRegisters) && self.bus.answers()
    }

    fn load_config(&mut self, offset: usize, width: usize) -> Result<u32, Violation> {
        if self.kind.fault == Fault::VanishesWhileRead && self.has_run {
            self.bus.presence = Presence::Gone;
            return Ok(u32::MAX);
        }
        self.config.load(offset, width)
    }

    fn kick(&mut self, at: usize, width: usize, queue: u32) -> Result<(), Violation> {
        if width != 2 || at != queue as usize * NOTIFY_MULTIPLIER {
            return Err(Violation(format!("{width} bytes tell of queue {queue} at {at:#x}")));
        }
        match self.common.is_running() {
            true => self.kicked.push_back(queue as usize),
            // The thread of a queue may not have heard yet that the device is no more in service.
            false if self.has_run => {}
            false => return Err(Violation(format!("queue {queue} is told of before DRIVER_OK"))),
        }
        Ok(())
    }

    fn run(&mut self) {
        self.has_run = true;
        let (is_packed, setups) = self.common.setups();
        let ring = |setup: QueueSetup| -> Box<dyn DeviceRing> {
            match is_packed {
                true => Box::new(PackedDevice::new(setup)),
                false => Box::new(SplitDevice::new(setup)),
            }
        };
        let queue = |setup: Option<QueueSetup>| Some(Queue { ring: ring(setup?), held: Vec::new() });
        self.queues = setups.into_iter().map(queue).collect();
    }

    /// Stops, and forgets everything; what is held may be done first.
    fn reset(&mut self) {
        self.reset_ends = None;
        self.common.reset();
        self.kicked.clear();
        let queues = std::mem::take(&mut self.queues);
        if self.kind.fault == Fault::AnswersLate {
            let _ = self.bus.memory();
            let done = queues.into_iter().flatten().try_for_each(|queue| self.answer(queue));
            self.bus.note(done);
        }
    }

    /// Does what is held.
    fn answer(&self, mut queue: Queue) -> Result<(), Violation> {
        queue.held.iter().try_for_each(|chain| {
            let written = self.disk.serve(&self.bus.dma, chain)?;
            queue.ring.push(&self.bus.dma, chain, written)
        })
    }

    /// The next queue that the driver told of.
    pub(super) fn next_kicked(&mut self) -> Option<usize> {
        self.kicked.pop_front().filter(|_| self.bus.presence == Presence::Here)
    }

    /// Serves a queue until it is empty. A driver that breaks the rules is not served any more.
    pub(super) fn serve(&mut self, index: usize) {
        let Some(mut queue) = self.queues.get_mut(index).and_then(Option::take) else {
            return self
                .bus
                .violations
                .push(Violation(format!("queue {index} is told of, and is not enabled")));
        };
        let done = self.drain(index, &mut queue);
        if self.bus.note(done).is_some() {
            self.queues[index] = Some(queue);
        } else {
            self.common.fail();
        }
    }

    fn drain(&mut self, index: usize, queue: &mut Queue) -> Result<(), Violation> {
        let _ = self.bus.memory();
        let vector = self.common.queue_vector(index);
        let State { kind, bus, disk, requests, .. } = self;
        let dma = &bus.dma;
        let Queue { ring, held } = queue;
        serve_all(&mut **ring, dma, |ring, chain| {
            *requests += 1;
            if *requests > kind.requests() {
                held.push(chain);
                return Ok(());
            }
            let written = disk.serve(dma, &chain)?;
            ring.push(dma, &chain, written)?;
            if ring.is_call_wanted(dma)? && kind.fault != Fault::NoCalls {
                bus.call(vector);
            }
            Ok(())
        })
    }

    /// Tells the driver that the configuration has changed, if it may send interrupts.
    pub(super) fn tell_change(&self) {
        if self.bus.space.is_master() {
            self.bus.call(self.common.changes_vector());
        }
    }

    /// The disk is made longer or shorter, and tells that.
    pub(super) fn resize(&mut self, capacity_bytes: usize) {
        self.disk.resize(capacity_bytes);
        self.tell_sectors(capacity_bytes as u64 / 512);
    }

    /// It tells another capacity.
    pub(super) fn tell_sectors(&mut self, sectors: u64) {
        self.config.set_sectors(sectors);
        self.common.change();
        self.tell_change();
    }
}

impl Chip for State {
    const NAME: &'static str = "the PCI device of a test";
    const BAR: u8 = BAR;
    const BAR_BYTES: usize = BAR_BYTES;

    fn bus(&mut self) -> &mut Bus {
        &mut self.bus
    }

    fn load(&mut self, at: usize, width: usize) -> u32 {
        if !self.answers() {
            return u32::MAX;
        }
        if self.reset_ends.is_some_and(|end| end <= Instant::now()) {
            self.reset();
        }
        let value = match at {
            COMMON_AT..COMMON_BYTES => self.common.load(at - COMMON_AT, width),
            DEVICE_AT..NOTIFY_AT => self.load_config(at - DEVICE_AT, width),
            _ => Err(Violation(format!("{width} bytes are read at {at:#x} of the registers"))),
        };
        self.bus.note(value).unwrap_or(u32::MAX)
    }

    fn store(&mut self, at: usize, width: usize, value: u32) {
        if !self.answers() {
            return;
        }
        let effect = match at {
            COMMON_AT..COMMON_BYTES => self.common.store(at - COMMON_AT, width, value),
            NOTIFY_AT..BAR_BYTES => self.kick(at - NOTIFY_AT, width, value).map(|()| Effect::Nothing),
            _ => Err(Violation(format!("{width} bytes are written at {at:#x} of the registers"))),
        };
        match self.bus.note(effect) {
            Some(Effect::Run) => self.run(),
            Some(Effect::Reset) if self.kind.fault == Fault::AnswersLate && self.has_run => {
                self.reset_ends.get_or_insert(Instant::now() + SLOW_RESET);
            }
            Some(Effect::Reset) => self.reset(),
            Some(Effect::Nothing) | None => {}
        }
    }

    fn work(&mut self) -> Work {
        match self.next_kicked() {
            Some(queue) => self.serve(queue),
            None => return Work::Wait(None),
        }
        Work::Done
    }

    fn released(&mut self) {
        self.queues.clear();
        self.kicked.clear();
    }

    fn reach(&self) -> &'static [(u64, u64)] {
        match self.kind.fault {
            Fault::ShortReach => &[(0, (1 << 20) - 1)],
            _ => &[(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)],
        }
    }

    fn refuses_maps(&self) -> bool {
        self.kind.fault == Fault::MapRefused
    }
}
