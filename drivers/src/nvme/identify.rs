//! What controllers and namespaces say about themselves (Base 2.0c, section 5.17.2; NVM 1.0c, section 4.1.5), checked.

use super::spec::ANSWER_BYTES;
use crate::error::Error;

/// The answer to an identify command.
pub(crate) type Answer = [u8; ANSWER_BYTES];

fn u16_at(answer: &Answer, at: usize) -> u16 {
    u16::from_le_bytes([answer[at], answer[at + 1]])
}

fn u32_at(answer: &Answer, at: usize) -> u32 {
    u32::from(u16_at(answer, at)) | u32::from(u16_at(answer, at + 2)) << 16
}

fn u64_at(answer: &Answer, at: usize) -> u64 {
    u64::from(u32_at(answer, at)) | u64::from(u32_at(answer, at + 4)) << 32
}

/// Text, padded with blanks. What is no printable ASCII becomes `?`.
fn text(bytes: &[u8]) -> String {
    let printable = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes[..end].iter().map(printable).collect::<String>().trim().to_owned()
}

/// The controller (Base 2.0c, figure 275).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Controller {
    pub(crate) serial: String,
    pub(crate) model: String,
    pub(crate) firmware: String,
    /// Longest transfer as a power of two, in units of the smallest page; 0: no limit.
    pub(crate) mdts: u8,
    pub(crate) version: u32,
    /// Namespaces have numbers up to this.
    pub(crate) namespaces: u32,
    /// There are commands that discard.
    pub(crate) can_discard: bool,
    /// There are commands that write zeroes.
    pub(crate) can_write_zeroes: bool,
    /// There is a cache that may lose writes.
    pub(crate) has_cache: bool,
    /// Doorbells may lie in memory.
    pub(crate) has_shadow_doorbells: bool,
    /// Pauses before a command is sent again, in units of 100 ms.
    pub(crate) retry_delays: [u16; 3],
    /// Sizes of commands and completions that fit: least and most, as powers of two.
    command_sizes: u8,
    completion_sizes: u8,
    kind: u8,
}

impl Controller {
    /// # Errors
    /// It is not one that serves disks, or says what cannot be. `name` is what messages call it.
    pub(crate) fn decode(answer: &Answer, name: &str) -> Result<Controller, Error> {
        let commands = u16_at(answer, 520);
        let controller = Controller {
            serial: text(&answer[4..24]),
            model: text(&answer[24..64]),
            firmware: text(&answer[64..72]),
            mdts: answer[77],
            version: u32_at(answer, 80),
            namespaces: u32_at(answer, 516),
            can_discard: commands & 1 << 2 != 0,
            can_write_zeroes: commands & 1 << 3 != 0,
            has_cache: answer[525] & 1 != 0,
            has_shadow_doorbells: u16_at(answer, 256) & 1 << 8 != 0,
            retry_delays: [128, 130, 132].map(|at| u16_at(answer, at)),
            command_sizes: answer[512],
            completion_sizes: answer[513],
            kind: answer[111],
        };
        controller.check(name)?;
        Ok(controller)
    }

    fn check(&self, name: &str) -> Result<(), Error> {
        let kind = match self.kind {
            // Before version 1.4 there is no other kind.
            0 | 1 => None,
            2 => Some("a discovery controller"),
            3 => Some("an administrative controller"),
            _ => Some("a controller of an unknown kind"),
        };
        if let Some(kind) = kind {
            return Err(Error::device(format!("{name} is {kind}, and serves no disks")));
        }
        let fits = |sizes: u8, wanted: u8| (sizes & 15..=sizes >> 4).contains(&wanted);
        if !fits(self.command_sizes, 6) || !fits(self.completion_sizes, 4) {
            return Err(Error::device(format!(
                "{name} reports impossible sizes of queue entries: {:#04x} and {:#04x}",
                self.command_sizes, self.completion_sizes
            )));
        }
        Ok(())
    }
}

/// The numbers of the active namespaces in an answer (Base 2.0c, section 5.17.2.2), ascending.
pub(crate) fn active_namespaces(answer: &Answer) -> Vec<u32> {
    (0..ANSWER_BYTES / 4).map(|at| u32_at(answer, at * 4)).take_while(|number| *number != 0).collect()
}

/// The command set that a namespace belongs to, by its descriptors (Base 2.0c, section 5.17.2.3).
pub(crate) fn command_set(answer: &Answer) -> u8 {
    const COMMAND_SET: u8 = 4;
    let mut at = 0;
    while at + 4 < ANSWER_BYTES && answer[at + 1] != 0 {
        if answer[at] == COMMAND_SET {
            return answer[at + 4];
        }
        at += 4 + usize::from(answer[at + 1]);
    }
    0
}

/// A namespace (NVM 1.0c, figure 97).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    pub(crate) blocks: u64,
    /// Length of a block, as a power of two.
    pub(crate) block_exponent: u8,
    /// Its metadata in bytes.
    metadata: u16,
    protection: u8,
    /// What is deallocated reads as zeroes.
    pub(crate) deallocated_is_zero: bool,
    /// Write zeroes may deallocate.
    pub(crate) zeroes_may_deallocate: bool,
    pub(crate) write_protected: bool,
    /// What discards should be multiples of and where the first such place is, in blocks.
    pub(crate) discard_granularity: Option<(u32, u32)>,
    /// Preferred length of a write, in blocks.
    pub(crate) optimal_write: Option<u32>,
}

impl Namespace {
    pub(crate) fn decode(answer: &Answer) -> Namespace {
        let formatted = answer[26];
        // Bits 5 and 6 came later, for more than 16 formats.
        let format = usize::from(formatted & 15 | (formatted >> 5 & 3) << 4);
        let lbaf = u32_at(answer, 128 + format * 4);
        // With OPTPERF the namespace tells what it prefers; the numbers are one less.
        let prefers = answer[24] & 1 << 4 != 0;
        let deallocated = answer[33];
        Namespace {
            blocks: u64_at(answer, 0),
            block_exponent: (lbaf >> 16) as u8,
            metadata: lbaf as u16,
            protection: answer[29] & 7,
            deallocated_is_zero: deallocated & 7 == 1,
            zeroes_may_deallocate: deallocated & 1 << 3 != 0,
            write_protected: answer[99] & 1 != 0,
            discard_granularity: prefers
                .then(|| (u32::from(u16_at(answer, 68)) + 1, u32::from(u16_at(answer, 70)) + 1)),
            optimal_write: prefers.then(|| u32::from(u16_at(answer, 72)) + 1),
        }
    }

    /// Whether it is formatted as the other one is.
    pub(crate) fn has_format_of(&self, other: &Namespace) -> bool {
        Namespace { blocks: other.blocks, ..*self } == *other
    }

    /// Sees whether it can be served as a disk. `name` is what messages call it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, name: &str, command_set: u8) -> Result<(), Error> {
        let format_hint = "format it without: nvme format --lbaf=N, where N is one with ms:0 of nvme id-ns";
        match command_set {
            0 => {}
            1 => return Err(Error::device(format!("{name} is a key value namespace, and no disk"))),
            2 => {
                return Err(Error::device(format!("{name} is zoned, which is not supported"))
                    .hint("zoned disks take no writes in any order, as NBD clients make them"));
            }
            other => return Err(Error::device(format!("{name} has the unknown command set {other}"))),
        }
        if self.blocks == 0 {
            return Err(Error::device(format!("{name} is not there, or has no blocks"))
                .hint("nvme list-ns shows the namespaces that are"));
        }
        if self.protection != 0 {
            let kind = self.protection;
            let message = format!("{name} is formatted with protection information of type {kind}");
            return Err(Error::device(message).hint(format_hint));
        }
        if self.metadata != 0 {
            let bytes = self.metadata;
            let message = format!("{name} is formatted with {bytes} bytes of metadata for each block");
            return Err(Error::device(message).hint(format_hint));
        }
        if !(9..=20).contains(&self.block_exponent) {
            let exponent = self.block_exponent;
            return Err(Error::device(format!("{name} reports an impossible block size of 2^{exponent}")));
        }
        Ok(())
    }
}

/// The controller as the NVM command set sees it (NVM 1.0c, figure 102).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandSetLimits {
    /// Longest write zeroes as a power of two, in units of the smallest page; 0: not told.
    pub(crate) write_zeroes_exponent: u8,
    /// Most blocks of a range to be discarded; 0: not told.
    pub(crate) discard_blocks: u32,
}

impl CommandSetLimits {
    pub(crate) fn decode(answer: &Answer) -> CommandSetLimits {
        CommandSetLimits { write_zeroes_exponent: answer[1], discard_blocks: u32_at(answer, 4) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A controller as QEMU has it.
    fn controller() -> Answer {
        let mut answer = [0; ANSWER_BYTES];
        answer[4..24].copy_from_slice(b"serial              ");
        answer[24..64].copy_from_slice(b"QEMU NVMe Ctrl                          ");
        answer[64..72].copy_from_slice(b"10.0    ");
        answer[77] = 7;
        answer[80..84].copy_from_slice(&0x0001_0400_u32.to_le_bytes());
        answer[111] = 1;
        answer[256..258].copy_from_slice(&(1_u16 << 8).to_le_bytes());
        (answer[512], answer[513]) = (0x66, 0x44);
        answer[516] = 2;
        answer[520..522].copy_from_slice(&0x15d_u16.to_le_bytes());
        answer[525] = 7;
        answer
    }

    #[test]
    fn a_controller_is_understood() {
        let known = Controller::decode(&controller(), "it").unwrap();
        assert_eq!(
            (known.serial.as_str(), known.model.as_str(), known.firmware.as_str()),
            ("serial", "QEMU NVMe Ctrl", "10.0")
        );
        assert_eq!((known.mdts, known.version, known.namespaces), (7, 0x0001_0400, 2));
        assert!(known.can_discard && known.can_write_zeroes && known.has_cache && known.has_shadow_doorbells);
    }

    #[test]
    fn controllers_without_disks_are_refused() {
        let refusal = |at: usize, byte: u8| {
            let mut answer = controller();
            answer[at] = byte;
            Controller::decode(&answer, "it").unwrap_err().message
        };
        assert!(refusal(111, 2).contains("discovery controller"));
        assert!(refusal(111, 3).contains("administrative controller"));
        assert!(refusal(512, 0x55).contains("impossible sizes"));
        assert!(refusal(513, 0x55).contains("impossible sizes"));
    }

    fn namespace(format: u32) -> Answer {
        let mut answer = [0; ANSWER_BYTES];
        answer[0..8].copy_from_slice(&131_072_u64.to_le_bytes());
        answer[26] = 1;
        answer[33] = 9;
        answer[132..136].copy_from_slice(&format.to_le_bytes());
        answer
    }

    #[test]
    fn a_namespace_is_understood() {
        let known = Namespace::decode(&namespace(9 << 16));
        assert_eq!((known.blocks, known.block_exponent), (131_072, 9));
        assert!(known.deallocated_is_zero && known.zeroes_may_deallocate && !known.write_protected);
        known.check("it", 0).unwrap();
        // The format's number in both of its parts.
        let mut answer = namespace(0);
        answer[26] = 1 | 1 << 5;
        answer[128 + 17 * 4 + 2] = 12;
        assert_eq!(Namespace::decode(&answer).block_exponent, 12);
    }

    #[test]
    fn namespaces_that_are_no_disks_are_refused() {
        let refusal = |answer: &Answer, command_set: u8| {
            Namespace::decode(answer).check("it", command_set).unwrap_err().message
        };
        assert!(refusal(&namespace(9 << 16), 2).contains("zoned"));
        assert!(refusal(&namespace(9 << 16), 1).contains("key value"));
        assert!(refusal(&namespace(9 << 16 | 8), 0).contains("8 bytes of metadata"));
        assert!(refusal(&namespace(8 << 16), 0).contains("block size of 2^8"));
        assert!(refusal(&namespace(21 << 16), 0).contains("block size of 2^21"));
        assert!(refusal(&[0; ANSWER_BYTES], 0).contains("is not there"));
        let mut answer = namespace(9 << 16);
        answer[29] = 1;
        assert!(refusal(&answer, 0).contains("protection information of type 1"));
    }

    #[test]
    fn lists_are_read_to_their_end() {
        let mut answer = [0; ANSWER_BYTES];
        (answer[0], answer[4]) = (1, 3);
        assert_eq!(active_namespaces(&answer), [1, 3]);
        assert_eq!(active_namespaces(&[1; ANSWER_BYTES]).len(), 1024);
        // A unique identifier, then the command set.
        let mut answer = [0; ANSWER_BYTES];
        (answer[0], answer[1]) = (3, 16);
        (answer[20], answer[21], answer[24]) = (4, 1, 2);
        assert_eq!(command_set(&answer), 2);
        assert_eq!(command_set(&[0; ANSWER_BYTES]), 0);
        assert_eq!(command_set(&[1; ANSWER_BYTES]), 0, "no descriptor in it is that of the command set");
    }
}
