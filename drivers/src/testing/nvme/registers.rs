//! [`Properties`]: what a controller shows in its registers (Base 2.0c, section 3.1.3), with the rules of starting and
//! stopping it (sections 3.5 to 3.7).

use std::time::Instant;

use super::kind::{Fault, Kind};
use crate::testing::device_ring::Violation;

/// Bits of the configuration.
const ENABLE: u32 = 1;
const SHUTDOWN: u32 = 3 << 14;
/// Entries of 64 and of 16 bytes, pages of 4096, the NVM command set.
const SIZES: u32 = 6 << 16 | 4 << 20;

/// Bits of the status.
const READY: u32 = 1;
const FATAL: u32 = 2;
const SHUTDOWN_COMPLETE: u32 = 2 << 2;

/// What a write asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Start,
    Stop,
    Shutdown,
}

/// The properties that can change.
#[derive(Debug)]
pub(super) struct Properties {
    kind: Kind,
    configuration: u32,
    /// Ready, or fatal.
    status: u32,
    /// When it follows the configuration.
    changes: Option<Instant>,
    /// It has stopped, or does nothing, by itself: whoever rings its doorbells may not know.
    pub(super) is_excused: bool,
    sizes: u32,
    submissions: u64,
    completions: u64,
}

impl Properties {
    /// Of a controller that somebody else has left running.
    pub(super) fn new(kind: Kind) -> Properties {
        Properties {
            kind,
            configuration: SIZES | ENABLE,
            status: READY,
            changes: None,
            is_excused: false,
            sizes: 0,
            submissions: 0,
            completions: 0,
        }
    }

    /// As after a reset of the function.
    pub(super) fn reset(&mut self) {
        *self = Properties { configuration: 0, status: 0, ..Properties::new(self.kind) };
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.kind.fault = fault;
    }

    pub(super) fn go_fatal(&mut self) {
        self.status |= FATAL;
        self.is_excused = true;
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.configuration & ENABLE != 0
    }

    /// Whether commands are served.
    pub(super) fn is_running(&self) -> bool {
        self.configuration & (ENABLE | SHUTDOWN) == ENABLE && self.status & FATAL == 0
    }

    /// Addresses and numbers of entries of the queues of administration: submission, completion.
    pub(super) fn queues(&self) -> [(u64, u32); 2] {
        [(self.submissions, (self.sizes & 0xfff) + 1), (self.completions, (self.sizes >> 16 & 0xfff) + 1)]
    }

    /// # Errors
    /// There is no such register.
    pub(super) fn load(&mut self, at: usize) -> Result<u32, Violation> {
        Ok(match at {
            0x00 => (self.kind.entries - 1) & 0xffff | 1 << 16 | 1 << 24,
            0x04 => {
                let set = if self.kind.fault == Fault::OtherCommandSet { 1 << 11 } else { 1 << 5 };
                u32::from(self.kind.stride_exponent) | set
            }
            0x08 => super::identify::VERSION,
            0x14 => self.configuration,
            0x1c => self.status(),
            0x24 => self.sizes,
            0x28 | 0x2c => half(self.submissions, at),
            0x30 | 0x34 => half(self.completions, at),
            _ => return Err(Violation(format!("{at:#x} of the registers is read"))),
        })
    }

    fn status(&mut self) -> u32 {
        if self.changes.is_some_and(|when| when <= Instant::now()) {
            self.changes = None;
            match self.configuration & ENABLE != 0 {
                true if self.kind.fault == Fault::NeverReady => {}
                true if self.kind.fault == Fault::FatalStart => self.status |= FATAL,
                true => self.status |= READY,
                false => self.status = 0,
            }
        }
        let is_shut = self.configuration & SHUTDOWN != 0 && self.kind.fault != Fault::NeverShutsDown;
        self.status | if is_shut { SHUTDOWN_COMPLETE } else { 0 }
    }

    /// # Errors
    /// There is no such register, or it is not to be written with that now.
    pub(super) fn store(&mut self, at: usize, value: u32) -> Result<Effect, Violation> {
        if at == 0x14 {
            return self.configure(value);
        }
        if self.configuration & ENABLE != 0 || self.status & READY != 0 {
            return Err(Violation(format!(
                "{at:#x} of the registers is written before the controller stopped"
            )));
        }
        match at {
            0x24 => self.sizes = value,
            0x28 | 0x2c => put_half(&mut self.submissions, at, value),
            0x30 | 0x34 => put_half(&mut self.completions, at, value),
            _ => return Err(Violation(format!("{at:#x} of the registers is written"))),
        }
        Ok(Effect::Nothing)
    }

    fn configure(&mut self, value: u32) -> Result<Effect, Violation> {
        let old = std::mem::replace(&mut self.configuration, value);
        let told = |what: &str| {
            Err(Violation(format!("the configuration goes from {old:#x} to {value:#x}: {what}")))
        };
        match (old & ENABLE != 0, value & ENABLE != 0) {
            (false, true) => {
                if self.status() & READY != 0 {
                    return told("it has not stopped yet");
                }
                if value != SIZES | ENABLE {
                    return told("it does not have these sizes");
                }
                self.check_queues()?;
                self.change();
                self.is_excused = false;
                Ok(Effect::Start)
            }
            (true, false) => {
                let is_late = self.kind.fault == Fault::NeverReady;
                if self.status() & (READY | FATAL) == 0 && !is_late && !self.is_excused {
                    return told("it has not started yet");
                }
                if !matches!(self.kind.fault, Fault::NeverStops | Fault::StopsByReset) {
                    self.change();
                }
                Ok(Effect::Stop)
            }
            (true, true) if old & !SHUTDOWN == value & !SHUTDOWN => Ok(Effect::Shutdown),
            (true, true) => told("it runs"),
            (false, false) => Ok(Effect::Nothing),
        }
    }

    fn change(&mut self) {
        self.changes = Some(Instant::now() + self.kind.change);
    }

    fn check_queues(&self) -> Result<(), Violation> {
        for (address, entries) in self.queues() {
            if address == 0 || !address.is_multiple_of(4096) || entries < 2 {
                return Err(Violation(format!("a queue of {entries} entries at {address:#x}")));
            }
        }
        Ok(())
    }
}

/// The half of a word that lies at an offset.
fn half(word: u64, at: usize) -> u32 {
    (word >> (at % 8 * 8)) as u32
}

fn put_half(word: &mut u64, at: usize, value: u32) {
    let shift = at % 8 * 8;
    *word = *word & !(0xffff_ffff << shift) | u64::from(value) << shift;
}
