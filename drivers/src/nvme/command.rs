//! [`Command`]: commands as they lie in memory (Base 2.0c, section 3.3.3.1 "Submission Queue Entry").

use super::spec::{admin, cns, feature, log, nvm};

/// Length of a command in a queue.
pub(crate) const COMMAND_BYTES: usize = 64;

/// Length of a range of a dataset management command (NVM 1.0c, section 3.2.3, figure 45).
pub(crate) const RANGE_BYTES: usize = 16;

/// A command but for where its data lies, which whatever carries it puts in, and its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) opcode: u8,
    pub(crate) namespace: u32,
    /// Dwords 10 to 15.
    pub(crate) dwords: [u32; 6],
}

/// Where the data of a command lies: the first page, and the second one or a list of the others (section 4.1.1
/// "Physical Region Page Entry and List").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DataPointer {
    pub(crate) prp1: u64,
    pub(crate) prp2: u64,
}

impl Command {
    /// As it lies in a submission queue, in dwords.
    pub(crate) fn encode(&self, id: u16, data: DataPointer) -> [u32; COMMAND_BYTES / 4] {
        let mut dwords = [0; COMMAND_BYTES / 4];
        dwords[0] = u32::from(self.opcode) | u32::from(id) << 16;
        dwords[1] = self.namespace;
        for (at, address) in [(6, data.prp1), (8, data.prp2)] {
            dwords[at] = address as u32;
            dwords[at + 1] = (address >> 32) as u32;
        }
        dwords[10..].copy_from_slice(&self.dwords);
        dwords
    }

    /// A read or write of `blocks` (1 to 65536) from `block` on (NVM 1.0c, sections 3.2.4 and 3.2.6).
    fn transfer(opcode: u8, namespace: u32, block: u64, blocks: u32, flags: u32) -> Command {
        // The number of blocks is that of those after the first.
        let count = blocks.saturating_sub(1) & 0xffff;
        let dwords = [block as u32, (block >> 32) as u32, count | flags, 0, 0, 0];
        Command { opcode, namespace, dwords }
    }

    pub(crate) fn read(namespace: u32, block: u64, blocks: u32) -> Command {
        Command::transfer(nvm::READ, namespace, block, blocks, 0)
    }

    pub(crate) fn write(namespace: u32, block: u64, blocks: u32, fua: bool) -> Command {
        Command::transfer(nvm::WRITE, namespace, block, blocks, if fua { nvm::FUA } else { 0 })
    }

    /// (NVM 1.0c, section 3.2.8.)
    pub(crate) fn write_zeroes(
        namespace: u32,
        block: u64,
        blocks: u32,
        deallocate: bool,
        fua: bool,
    ) -> Command {
        let deallocate = if deallocate { nvm::DEALLOCATE } else { 0 };
        let fua = if fua { nvm::FUA } else { 0 };
        Command::transfer(nvm::WRITE_ZEROES, namespace, block, blocks, deallocate | fua)
    }

    /// (Base 2.0c, section 7.1.)
    pub(crate) fn flush(namespace: u32) -> Command {
        Command { opcode: nvm::FLUSH, namespace, ..Command::default() }
    }

    /// Discards the one range that its data holds (NVM 1.0c, section 3.2.3).
    pub(crate) fn discard(namespace: u32) -> Command {
        let dwords = [0, nvm::ATTRIBUTE_DEALLOCATE, 0, 0, 0, 0];
        Command { opcode: nvm::DATASET_MANAGEMENT, namespace, dwords }
    }

    /// (Base 2.0c, section 5.17.) The answer has [`ANSWER_BYTES`](super::spec::ANSWER_BYTES).
    pub(crate) fn identify(what: u32, namespace: u32) -> Command {
        Command { opcode: admin::IDENTIFY, namespace, dwords: [what, 0, 0, 0, 0, 0] }
    }

    /// The controller as the NVM command set sees it (NVM 1.0c, section 4.1.5.2).
    pub(crate) fn identify_command_set() -> Command {
        Command::identify(cns::COMMAND_SET_CONTROLLER, 0)
    }

    /// (Base 2.0c, section 5.16.1.3.) The answer has [`HEALTH_BYTES`](super::health::HEALTH_BYTES).
    pub(crate) fn health(namespace: u32) -> Command {
        let dwords = (super::health::HEALTH_BYTES / 4 - 1) as u32;
        Command {
            opcode: admin::GET_LOG_PAGE,
            namespace,
            dwords: [log::HEALTH | dwords << 16, 0, 0, 0, 0, 0],
        }
    }

    /// Asks for `count` pairs of queues; the first dword of the answer tells how many there may be (Base 2.0c, section
    /// 5.27.1.5).
    pub(crate) fn set_queue_count(count: u16) -> Command {
        let count = u32::from(count.saturating_sub(1));
        let dwords = [feature::NUMBER_OF_QUEUES, count | count << 16, 0, 0, 0, 0];
        Command { opcode: admin::SET_FEATURES, namespace: 0, dwords }
    }

    /// A completion queue in contiguous memory; `vector`: its interrupt (Base 2.0c, section 5.4).
    pub(crate) fn create_completion_queue(queue: u16, entries: u16, vector: Option<u16>) -> Command {
        let interrupt = vector.map_or(0, |vector| u32::from(vector) << 16 | 1 << 1);
        let dwords = [queue_word(queue, entries), interrupt | 1, 0, 0, 0, 0];
        Command { opcode: admin::CREATE_CQ, namespace: 0, dwords }
    }

    /// A submission queue in contiguous memory, with the completion queue of the same number (Base 2.0c, section 5.5).
    pub(crate) fn create_submission_queue(queue: u16, entries: u16) -> Command {
        let dwords = [queue_word(queue, entries), u32::from(queue) << 16 | 1, 0, 0, 0, 0];
        Command { opcode: admin::CREATE_SQ, namespace: 0, dwords }
    }

    /// (Base 2.0c, section 5.8.)
    pub(crate) fn doorbell_buffer_config() -> Command {
        Command { opcode: admin::DOORBELL_BUFFER_CONFIG, ..Command::default() }
    }
}

/// Number and size of a queue; the size is that of the entries after the first.
fn queue_word(queue: u16, entries: u16) -> u32 {
    u32::from(entries.saturating_sub(1)) << 16 | u32::from(queue)
}

/// The range that a discard has as data.
pub(crate) fn range(block: u64, blocks: u32) -> [u32; RANGE_BYTES / 4] {
    [0, blocks, block as u32, (block >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_lie_in_memory_as_specified() {
        let data = DataPointer { prp1: 0x1_0000_2000, prp2: 0x3_0000_4000 };
        let write = Command::write(7, 0x5_0000_0006, 9, true).encode(0xabcd, data);
        assert_eq!(write, [0xabcd_0001, 7, 0, 0, 0, 0, 0x2000, 1, 0x4000, 3, 6, 5, 8 | 1 << 30, 0, 0, 0]);
        let zeroes = Command::write_zeroes(1, 2, 65536, true, false);
        assert_eq!((zeroes.opcode, zeroes.dwords), (8, [2, 0, 0xffff | 1 << 25, 0, 0, 0]));
        assert_eq!(Command::discard(1).dwords, [0, 4, 0, 0, 0, 0]);
        assert_eq!(range(0x2_0000_0001, 3), [0, 3, 1, 2]);
    }

    #[test]
    fn queues_are_made_as_specified() {
        assert_eq!(
            Command::create_completion_queue(2, 1024, Some(3)).dwords[..2],
            [1023 << 16 | 2, 3 << 16 | 3]
        );
        assert_eq!(Command::create_completion_queue(2, 4, None).dwords[..2], [3 << 16 | 2, 1]);
        assert_eq!(Command::create_submission_queue(2, 4).dwords[..2], [3 << 16 | 2, 2 << 16 | 1]);
        assert_eq!(Command::set_queue_count(4).dwords[..2], [7, 3 << 16 | 3]);
        assert_eq!(Command::health(!0).dwords[0], 127 << 16 | 2);
    }
}
