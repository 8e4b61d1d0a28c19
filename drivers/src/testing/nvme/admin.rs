//! Commands of administration (Base 2.0c, section 5).

use super::command::{COMMAND_BYTES, Command};
use super::io::{INVALID_FIELD, SUCCESS};
use super::kind::Fault;
use super::queues::{COMPLETION_BYTES, Pair, Ring, Shadow};
use super::state::State;
use super::{identify, lies, prp};
use crate::testing::device_ring::{DeviceMemory, Violation};

/// Statuses: type and code.
const INTERNAL_ERROR: u16 = 0x006;
const INVALID_OPCODE: u16 = 0x001;

impl State {
    /// Does a command. Returns its status and its answer.
    ///
    /// # Errors
    /// It is not as it must be.
    pub(super) fn administrate(&mut self, command: &Command) -> Result<(u16, u32), Violation> {
        if self.kind.fault == Fault::AdminFails(command.opcode()) {
            return Ok((INTERNAL_ERROR, 0));
        }
        let status = match command.opcode() {
            0x01 => self.create_submissions(command)?,
            0x02 => self.log(command)?,
            0x05 => self.create_completions(command)?,
            0x06 => self.identify(command)?,
            0x09 => return self.grant_queues(command),
            0x7c => self.take_shadow(command)?,
            _ => INVALID_OPCODE,
        };
        Ok((status, 0))
    }

    fn identify(&mut self, command: &Command) -> Result<u16, Violation> {
        command.only(10, 0xff)?;
        command.only(11, 0)?;
        let (what, blocks) = (command.dword(10), self.disks.blocks());
        match identify::answer(&self.kind, what, command.namespace(), blocks) {
            Some(mut answer) => {
                self.lies.answer(what, &mut answer);
                prp::write(self.bus.memory(), command.prps(), &answer).map(|()| SUCCESS)
            }
            None => Ok(INVALID_FIELD),
        }
    }

    /// The health log only.
    fn log(&mut self, command: &Command) -> Result<u16, Violation> {
        if command.dword(10) & 0xff != 2 {
            return Ok(INVALID_FIELD);
        }
        let mut log = vec![0; (command.dword(10) >> 16) as usize * 4 + 4];
        // 300 kelvin; spare.
        log[1..4].copy_from_slice(&[0x2c, 1, 100]);
        self.lies.answer(lies::HEALTH, &mut log);
        prp::write(self.bus.memory(), command.prps(), &log).map(|()| SUCCESS)
    }

    fn grant_queues(&mut self, command: &Command) -> Result<(u16, u32), Violation> {
        if command.dword(10) != 7 {
            return Ok((INVALID_FIELD, 0));
        }
        if self.pairs.len() > 1 {
            return Err(Violation("queues are asked for when there are some".into()));
        }
        let most = u32::from(self.kind.queues) - 1;
        Ok((SUCCESS, self.lies.granted.unwrap_or(most | most << 16)))
    }

    /// The queue that a command is to create: its number, and where it lies.
    fn new_ring(&mut self, command: &Command, entry_bytes: usize) -> Result<(u16, Ring), Violation> {
        let (number, entries) = (command.dword(10) as u16, (command.dword(10) >> 16) + 1);
        let (address, second) = command.prps();
        let bad = Violation(format!("queue {number} of {entries} entries at {address:#x}"));
        let is_valid = (1..=self.kind.queues).contains(&number)
            && (2..=self.kind.entries).contains(&entries)
            && address != 0
            && address.is_multiple_of(prp::PAGE_BYTES)
            && second == 0
            && command.dword(11) & 1 == 1;
        let memory = self.bus.memory().slice(address, entries as usize * entry_bytes);
        let Some(memory) = memory.filter(|_| is_valid) else { return Err(bad) };
        let mut bytes = vec![0; memory.len()];
        memory.copy_to(&mut bytes[..]);
        if bytes.iter().any(|byte| *byte != 0) && entry_bytes == COMPLETION_BYTES {
            return Err(Violation(format!("completion queue {number} is not fresh")));
        }
        Ok((number, Ring { address, entries }))
    }

    fn create_completions(&mut self, command: &Command) -> Result<u16, Violation> {
        let (number, ring) = self.new_ring(command, COMPLETION_BYTES)?;
        let vector = (command.dword(11) & 2 != 0).then_some((command.dword(11) >> 16) as u16);
        if vector.is_some_and(|vector| vector >= self.kind.vectors) || self.pairs.contains_key(&number) {
            return Err(Violation(format!("completion queue {number} with interrupt {vector:?}")));
        }
        self.pairs.insert(number, Pair::new(number, ring, vector));
        Ok(SUCCESS)
    }

    fn create_submissions(&mut self, command: &Command) -> Result<u16, Violation> {
        let (number, ring) = self.new_ring(command, COMMAND_BYTES)?;
        let (completions, places) = ((command.dword(11) >> 16) as u16, self.places(number));
        let shadow = self.shadow;
        if shadow.is_some() && places[1] + 4 > prp::PAGE_BYTES {
            return Err(Violation(format!("doorbells of queue {number} have no room in a page")));
        }
        match self.pairs.get_mut(&number).filter(|pair| completions == number && !pair.has_submissions()) {
            Some(pair) => {
                pair.set_submissions(ring);
                if let Some(shadow) = shadow {
                    pair.set_shadow(shadow, places);
                }
                Ok(SUCCESS)
            }
            None => Err(Violation(format!("submission queue {number} for completion queue {completions}"))),
        }
    }

    /// The doorbells of administration stay registers, as most controllers have it.
    fn take_shadow(&mut self, command: &Command) -> Result<u16, Violation> {
        let (doorbells, events) = command.prps();
        let is_page = |address: u64| address != 0 && address.is_multiple_of(prp::PAGE_BYTES);
        if !self.kind.shadow || !is_page(doorbells) || !is_page(events) || self.pairs.len() > 1 {
            return Err(Violation(format!("doorbells in memory at {doorbells:#x} and {events:#x}")));
        }
        self.shadow = Some(Shadow { doorbells, events });
        Ok(SUCCESS)
    }
}
