//! [`Lies`]: what a controller says that is not so.

/// Asks for the health log, not for something to be identified.
pub(super) const HEALTH: u32 = 0x100;

/// A register that shows something else.
#[derive(Clone, Copy, Debug)]
struct Shown {
    at: usize,
    value: u32,
    times: u32,
}

/// What is not so.
#[derive(Debug, Default)]
pub(super) struct Lies {
    registers: Vec<Shown>,
    /// What is asked for, a place in the answer, and the byte there.
    answers: Vec<(u32, usize, u8)>,
    /// The answer to how many queues there may be.
    pub(super) granted: Option<u32>,
}

impl Lies {
    /// From now on the register at `at` reads as `value`, so many times.
    pub(super) fn show(&mut self, at: usize, value: u32, times: u32) {
        self.registers.push(Shown { at, value, times });
    }

    /// From now on the answer to `what` has this byte in this place.
    pub(super) fn say(&mut self, what: u32, at: usize, byte: u8) {
        self.answers.push((what, at, byte));
    }

    /// What a register that has this value shows.
    pub(super) fn register(&mut self, at: usize, value: u32) -> u32 {
        self.registers.retain(|shown| shown.times > 0);
        match self.registers.iter_mut().find(|shown| shown.at == at) {
            Some(shown) => {
                shown.times -= 1;
                shown.value
            }
            None => value,
        }
    }

    /// Puts the lies into an answer.
    pub(super) fn answer(&self, what: u32, answer: &mut [u8]) {
        for (_, at, byte) in self.answers.iter().filter(|(about, ..)| *about == what) {
            if let Some(place) = answer.get_mut(*at) {
                *place = *byte;
            }
        }
    }
}
