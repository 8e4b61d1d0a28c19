//! [`Flights`]: requests on their way, each with its memory, from the first entry to the terminal completion.
//!
//! This is the only place that queues entries. It can vouch for their memory because the lease an entry points into
//! lies in the slot that the entry's `user_data` names, and a slot is emptied only by the completion of its entry.
//! When that cannot be awaited, leases are given up for lost rather than given back.
#![expect(unsafe_code, reason = "entries name memory that the kernel uses until their completion")]

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{opcode, squeue};

use crate::mem::{Lease, Region};
use crate::request::{Operation, Request};
use crate::slots::{Key, Slots};
use crate::sys::ring::Ring;

/// Place of the disk's descriptor in the list of registered files.
const FILE: Fixed = Fixed(0);
/// Place of the descriptor without `O_DIRECT`.
const BUFFERED: Fixed = Fixed(1);

/// How long the end of a queue waits for operations that cannot be cancelled.
const LONGEST_FAREWELL: Duration = Duration::from_secs(30);

/// Which operation of a request is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A read or write of what is left.
    Transfer,
    /// `fallocate(2)` with this mode.
    Fallocate(i32),
    /// `fdatasync(2)`.
    Sync,
    /// A helper has it; no entry is in a ring.
    Helper,
}

/// A request in a slot.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) request: Request,
    pub(super) stage: Stage,
    /// Bytes transferred so far.
    pub(super) done: u64,
    /// How often the kernel asked to try again.
    pub(super) retries: u32,
    /// The device does not take it polled.
    pub(super) unpollable: bool,
}

impl Flight {
    pub(super) fn new(request: Request, stage: Stage) -> Flight {
        Flight { request, stage, done: 0, retries: 0, unpollable: false }
    }
}

/// The rings of a queue and the requests in them.
pub(super) struct Flights {
    slots: Slots<Flight>,
    normal: Ring,
    poll: Option<Ring>,
    /// Entries in `poll`.
    polled: usize,
    /// The part of the region that is registered as buffer 0: begin and end.
    registered: Option<(usize, usize)>,
    /// Keeps the registered memory mapped as long as the rings.
    region: Arc<Region>,
}

impl Flights {
    pub(super) fn new(count: u32, normal: Ring, poll: Option<Ring>, region: Arc<Region>) -> Flights {
        Flights { slots: Slots::new(count), normal, poll, polled: 0, registered: None, region }
    }

    /// Registers share `share` of the region with all rings.
    ///
    /// # Errors
    /// What the kernel answered. Nothing is registered then, and everything works without.
    pub(super) fn register_share(&mut self, share: usize) -> io::Result<()> {
        let (offset, len) = self.region.share(share);
        let memory = self.region.slice(offset, len).ok_or(io::ErrorKind::InvalidInput)?;
        self.normal.register_buffer(&memory)?;
        if let Some(poll) = &self.poll {
            poll.register_buffer(&memory)?;
        }
        self.registered = Some((offset, offset + len));
        Ok(())
    }

    pub(super) fn normal(&mut self) -> &mut Ring {
        &mut self.normal
    }

    pub(super) fn polls(&self) -> bool {
        self.poll.is_some()
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots.is_full()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Takes a request in. `None` when every slot is taken, which the caller has excluded.
    pub(super) fn insert(&mut self, flight: Flight) -> Option<Key> {
        self.slots.insert(flight).ok()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Flight> {
        self.slots.get_mut(key)
    }

    /// Takes a request out whose terminal completion has been seen.
    pub(super) fn remove(&mut self, key: Key) -> Option<Flight> {
        self.slots.remove(key)
    }

    /// Queues the next entry of a flight. `direct_until` is [`Disk::direct_until`](super::disk::Disk): what
    /// lies behind it goes by the second descriptor. A flight has at most one entry anywhere, so the submission queues,
    /// which have as many places as there are slots, are never full.
    pub(super) fn queue(&mut self, key: Key, direct_until: Option<u64>) {
        let registered = self.registered;
        let Some(flight) = self.slots.get_mut(key) else { return };
        let user_data = key.to_u64();
        let (entry, direct) = match flight.stage {
            Stage::Transfer => transfer(flight, direct_until, registered),
            Stage::Fallocate(mode) => {
                let request = &flight.request;
                (opcode::Fallocate::new(FILE, request.len).offset(request.offset).mode(mode).build(), false)
            }
            Stage::Sync => (opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build(), false),
            Stage::Helper => return,
        };
        // What a ring did not want to do at once twice is given to a kernel thread.
        let patient = flight.retries > 1;
        let polled = direct && !patient && !flight.unpollable;
        let ring = match &mut self.poll {
            Some(poll) if polled => {
                self.polled += 1;
                poll
            }
            _ => &mut self.normal,
        };
        let entry = if patient { entry.flags(squeue::Flags::ASYNC) } else { entry };
        // SAFETY: the only memory an entry names is that of the lease in this slot. The slot is emptied by `remove`
        // after its completion, or by `abandon`, which forgets the lease; the lease keeps its region mapped.
        let queued = unsafe { ring.push(&entry.user_data(user_data)) };
        debug_assert!(queued, "a submission queue has a place for every slot");
    }

    /// Whether entries wait for that.
    pub(super) fn has_unsubmitted(&mut self) -> bool {
        self.normal.has_unsubmitted() || self.poll.as_mut().is_some_and(Ring::has_unsubmitted)
    }

    /// Hands queued entries to the kernel.
    ///
    /// # Errors
    /// When a ring is of no use any more.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.normal.submit()?;
        self.poll.as_mut().map_or(Ok(()), Ring::submit)
    }

    /// The next completion of any ring, as far as it is known without asking the kernel.
    pub(super) fn next(&mut self) -> Option<(Key, i32)> {
        if let Some(poll) = &mut self.poll
            && let Some((user_data, result)) = poll.next()
        {
            self.polled = self.polled.saturating_sub(1);
            return Some((Key::from_u64(user_data), result));
        }
        let (user_data, result) = self.normal.next()?;
        Some((Key::from_u64(user_data), result))
    }

    /// Asks the kernel for what `next` does not see yet. `false`: there is nothing to ask for.
    pub(super) fn fetch_deferred(&mut self) -> bool {
        let deferred = self.normal.has_deferred();
        if deferred {
            self.normal.fetch_deferred();
        }
        deferred
    }

    /// Asks the device of the polled ring once.
    pub(super) fn poll_device(&mut self) {
        if self.polled > 0
            && let Some(poll) = &mut self.poll
        {
            poll.fetch_deferred();
        }
    }

    /// Empties all slots after the rings broke down. Memory that the kernel may still use is given up: the requests
    /// come without their leases, which stay on loan for ever.
    pub(super) fn abandon(&mut self) -> Vec<Request> {
        self.slots.drain().into_iter().map(|flight| flight.request.abandon_lease()).collect()
    }

    fn in_rings(&self) -> usize {
        self.slots.iter().filter(|flight| flight.stage != Stage::Helper).count()
    }
}

impl Drop for Flights {
    /// Cancels what can be cancelled and waits for the rest, so that no lease is given back while the kernel may
    /// still use it.
    fn drop(&mut self) {
        let started = Instant::now();
        let _ = self.submit();
        if self.in_rings() > 0 {
            self.normal.cancel_all();
        }
        while self.in_rings() > 0 && started.elapsed() < LONGEST_FAREWELL {
            while let Some((key, _)) = self.next() {
                self.slots.remove(key);
            }
            if self.in_rings() == 0 {
                break;
            }
            match &mut self.poll {
                Some(poll) if self.polled > 0 => poll.wait(Duration::from_millis(100)),
                _ => self.normal.wait(Duration::from_millis(100)),
            }
        }
        let stuck = self.in_rings();
        if stuck > 0 {
            tracing::error!("{stuck} operations of a disk did not end; their memory is given up");
        }
        self.abandon();
    }
}

/// The entry for what is left of a read or write, and whether it bypasses the page cache.
fn transfer(
    flight: &Flight,
    direct_until: Option<u64>,
    registered: Option<(usize, usize)>,
) -> (squeue::Entry, bool) {
    let request = &flight.request;
    let offset = request.offset + flight.done;
    let left = request.len - flight.done;
    let (file, left, direct) = match direct_until {
        None => (FILE, left, false),
        Some(end) if offset < end => (FILE, left.min(end - offset), true),
        Some(_) => (BUFFERED, left, false),
    };
    let flags = if request.flags.fua { libc::RWF_DSYNC } else { 0 };
    // A lease is far shorter than 4 GiB, and `Request::check` bounded the length by the lease.
    let (start, len) = (flight.done as usize, left as u32);
    let is_registered = |lease: &Lease| {
        let begin = lease.region_offset();
        registered.is_some_and(|(from, to)| from <= begin && begin + lease.len() <= to)
    };
    let entry = match &request.operation {
        Operation::Read(lease) => {
            let pointer = lease.slice(start, len as usize).ptr_guard_mut().as_ptr();
            match is_registered(lease) {
                true => opcode::ReadFixed::new(file, pointer, len, 0).offset(offset).build(),
                false => opcode::Read::new(file, pointer, len).offset(offset).build(),
            }
        }
        Operation::Write(lease) => {
            let pointer = lease.slice(start, len as usize).ptr_guard().as_ptr();
            match is_registered(lease) {
                true => opcode::WriteFixed::new(file, pointer, len, 0).offset(offset).rw_flags(flags).build(),
                false => opcode::Write::new(file, pointer, len).offset(offset).rw_flags(flags).build(),
            }
        }
        // Only reads and writes are put into this stage.
        _ => opcode::Nop::new().build(),
    };
    (entry, direct)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Pool;
    use crate::request::{RequestFlags, RequestId};
    use crate::sys::ring::Mode;

    #[test]
    fn a_broken_ring_gives_requests_back_and_keeps_their_memory() {
        let region = Arc::new(Region::new(0, 1).unwrap());
        let pool = Pool::new(region.clone(), 0);
        let ring = Ring::new(4, Mode::Interrupt).unwrap();
        let mut flights = Flights::new(4, ring, None, region);
        for id in 0..2 {
            let operation = Operation::Read(pool.lease(4096).unwrap());
            let flags = RequestFlags::default();
            let request = Request { id: RequestId(id), operation, flags, offset: 0, len: 4096 };
            assert!(flights.insert(Flight::new(request, Stage::Transfer)).is_some());
        }
        let requests = flights.abandon();
        assert!(requests.iter().map(|request| request.id.0).eq(0..2));
        assert_eq!(flights.len(), 0);
        assert_eq!(pool.lent_bytes(), 2 * 4096, "the kernel may still write there");
    }
}
