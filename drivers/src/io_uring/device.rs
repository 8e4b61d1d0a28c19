//! [`FileConnected`] and [`FileDevice`]: the life cycle of the file driver.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::{IoUring, Probe, opcode};

use super::NAME;
use super::disk::Disk;
use super::flights::Flights;
use super::queue::FileQueue;
use super::target::Target;
use crate::driver::{Connected, Opener, StartOptions, Started};
use crate::error::Error;
use crate::helpers::Helpers;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{self, Extra, Settings, Value};
use crate::queue::Queue;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;
use crate::sys::ring::{Mode, Ring, ring_error};
use crate::sysfs::BlockAttributes;
use crate::tally::{QueueTally, Tally};

/// Threads for discards of devices and for searching holes, for all queues of a disk together.
const HELPER_THREADS: usize = 4;

/// `num-entries` when nobody sets it.
const DEFAULT_ENTRIES: u32 = 128;

/// How many queues there are, and of what kind.
#[derive(Clone, Copy, Debug)]
struct Queues {
    count: usize,
    /// The first so many of them read and write by a polled ring.
    polled: usize,
    entries: u32,
}

/// A file whose facts are known.
pub(super) struct FileConnected {
    disk: Arc<Disk>,
    supports_poll: bool,
}

impl FileConnected {
    pub(super) fn new(settings: &Settings, opener: &dyn Opener) -> Result<FileConnected, Error> {
        check_io_uring()?;
        let disk = Disk::new(Target::open(settings, opener)?, opener)?;
        let attributes = BlockAttributes::of(disk.target.device, opener);
        let device_polls = attributes.queue_number("io_poll").is_none_or(|polls| polls != 0);
        let supports_poll = disk.target.direct && device_polls && supports_poll(&disk);
        Ok(FileConnected { disk: Arc::new(disk), supports_poll })
    }

    fn queues(&self, settings: &Settings, workers: usize) -> Result<Queues, Error> {
        let count = settings.count("num-queues").unwrap_or(workers).min(workers);
        let polled = settings.count("num-poll-queues").unwrap_or(0).min(count);
        if polled > 0 && !self.disk.target.direct {
            return Err(Error::usage("property 'num-poll-queues' needs direct=true")
                .hint("the page cache has nothing to poll"));
        }
        if polled > 0 && !self.supports_poll {
            return Err(Error::device(format!("{} does not support polling", self.disk.target.name))
                .hint("leave out num-poll-queues"));
        }
        let entries = settings.count("num-entries").and_then(|entries| u32::try_from(entries).ok());
        Ok(Queues { count, polled, entries: entries.unwrap_or(DEFAULT_ENTRIES).next_power_of_two() })
    }
}

impl Connected for FileConnected {
    fn limits(&self) -> Limits {
        self.disk.ask_limits()
    }

    fn property(&self, name: &str) -> Option<Value> {
        let queues = Queues { count: 1, polled: 0, entries: DEFAULT_ENTRIES };
        property_of(&self.disk, self.supports_poll, queues, name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let workers = options.workers.max(1);
        let queues = self.queues(settings, workers)?;
        let region = Region::new(options.region_bytes, workers).map_err(|cause| {
            Error::system(format!("map {} bytes of payload memory", options.region_bytes), &cause)
        })?;
        Ok(Arc::new(FileDevice {
            disk: self.disk,
            supports_poll: self.supports_poll,
            queues,
            region: Arc::new(region),
            helpers: Arc::new(Helpers::new(HELPER_THREADS)),
            told_unregistered: AtomicBool::new(false),
            tallies: (0..queues.count).map(|_| Arc::default()).collect(),
        }))
    }
}

/// A file in service.
struct FileDevice {
    disk: Arc<Disk>,
    supports_poll: bool,
    queues: Queues,
    region: Arc<Region>,
    helpers: Arc<Helpers>,
    told_unregistered: AtomicBool,
    /// One per queue.
    tallies: Box<[Arc<QueueTally>]>,
}

impl Started for FileDevice {
    fn limits(&self) -> Limits {
        self.disk.ask_limits()
    }

    fn property(&self, name: &str) -> Option<Value> {
        property_of(&self.disk, self.supports_poll, self.queues, name)
    }

    fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn queues(&self) -> usize {
        self.queues.count
    }

    fn queue(&self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let failed = |what: &str, cause: &io::Error| ring_error(what, &self.disk.target.name, cause);
        let entries = self.queues.entries;
        let files: Vec<_> =
            [Some(self.disk.file()), self.disk.target.buffered()].into_iter().flatten().collect();
        let event = Arc::new(EventFd::new().map_err(|cause| failed("make an event", &cause))?);
        let mut normal =
            Ring::new(entries, Mode::Interrupt).map_err(|cause| failed("make a ring", &cause))?;
        normal.register_event(&event).map_err(|cause| failed("register the event", &cause))?;
        normal.register_files(&files).map_err(|cause| failed("register the file", &cause))?;
        let poll = match index < self.queues.polled {
            true => {
                let ring =
                    Ring::new(entries, Mode::Poll).map_err(|cause| failed("make a polled ring", &cause))?;
                ring.register_files(&files).map_err(|cause| failed("register the file", &cause))?;
                Some(ring)
            }
            false => None,
        };
        let mut flights = Flights::new(entries, normal, poll, self.region.clone());
        if self.disk.target.direct
            && let Err(cause) = flights.register_share(index)
            && !self.told_unregistered.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "payload memory is not registered with the kernel, which costs some speed: {cause} (raise the limit \
                 of locked memory: ulimit -l, or LimitMEMLOCK= of systemd)"
            );
        }
        let tally = self.tallies[index].clone();
        Ok(Box::new(FileQueue::new(self.disk.clone(), self.helpers.clone(), flights, event, tally)))
    }

    fn tally(&self) -> Tally {
        Tally::of(self.tallies.iter().map(|tally| &**tally))
    }
}

fn property_of(disk: &Disk, supports_poll: bool, queues: Queues, name: &str) -> Option<Value> {
    let extra = Extra {
        driver: NAME,
        num_queues: queues.count,
        max_queues: i32::MAX as usize,
        poll_queues: supports_poll,
        may_pin: disk.target.direct,
        discard_alignment: disk.discard_alignment,
    };
    Some(match name {
        "path" => Value::Text(disk.target.path.clone().unwrap_or_default()),
        "fd" => Value::Int(disk.file().as_raw_fd().into()),
        "direct" => Value::Bool(disk.target.direct),
        "num-poll-queues" => Value::Int(queues.polled as i64),
        "num-entries" => Value::Int(queues.entries.into()),
        _ => return property::fact(name, &disk.ask_limits(), &extra),
    })
}

/// Finds out at start whether the kernel has what every queue needs.
fn check_io_uring() -> Result<(), Error> {
    let ring = IoUring::new(1).map_err(|cause| ring_error("make a ring", "any file", &cause))?;
    let mut probe = Probe::new();
    let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fallocate::CODE, opcode::Fsync::CODE];
    let knows = ring.submitter().register_probe(&mut probe).is_ok()
        && needed.into_iter().all(|code| probe.is_supported(code));
    if knows {
        return Ok(());
    }
    Err(Error::device("the kernel's io_uring lacks operations that driver 'io_uring' needs")
        .hint("Linux 5.6 or newer is needed"))
}

/// Whether a polled read works. One that finds a hole tells nothing about the device, which therefore is asked too.
fn supports_poll(disk: &Disk) -> bool {
    let limits = disk.limits();
    let block = limits.request_alignment_bytes.max(512);
    let len = if limits.capacity_bytes >= block.into() { block } else { 0 };
    let read = || -> io::Result<i32> {
        let mut ring = Ring::new(1, Mode::Poll)?;
        ring.register_files(&[disk.file()])?;
        ring.read_once(Mapping::memory(c"gateway-probe", block.max(4096) as usize)?, len)
    };
    read().is_ok_and(|result| u32::try_from(result) == Ok(len))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::driver::SystemOpener;
    use crate::mem::Pool;
    use crate::request::{Completion, Operation, Request, RequestFlags, RequestId};

    /// A queue with a polled ring, whether or not the device under the file can be polled.
    fn polled_queue(file: &tempfile::NamedTempFile) -> Option<(Arc<dyn Started>, Box<dyn Queue>)> {
        let words =
            [format!("path={}", file.path().display()), "direct=true".into(), "num-poll-queues=1".into()];
        let table = crate::find(NAME).unwrap().properties();
        let settings = Settings::parse(NAME, table, "path", &words).unwrap();
        let disk = Disk::new(Target::open(&settings, &SystemOpener).ok()?, &SystemOpener).unwrap();
        let connected = FileConnected { disk: Arc::new(disk), supports_poll: true };
        let options = StartOptions { workers: 1, region_bytes: 1 << 20 };
        let device = Box::new(connected).start(&settings, options).unwrap();
        let queue = device.queue(0).unwrap();
        Some((device, queue))
    }

    fn run(queue: &mut dyn Queue, requests: Vec<Request>) -> Vec<Completion> {
        let (mut todo, mut done) = (VecDeque::from(requests), Vec::new());
        while !todo.is_empty() || queue.in_flight() > 0 {
            queue.submit(&mut todo).unwrap();
            queue.reap(&mut done);
        }
        done.sort_by_key(|completion| completion.id.0);
        done
    }

    #[test]
    fn a_polled_queue_serves_everything_whether_or_not_the_device_polls() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let Some((device, mut queue)) = polled_queue(&file) else {
            return eprintln!("SKIPPED: polled queues: no O_DIRECT where temporary files are");
        };
        assert!(queue.event().is_none());
        let pool = Pool::new(device.region().clone(), 0);
        let request = |id, operation, offset, len| Request {
            id: RequestId(id),
            operation,
            flags: RequestFlags::default(),
            offset,
            len,
        };
        let mut requests = Vec::new();
        for id in 0..16 {
            let lease = pool.lease(4096).unwrap();
            lease.slice(0, 4096).copy_from(&[id as u8 + 1; 4096]);
            requests.push(request(id, Operation::Write(lease), id * 8192, 4096));
        }
        requests.push(request(16, Operation::Flush, 0, 0));
        assert!(run(&mut *queue, requests).iter().all(|completion| completion.result.is_ok()));
        // Every second page is a hole, whose read never reaches the device.
        let reads =
            (0..32).map(|id| request(id, Operation::Read(pool.lease(4096).unwrap()), id * 4096, 4096));
        for completion in run(&mut *queue, reads.collect()) {
            let expected = if completion.id.0 % 2 == 0 { completion.id.0 as u8 / 2 + 1 } else { 0 };
            let mut found = [0xff; 4096];
            completion.lease.unwrap().slice(0, 4096).copy_to(&mut found[..]);
            assert!(completion.result.is_ok() && found == [expected; 4096], "read {:?}", completion.id);
        }
    }
}
