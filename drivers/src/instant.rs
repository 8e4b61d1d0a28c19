//! Devices that finish every request while it is submitted: RAM and nothing at all.
//!
//! [`InstantDisk`] is what such a device has to say; the queue, its checks and the life cycle are written once here.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vm_memory::VolatileSlice;

use crate::driver::{Connected, StartOptions, Started};
use crate::error::{Errno, Error};
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{self, Extra, Settings, Value};
use crate::queue::{Now, Queue, QueueDead, Store, View};
use crate::request::{Completion, Extent, Operation, Outcome, Request, RequestFlags};

/// A disk whose operations never wait. Every range it is given has been checked against its limits and is not empty.
pub(crate) trait InstantDisk: Send + Sync + 'static {
    /// The driver's name.
    const DRIVER: &'static str;

    fn limits(&self) -> &Limits;
    fn view(&self, offset: u64, len: usize) -> View;
    fn read(&self, offset: u64, into: &VolatileSlice<'_>);
    fn write(&self, offset: u64, from: Source<'_>) -> Result<(), Errno>;
    fn discard(&self, offset: u64, len: u64) -> Result<(), Errno>;
    fn write_zeroes(&self, offset: u64, len: u64, flags: RequestFlags) -> Result<(), Errno>;
    fn block_status(&self, offset: u64, len: u64, extents: &mut Vec<Extent>);

    /// The memory of [`View::Store`], if any view ever says so.
    fn store(&self) -> Option<&dyn Store>;
}

/// Where the bytes of a write come from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Private memory.
    Bytes(&'a [u8]),
    /// Payload memory.
    Volatile(&'a VolatileSlice<'a>),
}

impl Source<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Source::Bytes(bytes) => bytes.len(),
            Source::Volatile(slice) => slice.len(),
        }
    }

    /// Copies all bytes to the beginning of `target`.
    pub(crate) fn copy_to(&self, target: &VolatileSlice<'_>) {
        match self {
            Source::Bytes(bytes) => target.copy_from(bytes),
            Source::Volatile(slice) => slice.copy_to_volatile_slice(*target),
        }
    }
}

/// An instant disk before its start.
pub(crate) struct InstantConnected<D>(pub Arc<D>);

impl<D: InstantDisk> Connected for InstantConnected<D> {
    fn limits(&self) -> Limits {
        *self.0.limits()
    }

    fn property(&self, name: &str) -> Option<Value> {
        property_of(&*self.0, 1, name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let workers = options.workers.max(1);
        let queues = settings.count("num-queues").unwrap_or(workers).min(workers);
        let region = Region::new(options.region_bytes, workers).map_err(|cause| {
            Error::system(format!("map {} bytes of payload memory", options.region_bytes), &cause)
        })?;
        Ok(Arc::new(InstantDevice { disk: self.0, region: Arc::new(region), queues }))
    }
}

fn property_of<D: InstantDisk>(disk: &D, num_queues: usize, name: &str) -> Option<Value> {
    let extra = Extra {
        driver: D::DRIVER,
        num_queues,
        max_queues: usize::MAX,
        poll_queues: false,
        may_pin: false,
        discard_alignment: (disk.limits().optimal_io_alignment_bytes, 0),
    };
    match name {
        "size" => Some(Value::Size(disk.limits().capacity_bytes)),
        _ => property::fact(name, disk.limits(), &extra),
    }
}

struct InstantDevice<D> {
    disk: Arc<D>,
    region: Arc<Region>,
    queues: usize,
}

impl<D: InstantDisk> Started for InstantDevice<D> {
    fn limits(&self) -> Limits {
        *self.disk.limits()
    }

    fn property(&self, name: &str) -> Option<Value> {
        property_of(&*self.disk, self.queues, name)
    }

    fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn queues(&self) -> usize {
        self.queues
    }

    fn queue(&self, _index: usize) -> Result<Box<dyn Queue>, Error> {
        Ok(Box::new(InstantQueue { disk: self.disk.clone(), done: VecDeque::new() }))
    }

    fn store(&self) -> Option<&dyn Store> {
        self.disk.store()
    }
}

/// A queue that has nothing in flight except what `reap` has not fetched yet.
struct InstantQueue<D> {
    disk: Arc<D>,
    done: VecDeque<Completion>,
}

impl<D: InstantDisk> InstantQueue<D> {
    fn finish(&self, request: Request) -> Completion {
        let result = self.result(&request);
        request.complete(result)
    }

    fn result(&self, request: &Request) -> Result<Outcome, Errno> {
        request.check(self.disk.limits())?;
        let (offset, len) = (request.offset, request.len);
        // The check above bounds the length of reads and writes by that of their lease.
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        match &request.operation {
            Operation::BlockStatus => {
                let mut extents = Vec::new();
                self.disk.block_status(offset, len, &mut extents);
                return Ok(Outcome::Extents(extents));
            }
            Operation::Flush => {}
            _ if len == 0 => {}
            Operation::Read(lease) => self.disk.read(offset, &lease.slice(0, bytes)),
            Operation::Write(lease) => self.disk.write(offset, Source::Volatile(&lease.slice(0, bytes)))?,
            Operation::Discard => self.disk.discard(offset, len)?,
            Operation::WriteZeroes => self.disk.write_zeroes(offset, len, request.flags)?,
        }
        Ok(Outcome::Done)
    }
}

/// Runs `action` unless `check` failed or there is nothing to do.
fn now(check: Result<(), Errno>, len: u64, action: impl FnOnce() -> Result<(), Errno>) -> Now<()> {
    match check.and_then(|()| if len == 0 { Ok(()) } else { action() }) {
        Ok(()) => Now::Done(()),
        Err(errno) => Now::Failed(errno),
    }
}

impl<D: InstantDisk> Queue for InstantQueue<D> {
    fn read_now(&mut self, offset: u64, into: &VolatileSlice<'_>) -> Now<()> {
        let len = into.len() as u64;
        now(self.disk.limits().check_transfer(offset, len), len, || {
            self.disk.read(offset, into);
            Ok(())
        })
    }

    fn view_now(&mut self, offset: u64, len: usize) -> Now<View> {
        match self.disk.limits().check_transfer(offset, len as u64) {
            Ok(()) if len == 0 => Now::Done(View::Zero(0)),
            Ok(()) => Now::Done(self.disk.view(offset, len)),
            Err(errno) => Now::Failed(errno),
        }
    }

    fn write_now(&mut self, offset: u64, from: &[u8]) -> Now<()> {
        let (limits, len) = (self.disk.limits(), from.len() as u64);
        let check = limits.check_writable().and_then(|()| limits.check_transfer(offset, len));
        now(check, len, || self.disk.write(offset, Source::Bytes(from)))
    }

    fn discard_now(&mut self, offset: u64, len: u64) -> Now<()> {
        let check = self.disk.limits().check_discard(offset, len);
        now(check, len, || self.disk.discard(offset, len))
    }

    fn write_zeroes_now(&mut self, offset: u64, len: u64, flags: RequestFlags) -> Now<()> {
        let check = self.disk.limits().check_write_zeroes(offset, len);
        now(check, len, || self.disk.write_zeroes(offset, len, flags))
    }

    fn flush_now(&mut self) -> Now<()> {
        Now::Done(())
    }

    fn block_status_now(&mut self, offset: u64, len: u64, extents: &mut Vec<Extent>) -> Now<()> {
        if len == 0 || !self.disk.limits().contains(offset, len) {
            return Now::Failed(Errno::INVALID);
        }
        self.disk.block_status(offset, len, extents);
        Now::Done(())
    }

    fn submit(&mut self, todo: &mut VecDeque<Request>) -> Result<(), QueueDead> {
        while let Some(request) = todo.pop_front() {
            let completion = self.finish(request);
            self.done.push_back(completion);
        }
        Ok(())
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        done.extend(self.done.drain(..));
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn arm(&mut self) -> bool {
        !self.done.is_empty()
    }
}
