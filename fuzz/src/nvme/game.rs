//! Controller, driver and caller, step by step.

use drivers::testing::nvme::{ByHand, Fault, NvmeDevice};

use super::caller::Caller;
use super::kind::{CAPACITY_BYTES, kind, settings};
use super::wrongs::{Excuse, commit};
use crate::knobs::Knobs;

/// Most steps of a run.
const STEPS_MAX: usize = 300;

/// Most wrongs before the start.
const WRONGS_MAX: u8 = 4;

const REGION_BYTES: usize = 1 << 20;

/// How often a controller that has become honest is looked after until all has ended. It is restarted at most five
/// times.
const ROUNDS: usize = 12;

pub(super) fn play(knobs: &mut Knobs<'_>) {
    let controller = NvmeDevice::direct(kind(knobs));
    let mut excuse = Excuse::default();
    for _ in 0..knobs.u8() % (WRONGS_MAX + 1) {
        commit(&controller, knobs, &mut excuse);
    }
    match ByHand::start(&controller, &settings(), REGION_BYTES) {
        Ok(driver) => serve(&controller, driver, knobs, &mut excuse),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(controller.is_released(), "it was let go");
    let violations = controller.violations();
    assert!(excuse.rules || violations.is_empty(), "the driver breaks the rules: {violations:?}");
}

fn serve(controller: &NvmeDevice, driver: ByHand, knobs: &mut Knobs<'_>, excuse: &mut Excuse) {
    let queue = driver.queue().expect("descriptors");
    let caller = Caller::new(queue, driver.region());
    let mut game = Game { controller, driver, caller, restarts: 0 };
    for _ in 0..STEPS_MAX {
        if knobs.0.is_empty() {
            break;
        }
        game.step(knobs, excuse);
    }
    game.finish(excuse);
}

struct Game<'a> {
    controller: &'a NvmeDevice,
    driver: ByHand,
    caller: Caller,
    /// How often it was to be restarted.
    restarts: u32,
}

impl Game<'_> {
    fn step(&mut self, knobs: &mut Knobs<'_>, excuse: &mut Excuse) {
        match knobs.u8() % 16 {
            0..=4 => self.caller.submit(knobs),
            5 | 6 => self.caller.reap(is_honest(excuse)),
            7 => _ = self.caller.queue.arm(),
            8..=10 => commit(self.controller, knobs, excuse),
            11 => self.controller.do_held(usize::from(knobs.u8() % 8)),
            12 | 13 => self.look(excuse),
            14 => {
                self.driver.complain();
                self.look(excuse);
            }
            _ => self.befall(knobs),
        }
    }

    /// What happens to the controller.
    fn befall(&mut self, knobs: &mut Knobs<'_>) {
        match knobs.u8() % 10 {
            0 | 1 => self.controller.go_fatal(),
            2 | 3 => self.controller.halt(),
            4 => self.controller.vanish(),
            5 => self.controller.want_back(),
            6 => self.controller.break_bus(),
            _ => self.controller.resize(CAPACITY_BYTES / 16 * usize::from(knobs.u8() % 32)),
        }
    }

    /// Looks after the controller, as the keeper's thread does.
    fn look(&mut self, excuse: &Excuse) {
        let is_restarted = self.driver.look();
        // The queue gives its lane back, or follows what has become of the controller.
        self.caller.reap(is_honest(excuse));
        if is_restarted {
            self.restarts += 1;
            self.driver.restart();
            self.caller.reap(is_honest(excuse));
        }
        while self.driver.next_event().is_some() {}
        assert!(self.driver.limits().validate().is_ok(), "{:?}", self.driver.limits());
    }

    /// The controller is honest from now on, but for what it holds, and all ends.
    fn finish(mut self, excuse: &Excuse) {
        self.controller.no_mishaps();
        self.controller.no_lies();
        self.controller.fault(Fault::None);
        for round in 0..ROUNDS {
            self.caller.reap(is_honest(excuse));
            self.look(excuse);
            if !self.caller.waits() {
                break;
            }
            if round > 0 {
                self.driver.complain();
            }
        }
        assert!(!self.caller.waits() || !self.driver.is_dead(), "a dead controller ends nothing");
        let is_noticed = self.restarts > 0 || self.driver.is_dead() || !is_honest(excuse);
        assert!(self.controller.strangers() == 0 || is_noticed, "a completion that cannot be was believed");
        self.caller.end(is_honest(excuse));
    }
}

/// Whether what the controller ended it has done, to the memory that it was to use.
fn is_honest(excuse: &Excuse) -> bool {
    *excuse == Excuse::default()
}
