//! The configuration space (PCI Local Bus Specification 3.0, chapter 6).

use super::Function;
use crate::error::Error;

/// Offsets (section 6.1 "Configuration Space Organization").
const VENDOR: usize = 0x00;
const COMMAND: u64 = 0x04;
const STATUS: usize = 0x06;
const CLASS: usize = 0x09;
const CAPABILITIES: usize = 0x34;

/// In the status register: there is a list of capabilities (section 6.2.3).
const HAS_CAPABILITIES: u16 = 1 << 4;

/// In the command register (section 6.2.2): registers answer; the device may reach memory; no interrupt by wire.
const MEMORY: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;
const NO_WIRE: u16 = 1 << 10;

/// Length of the part of the space that every device has.
const LEN_BYTES: usize = 256;
/// Where capabilities can begin.
const FIRST_CAPABILITY: usize = 0x40;

/// The part of the space that every device has, as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigSpace {
    bytes: [u8; LEN_BYTES],
}

impl ConfigSpace {
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read(function: &dyn Function) -> Result<ConfigSpace, Error> {
        let mut bytes = [0; LEN_BYTES];
        function.read_config(0, &mut bytes)?;
        Ok(ConfigSpace { bytes })
    }

    /// Numbers of the vendor and of the device.
    pub(crate) fn id(&self) -> (u16, u16) {
        (self.u16_at(VENDOR), self.u16_at(VENDOR + 2))
    }

    /// The class of the device: interface, subclass, class (section 6.2.1).
    pub(crate) fn class(&self) -> [u8; 3] {
        [self.bytes[CLASS], self.bytes[CLASS + 1], self.bytes[CLASS + 2]]
    }

    /// The capabilities: number, and all bytes from there to the end of the space (section 6.7 "Capabilities List").
    pub(crate) fn capabilities(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let first = if self.u16_at(STATUS) & HAS_CAPABILITIES == 0 { 0 } else { self.bytes[CAPABILITIES] };
        let next = |at: u8| {
            // The two low bits are reserved.
            let at = usize::from(at) & !3;
            (at >= FIRST_CAPABILITY).then_some(at)
        };
        let chain = std::iter::successors(next(first), move |at| next(self.bytes[at + 1]));
        // A list that comes back to itself ends.
        chain.take(LEN_BYTES / 4).map(|at| (self.bytes[at], &self.bytes[at..]))
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

/// Whether the device may reach memory. Its registers answer in any case, and it sends no interrupts by wire.
///
/// # Errors
/// The configuration space cannot be changed.
pub(crate) fn set_bus_master(function: &dyn Function, on: bool) -> Result<(), Error> {
    let mut bytes = [0; 2];
    function.read_config(COMMAND, &mut bytes)?;
    let command = u16::from_le_bytes(bytes) & !BUS_MASTER | MEMORY | NO_WIRE;
    let command = if on { command | BUS_MASTER } else { command };
    function.write_config(COMMAND, &command.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(edit: impl FnOnce(&mut [u8])) -> Vec<(u8, usize)> {
        let mut bytes = [0; LEN_BYTES];
        bytes[STATUS] = 1 << 4;
        edit(&mut bytes);
        let space = ConfigSpace { bytes };
        space.capabilities().map(|(id, rest)| (id, LEN_BYTES - rest.len())).collect()
    }

    #[test]
    fn capabilities_are_found() {
        let list = |bytes: &mut [u8]| {
            bytes[0x34] = 0x43;
            (bytes[0x40], bytes[0x41]) = (5, 0xfc);
            (bytes[0xfc], bytes[0xfd]) = (9, 0);
        };
        assert_eq!(space(list), [(5, 0x40), (9, 0xfc)]);
        assert_eq!(
            space(|bytes| {
                list(bytes);
                bytes[STATUS] = 0;
            }),
            []
        );
    }

    #[test]
    fn a_list_that_makes_no_sense_ends() {
        assert_eq!(space(|bytes| bytes[0x34] = 0x20), [], "it points into the header");
        assert_eq!(space(|bytes| bytes.fill(0xff)), [(0xff, 0xfc); 64], "nobody is there");
    }
}
