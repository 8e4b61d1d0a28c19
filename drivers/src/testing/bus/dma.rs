//! [`Dma`]: the memory that the driver lets the device reach.

use std::io;

use vm_memory::VolatileSlice;

use crate::sys::mmap::Mapping;
use crate::testing::device_ring::{DeviceMemory, Violation};

const PAGE_BYTES: u64 = 4096;

/// Memory by the device's addresses. The device holds on to the pages that were there when they were mapped, as the
/// kernel does for a real one: what others put in their place later it does not see.
#[derive(Debug, Default)]
pub(in crate::testing) struct Dma {
    places: Vec<(u64, Mapping)>,
    /// Bus mastering is on.
    pub(in crate::testing) is_on: bool,
}

impl Dma {
    /// # Errors
    /// The memory cannot be mapped a second time.
    pub(in crate::testing) fn map(&mut self, address: u64, memory: &Mapping) -> io::Result<()> {
        self.places.push((address, memory.duplicate()?));
        Ok(())
    }

    /// Whether memory may be mapped there.
    pub(super) fn check(
        &self,
        reach: &[(u64, u64)],
        address: u64,
        memory: &Mapping,
    ) -> Result<(), Violation> {
        let last = address + memory.len_bytes() as u64 - 1;
        let overlaps =
            |(start, place): &(u64, Mapping)| address < start + place.len_bytes() as u64 && *start <= last;
        let is_reached = reach.iter().any(|(from, to)| *from <= address && last <= *to);
        if !address.is_multiple_of(PAGE_BYTES) || !is_reached || self.places.iter().any(overlaps) {
            return Err(Violation(format!("memory cannot be mapped at {address:#x}..={last:#x}")));
        }
        Ok(())
    }
}

impl DeviceMemory for Dma {
    fn slice(&self, address: u64, len: usize) -> Option<VolatileSlice<'_>> {
        self.places.iter().filter(|_| self.is_on).find_map(|(start, place)| {
            let offset = address.checked_sub(*start)?;
            place.slice(usize::try_from(offset).ok()?, len)
        })
    }
}
