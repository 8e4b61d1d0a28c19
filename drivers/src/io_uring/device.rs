//! [`FileConnected`] and [`FileDevice`]: the life cycle of the file driver.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::{IoUring, Probe, opcode};

use super::NAME;
use super::disk::Disk;
use super::queue::FileQueue;
use super::ring::{Flights, Mode, Ring};
use super::target::Target;
use crate::driver::{Connected, Opener, StartOptions, Started};
use crate::error::Error;
use crate::helpers::Helpers;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{self, Extra, Settings, Value};
use crate::queue::Queue;
use crate::sys::eventfd::EventFd;

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
        let supports_poll = disk.target.direct && supports_poll(&disk);
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
        Ok(Box::new(FileQueue::new(self.disk.clone(), self.helpers.clone(), flights, event)))
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

/// Whether an empty polled read works, which is how the kernel tells.
fn supports_poll(disk: &Disk) -> bool {
    let read = || -> io::Result<i32> {
        let mut ring = Ring::new(1, Mode::Poll)?;
        ring.register_files(&[disk.file()])?;
        ring.empty_read()
    };
    read().is_ok_and(|result| result == 0)
}

fn ring_error(what: &str, name: &str, cause: &io::Error) -> Error {
    let error = Error::system(format!("{what} for {name}"), cause);
    match cause.raw_os_error() {
        Some(libc::ENOSYS) => error.hint("the kernel is built without io_uring, or a sandbox hides it"),
        Some(libc::EPERM | libc::EACCES) => error.hint(
            "io_uring is forbidden here: see sysctl kernel.io_uring_disabled and the sandbox's seccomp rules",
        ),
        Some(libc::ENOMEM) => error.hint("raise the limit of locked memory: ulimit -l"),
        Some(libc::EMFILE | libc::ENFILE) => error.hint("raise the limit of open files: ulimit -n"),
        _ => error,
    }
}
