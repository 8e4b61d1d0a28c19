//! Where the data of a command lies (Base 2.0c, section 4.1.1 "Physical Region Page Entry and List").

use crate::testing::device_ring::{DeviceMemory, Violation};

/// Length of a page.
pub(super) const PAGE_BYTES: u64 = 4096;
const ENTRY_BYTES: u64 = 8;

/// The pieces of `len` bytes: address and length.
///
/// # Errors
/// The pointers are not as they must be.
pub(super) fn pieces(
    memory: &dyn DeviceMemory,
    (prp1, prp2): (u64, u64),
    len: u64,
) -> Result<Vec<(u64, usize)>, Violation> {
    let bad = |what: &str| Violation(format!("PRPs {prp1:#x}, {prp2:#x} of {len} bytes: {what}"));
    if prp1 % 4 != 0 || prp1 == 0 {
        return Err(bad("the first one is not aligned"));
    }
    let first = len.min(PAGE_BYTES - prp1 % PAGE_BYTES);
    let mut pieces = vec![(prp1, first as usize)];
    let rest = len - first;
    match rest {
        0 if prp2 != 0 => return Err(bad("the second one is not needed")),
        0 => {}
        1..=PAGE_BYTES if prp2 % PAGE_BYTES != 0 || prp2 == 0 => {
            return Err(bad("the second one is no page"));
        }
        1..=PAGE_BYTES => pieces.push((prp2, rest as usize)),
        _ if prp2 % ENTRY_BYTES != 0 || prp2 == 0 => return Err(bad("the list is not aligned")),
        _ => walk(memory, prp2, rest, &mut pieces).map_err(|what| bad(&what))?,
    }
    Ok(pieces)
}

/// The pages of a list.
fn walk(
    memory: &dyn DeviceMemory,
    mut at: u64,
    mut rest: u64,
    pieces: &mut Vec<(u64, usize)>,
) -> Result<(), String> {
    while rest > 0 {
        let mut entry = [0; ENTRY_BYTES as usize];
        let slice = memory.slice(at, entry.len()).ok_or_else(|| format!("no memory at {at:#x}"))?;
        slice.copy_to(&mut entry[..]);
        let entry = u64::from_le_bytes(entry);
        if entry % PAGE_BYTES != 0 || entry == 0 {
            return Err(format!("{entry:#x} in the list is no page"));
        }
        // The last entry of a page of the list is the next page of it, if there is more.
        let is_last = at % PAGE_BYTES == PAGE_BYTES - ENTRY_BYTES;
        if is_last && rest > PAGE_BYTES {
            at = entry;
            continue;
        }
        let piece = rest.min(PAGE_BYTES);
        pieces.push((entry, piece as usize));
        (rest, at) = (rest - piece, at + ENTRY_BYTES);
    }
    Ok(())
}

/// Reads the data of a command.
///
/// # Errors
/// It is not where the pointers say.
pub(super) fn read(memory: &dyn DeviceMemory, prps: (u64, u64), bytes: &mut [u8]) -> Result<(), Violation> {
    let mut at = 0;
    for (address, len) in pieces(memory, prps, bytes.len() as u64)? {
        let slice = memory.slice(address, len).ok_or_else(|| no_memory(address, len))?;
        slice.copy_to(&mut bytes[at..at + len]);
        at += len;
    }
    Ok(())
}

/// Writes the data of a command.
///
/// # Errors
/// As for reading.
pub(super) fn write(memory: &dyn DeviceMemory, prps: (u64, u64), bytes: &[u8]) -> Result<(), Violation> {
    let mut at = 0;
    for (address, len) in pieces(memory, prps, bytes.len() as u64)? {
        let slice = memory.slice(address, len).ok_or_else(|| no_memory(address, len))?;
        slice.copy_from(&bytes[at..at + len]);
        at += len;
    }
    Ok(())
}

fn no_memory(address: u64, len: usize) -> Violation {
    Violation(format!("{len} bytes at {address:#x} are no memory"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::Mapping;
    use crate::testing::bus::Dma;

    const START: u64 = 1 << 21;

    /// The pieces of a transfer whose page list is at the second page of the memory.
    fn told(prps: (u64, u64), len: u64, list: &[u64]) -> Result<Vec<(u64, usize)>, String> {
        let memory = Mapping::memory(c"test", 1 << 16).unwrap();
        for (index, entry) in list.iter().enumerate() {
            memory.slice(4096 + index * 8, 8).unwrap().copy_from(&entry.to_le_bytes()[..]);
        }
        let mut dma = Dma::default();
        dma.map(START, &memory).unwrap();
        dma.is_on = true;
        pieces(&dma, prps, len).map_err(|violation| violation.0)
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn pages_are_found() {
        assert_eq!(told((START + 512, 0), 512, &[]).unwrap(), [(START + 512, 512)]);
        let two = told((START + 512, START + 4096), 4096, &[]).unwrap();
        assert_eq!(two, [(START + 512, 3584), (START + 4096, 512)]);
        let list = [START + 8192, START + 12_288];
        let three = told((START + 512, START + 4096), 8192, &list).unwrap();
        assert_eq!(three, [(START + 512, 3584), (list[0], 4096), (list[1], 512)]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs a memory file")]
    fn what_is_no_page_is_noticed() {
        let refused = |prps, len, list: &[u64]| told(prps, len, list).unwrap_err();
        assert!(refused((START + 2, 0), 512, &[]).contains("first one is not aligned"));
        assert!(refused((START, START), 4096, &[]).contains("not needed"));
        assert!(refused((START, START + 512), 8192, &[]).contains("second one is no page"));
        assert!(refused((START, START + 4), 12_288, &[]).contains("list is not aligned"));
        assert!(refused((START, START + 4096), 12_288, &[START + 4096, 5]).contains("0x5 in the list"));
        assert!(refused((START, 8), 12_288, &[]).contains("no memory at 0x8"));
    }
}
