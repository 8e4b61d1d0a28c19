//! [`Command`]: a command as it was fetched (Base 2.0c, section 3.3.3.1).

use crate::testing::device_ring::Violation;

/// Length of a command in a queue.
pub(super) const COMMAND_BYTES: usize = 64;

/// A command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    dwords: [u32; 16],
}

impl Command {
    /// # Errors
    /// It has what must not be in it.
    pub(super) fn decode(bytes: &[u8; COMMAND_BYTES]) -> Result<Command, Violation> {
        let mut dwords = [0; 16];
        for (dword, bytes) in dwords.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *dword = u32::from_le_bytes(*bytes);
        }
        let command = Command { dwords };
        // Fused, PRPs or SGLs; reserved; metadata.
        if dwords[0] & 0xff00 != 0 || dwords[2..6] != [0; 4] {
            return Err(Violation(format!("{command:x?} has fields that are not 0")));
        }
        Ok(command)
    }

    pub(super) fn opcode(&self) -> u8 {
        self.dwords[0] as u8
    }

    pub(super) fn id(&self) -> u16 {
        (self.dwords[0] >> 16) as u16
    }

    pub(super) fn namespace(&self) -> u32 {
        self.dwords[1]
    }

    pub(super) fn prps(&self) -> (u64, u64) {
        (self.u64_at(6), self.u64_at(8))
    }

    /// Dwords 10 to 15.
    pub(super) fn dword(&self, number: usize) -> u32 {
        self.dwords[number]
    }

    /// The first block of those that have one.
    pub(super) fn block(&self) -> u64 {
        self.u64_at(10)
    }

    /// Nothing but these bits is set in a dword.
    ///
    /// # Errors
    /// Something is.
    pub(super) fn only(&self, number: usize, bits: u32) -> Result<(), Violation> {
        match self.dwords[number] & !bits {
            0 => Ok(()),
            extra => Err(Violation(format!("dword {number} of {self:x?} has bits {extra:#x}"))),
        }
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from(self.dwords[at]) | u64::from(self.dwords[at + 1]) << 32
    }
}
