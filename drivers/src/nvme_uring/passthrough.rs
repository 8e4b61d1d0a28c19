//! Commands as the kernel takes them: `struct nvme_uring_cmd` of `linux/nvme_ioctl.h` (Linux 6.1), which begins as
//! `struct nvme_passthru_cmd` does.

use io_uring::opcode::UringCmd80;
use io_uring::squeue::Entry128;
use io_uring::types::Fixed;

use crate::nvme::command::Command;
use crate::sys::nvme::{ADDRESS, COMMAND, DATA_LEN, Words};

/// `NVME_URING_CMD_IO`: a command to the namespace.
const NVME_URING_CMD_IO: u32 = 0xc048_4e80;

/// Place of the device in the list of registered files.
const FILE: Fixed = Fixed(0);

/// The memory that a command uses: where it begins and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) address: u64,
    pub(super) len: u32,
    /// It lies in buffer 0 of the ring.
    pub(super) is_registered: bool,
}

/// A command in the kernel's words. The time-out is the device's own.
pub(super) fn words(command: &Command, memory: Memory) -> Words {
    let mut words = [0; 18];
    words[0] = command.opcode.into();
    words[1] = command.namespace;
    (words[ADDRESS], words[ADDRESS + 1]) = (memory.address as u32, (memory.address >> 32) as u32);
    words[DATA_LEN] = memory.len;
    words[COMMAND..COMMAND + 6].copy_from_slice(&command.dwords);
    words
}

/// An entry for the ring.
pub(super) fn entry(command: &Command, memory: Memory, user_data: u64) -> Entry128 {
    let mut bytes = [0; 80];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words(command, memory)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let buffer = memory.is_registered.then_some(0);
    UringCmd80::new(FILE, NVME_URING_CMD_IO).cmd(bytes).buf_index(buffer).build().user_data(user_data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_laid_out_as_in_the_header() {
        let memory = Memory { address: 0x1_0000_2000, len: 4608, is_registered: false };
        let found = words(&Command::write(7, 0x5_0000_0006, 9, true), memory);
        assert_eq!(found[..10], [1, 7, 0, 0, 0, 0, 0x2000, 1, 0, 4608]);
        assert_eq!(found[10..], [6, 5, 8 | 1 << 30, 0, 0, 0, 0, 0]);
    }
}
