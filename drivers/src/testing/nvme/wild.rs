//! Controllers that do and say what none should, for the driver `nvme-vfio-pci`.

use super::lies::{HEALTH, Lies};
use super::{Mishap, NvmeDevice};

/// The pair of queues that is forged.
const PAIR: u16 = 1;

/// What a controller tells about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What identify commands answer, by the field CNS.
    Identity(u8),
    /// The health log.
    Health,
}

impl NvmeDevice {
    /// What is to happen to commands of administration from now on; their first blocks are those of dwords 10 and 11.
    pub fn admin_mishap(&self, mishap: Mishap) {
        self.state().admin_mishaps.push(mishap);
    }

    /// The register at `at` reads as `value`, so many times.
    pub fn show(&self, at: usize, value: u32, times: u32) {
        self.state().lies.show(at, value, times);
    }

    /// What it tells about `topic` has this byte in this place.
    pub fn say(&self, topic: Topic, at: usize, byte: u8) {
        let what = match topic {
            Topic::Identity(what) => what.into(),
            Topic::Health => HEALTH,
        };
        self.state().lies.say(what, at, byte);
    }

    /// It grants so many pairs of queues: submission and completion queues in the halves, one less than meant.
    pub fn grant(&self, answer: u32) {
        self.state().lies.granted = Some(answer);
    }

    /// It is honest again.
    pub fn no_lies(&self) {
        let mut state = self.state();
        state.lies = Lies::default();
        state.admin_mishaps.clear();
    }

    /// Completions that nobody waits for, which [`Act::Twice`](super::Act::Twice) and
    /// [`Act::Stranger`](super::Act::Stranger) led to. A driver that believes none of them resets the controller.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.state().strangers
    }

    /// Numbers of the commands that it holds.
    #[must_use]
    pub fn held(&self) -> Vec<u16> {
        self.state().held.iter().map(|(_, command)| command.id()).collect()
    }

    /// Does a command that it holds after all, counted from the first.
    pub fn do_held(&self, index: usize) {
        let mut state = self.state();
        if index < state.held.len() && state.properties.is_running() {
            let (queue, command) = state.held.remove(index);
            let done = state.do_one(queue, &command);
            let _ = state.judge(done);
        }
    }

    /// Ends command `id` of the first pair of queues with this status, whether there is such a command or not. What the
    /// driver does not take for a completion is none: a queue without room stays as it is.
    pub fn forge(&self, id: u16, status: u16) {
        let mut state = self.state();
        if state.properties.is_running() {
            let done = state.forge(PAIR, id, status & 0x7fff);
            let _ = state.judge(done);
        }
    }

    /// Writes dword `at` of the first pair's completion queue, counted around.
    pub fn scribble(&self, at: usize, value: u32) {
        let mut state = self.state();
        if !state.properties.is_running() {
            return;
        }
        let super::State { pairs, bus, .. } = &mut *state;
        let done = pairs.get_mut(&PAIR).map(|pair| pair.scribble(bus.memory(), at, value));
        let _ = done.map(|done| state.judge(done));
    }
}
