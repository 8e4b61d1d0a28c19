//! A split ring from the device's side (VIRTIO 1.2, section 2.7 "Split Virtqueues"), for speed.
//!
//! Looking an address up in a memory table costs more than everything else that a null disk does, and nearly every
//! address lies in the same region as the one before. So the region is kept, and the words of the ring are read and
//! written there. Positions in the ring are kept by `virtio_queue`.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{Ordering, fence};

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{
    Address, ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    VolatileSlice,
};

/// In the driver area: do not call.
const AVAIL_NO_INTERRUPT: u16 = 1;

const DESCRIPTOR_BYTES: u64 = 16;

/// The front-end's memory, and the region that was used last.
pub(super) struct HotMemory<'a> {
    all: &'a GuestMemoryMmap,
    hot: Cell<Option<(u64, VolatileSlice<'a>)>>,
}

impl<'a> HotMemory<'a> {
    pub(super) fn new(all: &'a GuestMemoryMmap) -> HotMemory<'a> {
        HotMemory { all, hot: Cell::new(None) }
    }

    /// The region of an address, and where it lies in there. Accesses check that they end inside.
    fn find(&self, address: u64) -> io::Result<(VolatileSlice<'a>, usize)> {
        if let Some((start, slice)) = self.hot.get()
            && let Some(offset) = address.checked_sub(start)
            && offset < slice.len() as u64
        {
            return Ok((slice, offset as usize));
        }
        let region = self.all.find_region(GuestAddress(address)).ok_or(io::ErrorKind::InvalidData)?;
        let (start, slice) =
            (region.start_addr().raw_value(), region.as_volatile_slice().map_err(io::Error::other)?);
        self.hot.set(Some((start, slice)));
        Ok((slice, (address - start) as usize))
    }

    /// # Errors
    /// It lies in no memory, as for all of these.
    pub(super) fn read<T: ByteValued>(&self, address: u64) -> io::Result<T> {
        let (slice, offset) = self.find(address)?;
        slice.read_obj(offset).map_err(io::Error::other)
    }

    pub(super) fn write<T: ByteValued>(&self, address: u64, value: T) -> io::Result<()> {
        let (slice, offset) = self.find(address)?;
        slice.write_obj(value, offset).map_err(io::Error::other)
    }

    fn load(&self, address: u64, order: Ordering) -> io::Result<u16> {
        let (slice, offset) = self.find(address)?;
        slice.load(offset, order).map(u16::from_le).map_err(io::Error::other)
    }

    fn store(&self, address: u64, value: u16, order: Ordering) -> io::Result<()> {
        let (slice, offset) = self.find(address)?;
        slice.store(value.to_le(), offset, order).map_err(io::Error::other)
    }
}

/// Answers what is in a queue, up to `most` requests; `answer` gets the descriptors of each and returns how many bytes
/// it wrote. Returns how many there were, and whether the driver wants to be called for them.
///
/// # Errors
/// A ring or a chain that lies in no memory or cannot be, or what `answer` says.
pub(super) fn serve_queue(
    memory: &HotMemory<'_>,
    queue: &mut Queue,
    most: u16,
    mut answer: impl FnMut(Chain<'_, '_>) -> io::Result<u32>,
) -> io::Result<(u16, bool)> {
    let (table, avail, used) = (queue.desc_table(), queue.avail_ring(), queue.used_ring());
    let (size, first) = (queue.size(), queue.next_used());
    let mut next = queue.next_avail();
    // Acquire: the chains are seen that the index covers.
    let available = memory.load(avail + 2, Ordering::Acquire)?.wrapping_sub(next);
    if available == 0 || available > size {
        return if available == 0 { Ok((0, false)) } else { Err(io::ErrorKind::InvalidData.into()) };
    }
    let count = available.min(most);
    let mut ended = first;
    for _ in 0..count {
        let head = memory.load(avail + 4 + 2 * u64::from(next % size), Ordering::Relaxed)?;
        let written = answer(Chain::new(memory, table, size, head)?)?;
        let element = [u32::from(head).to_le(), written.to_le()];
        memory.write(used + 4 + 8 * u64::from(ended % size), element)?;
        (next, ended) = (next.wrapping_add(1), ended.wrapping_add(1));
    }
    // Release: what was written is seen with the index that covers it.
    memory.store(used + 2, ended, Ordering::Release)?;
    queue.set_next_avail(next);
    queue.set_next_used(ended);
    // The driver looks for used chains after it has asked for a call; we look whether it asked after we have shown
    // them.
    fence(Ordering::SeqCst);
    let wanted = if queue.event_idx_enabled() {
        let event = memory.load(avail + 4 + 2 * u64::from(size), Ordering::Relaxed)?;
        ended.wrapping_sub(event).wrapping_sub(1) < ended.wrapping_sub(first)
    } else {
        memory.load(avail, Ordering::Relaxed)? & AVAIL_NO_INTERRUPT == 0
    };
    Ok((count, wanted))
}

/// The descriptors of a request.
pub(super) struct Chain<'m, 'a> {
    memory: &'m HotMemory<'a>,
    table: u64,
    /// Entries of the table that are not used up, so that a circle ends.
    left: u16,
    entries: u16,
    next: Option<Descriptor>,
}

impl<'m, 'a> Chain<'m, 'a> {
    fn new(memory: &'m HotMemory<'a>, table: u64, size: u16, head: u16) -> io::Result<Chain<'m, 'a>> {
        let mut chain = Chain { memory, table, left: size, entries: size, next: None };
        let first = chain.descriptor(head)?;
        chain.next = Some(first);
        if first.refers_to_indirect_table() {
            chain.table = first.addr().raw_value();
            chain.entries = (u64::from(first.len()) / DESCRIPTOR_BYTES) as u16;
            chain.left = chain.entries;
            chain.next = Some(chain.descriptor(0)?);
        }
        Ok(chain)
    }

    fn descriptor(&self, index: u16) -> io::Result<Descriptor> {
        if index >= self.entries {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.memory.read(self.table + DESCRIPTOR_BYTES * u64::from(index))
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// The chain goes where nothing is, or in a circle.
    pub(super) fn next(&mut self) -> io::Result<Option<Descriptor>> {
        let Some(descriptor) = self.next.take() else { return Ok(None) };
        self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
        if descriptor.has_next() {
            self.next = Some(self.descriptor(descriptor.next())?);
        }
        Ok(Some(descriptor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: u64 = 0x1000;
    const AVAIL: u64 = 0x2000;
    const USED: u64 = 0x3000;
    const NEXT: u16 = 1;

    fn queue(event_idx: bool) -> Queue {
        let mut queue = Queue::new(8).unwrap();
        queue.set_size(8);
        queue.set_desc_table_address(Some(TABLE as u32), None);
        queue.set_avail_ring_address(Some(AVAIL as u32), None);
        queue.set_used_ring_address(Some(USED as u32), None);
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        queue
    }

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000), (GuestAddress(0x10000), 0x1000)]).unwrap()
    }

    /// Makes `heads` available at the beginning of the ring.
    fn publish(memory: &HotMemory<'_>, heads: &[u16]) {
        for (index, head) in heads.iter().enumerate() {
            memory.write(AVAIL + 4 + 2 * index as u64, *head).unwrap();
        }
        memory.write(AVAIL + 2, heads.len() as u16).unwrap();
    }

    fn describe(memory: &HotMemory<'_>, at: u64, address: u64, flags: u16, next: u16) {
        memory.write(at, Descriptor::new(address, 16, flags, next)).unwrap();
    }

    /// The addresses of a chain.
    fn addresses(mut chain: Chain<'_, '_>) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        while let Some(descriptor) = chain.next()? {
            found.push(descriptor.addr().raw_value());
        }
        Ok(found)
    }

    #[test]
    fn chains_are_followed_in_the_ring_and_in_tables_of_their_own() {
        let all = memory();
        let memory = HotMemory::new(&all);
        describe(&memory, TABLE, 0x100, NEXT, 5);
        describe(&memory, TABLE + 5 * 16, 0x10200, 0, 0);
        memory.write(TABLE + 16, Descriptor::new(0x10800, 32, 4, 0)).unwrap();
        describe(&memory, 0x10800, 0x300, NEXT, 1);
        describe(&memory, 0x10810, 0x400, 0, 0);
        publish(&memory, &[0, 1]);
        let (mut queue, mut found) = (queue(false), Vec::new());
        let served = serve_queue(&memory, &mut queue, 99, |chain| {
            found.push(addresses(chain)?);
            Ok(7)
        });
        assert_eq!(served.unwrap(), (2, true));
        assert_eq!(found, [[0x100, 0x10200], [0x300, 0x400]]);
        assert_eq!(memory.read::<[u32; 4]>(USED + 4).unwrap(), [0, 7, 1, 7]);
        assert_eq!(memory.read::<u16>(USED + 2).unwrap(), 2);
        assert_eq!((queue.next_avail(), queue.next_used()), (2, 2));
        assert_eq!(serve_queue(&memory, &mut queue, 99, |_| Ok(0)).unwrap(), (0, false));
    }

    #[test]
    fn a_call_is_wanted_when_its_event_is_passed() {
        let all = memory();
        let memory = HotMemory::new(&all);
        for (event, wanted) in [(0, false), (1, true), (2, true), (3, false)] {
            let mut queue = queue(true);
            queue.set_next_avail(1);
            queue.set_next_used(1);
            publish(&memory, &[0, 0, 0]);
            memory.write(AVAIL + 4 + 16, event as u16).unwrap();
            assert_eq!(serve_queue(&memory, &mut queue, 99, |_| Ok(0)).unwrap(), (2, wanted), "{event}");
        }
    }

    #[test]
    fn rings_and_chains_that_cannot_be_are_refused() {
        let all = memory();
        let memory = HotMemory::new(&all);
        let refused = |heads: &[u16]| {
            publish(&memory, heads);
            serve_queue(&memory, &mut queue(false), 99, |chain| addresses(chain).map(|_| 0)).is_err()
        };
        assert!(refused(&[0; 9]), "more than the ring has places");
        assert!(refused(&[8]), "no such descriptor");
        describe(&memory, TABLE, 0x100, NEXT, 0);
        assert!(refused(&[0]), "a circle");
        describe(&memory, TABLE, 0x100, NEXT, 9);
        assert!(refused(&[0]), "a way out of the table");
        assert!(memory.read::<u64>(0x10ffc).is_err() && memory.read::<u64>(0x9000).is_err());
    }
}
