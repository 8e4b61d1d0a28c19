//! [`VhostUserConnected`] and [`VhostUserDevice`]: the life cycle of the driver.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::NAME;
use super::link::{Link, Memory};
use super::watch::Watch;
use crate::driver::{Connected, Opener, StartOptions, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{self, Extra, Settings, Value};
use crate::queue::Queue;
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;
use crate::sys::poll;
use crate::virtio::SplitRing;
use crate::virtio::memory::{Layout, QueueMemory};
use crate::virtio::queue::{BlkQueue, Device, Parts};
use crate::virtio::ring::Buffer;
use crate::virtio::serial;
use crate::virtio::spec::{feature, request};

/// `queue-size` when nobody sets it.
const DEFAULT_QUEUE_SIZE: u16 = 256;

/// Where the device sees rings and payloads: anywhere but at 0, and apart.
const RINGS_ADDRESS: u64 = 1 << 32;
const PAYLOAD_ADDRESS: u64 = 1 << 40;

/// How long a device may take to tell its serial number.
const SERIAL_PATIENCE: Duration = Duration::from_secs(5);

/// A device whose facts are known.
#[derive(Debug)]
pub(super) struct VhostUserConnected {
    link: Link,
    limits: Limits,
}

/// How many queues there are, and of what kind.
#[derive(Clone, Copy, Debug)]
struct Queues {
    count: usize,
    /// The first so many of them are polled.
    polled: usize,
    layout: Layout,
}

impl VhostUserConnected {
    pub(super) fn new(settings: &Settings, opener: &dyn Opener) -> Result<VhostUserConnected, Error> {
        let link = Link::open(settings, opener)?;
        let limits = link
            .config
            .limits(settings.bool("read-only").unwrap_or(false))
            .map_err(|error| Error { message: format!("{}: {}", link.name, error.message), ..error })?;
        if limits.read_only && settings.bool("read-only") == Some(false) {
            return Err(
                Error::device(format!("{} is read-only", link.name)).hint("leave out read-only=false")
            );
        }
        Ok(VhostUserConnected { link, limits })
    }

    fn queues(&self, settings: &Settings, workers: usize) -> Result<Queues, Error> {
        let size = settings.count("queue-size").unwrap_or(DEFAULT_QUEUE_SIZE.into());
        let Some(size) = u16::try_from(size).ok().filter(|size| size.is_power_of_two()) else {
            return Err(Error::usage(format!(
                "property 'queue-size' cannot be {size}: it is no power of two"
            ))
            .hint(format!("for example: queue-size={DEFAULT_QUEUE_SIZE}")));
        };
        // Header and status besides the data.
        let segments = u16::try_from(self.link.config.segments()).unwrap_or(u16::MAX).min(size - 2);
        let layout =
            Layout { size, chain_max: segments.max(1) + 2, indirect: self.link.has(feature::INDIRECT_DESC) };
        let count = settings.count("num-queues").unwrap_or(workers);
        if settings.count("num-queues").is_some_and(|wanted| wanted > self.link.queues) {
            let most = self.link.queues;
            return Err(Error::device(format!("{} has {most} queues, not {count}", self.link.name))
                .hint(format!("num-queues={most} or less")));
        }
        let count = count.min(self.link.queues).min(workers);
        let polled = settings.count("num-poll-queues").unwrap_or(0).min(count);
        Ok(Queues { count, polled, layout })
    }
}

impl Connected for VhostUserConnected {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn property(&self, name: &str) -> Option<Value> {
        let layout = Layout { size: DEFAULT_QUEUE_SIZE, chain_max: 3, indirect: true };
        property_of(&self.link, &self.limits, Queues { count: 1, polled: 0, layout }, "", name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let queues = self.queues(settings, options.workers.max(1))?;
        let mut link = self.link;
        let name = link.name.clone();
        let no_memory = |cause| Error::system(format!("make the memory for {name}"), &cause);
        let region = Arc::new(Region::new(options.region_bytes, options.workers.max(1)).map_err(no_memory)?);
        let len = queues.layout.len_bytes();
        let rings = Arc::new(Mapping::memory(c"gateway-rings", len * queues.count).map_err(no_memory)?);
        let mut parts = Vec::new();
        for index in 0..queues.count {
            let memory = QueueMemory::new(rings.clone(), index * len, RINGS_ADDRESS, queues.layout);
            let event =
                || EventFd::new().map(Arc::new).map_err(|cause| Error::system("make an event", &cause));
            let ring = SplitRing::new(memory.clone(), link.has(feature::EVENT_IDX));
            let (kick, call) = (event()?, event()?);
            let polled = index < queues.polled;
            parts.push(Parts { ring: Box::new(ring), memory, kick, call, polled });
        }
        let memories = [
            Memory { file: rings.file(), len_bytes: rings.len_bytes(), address: RINGS_ADDRESS },
            Memory { file: region.file(), len_bytes: region.len_bytes(), address: PAYLOAD_ADDRESS },
        ];
        let given: Vec<(&QueueMemory, &EventFd, &EventFd)> =
            parts.iter().map(|parts| (&parts.memory, &*parts.kick, &*parts.call)).collect();
        link.start(&memories, &given)?;
        let device = Arc::new(Device::new(link.name.clone(), link.config, self.limits, PAYLOAD_ADDRESS));
        let calls = parts.iter().map(|parts| parts.call.clone()).collect();
        let watch = Watch::start(link.socket()?, device.clone(), calls)
            .map_err(|cause| Error::system(format!("watch {}", link.name), &cause))?;
        let serial = ask_serial(&mut parts[0], &region, &device)?;
        let link = Arc::new(InService { link, _watch: watch });
        let parts = Mutex::new(parts.into_iter().map(Some).collect());
        Ok(Arc::new(VhostUserDevice { link, device, region, queues, parts, serial }))
    }
}

/// What keeps the device in service: the connection, and who watches it.
struct InService {
    link: Link,
    _watch: Watch,
}

/// A device in service.
struct VhostUserDevice {
    link: Arc<InService>,
    device: Arc<Device>,
    region: Arc<Region>,
    queues: Queues,
    parts: Mutex<Vec<Option<Parts>>>,
    serial: String,
}

impl Started for VhostUserDevice {
    fn limits(&self) -> Limits {
        self.device.limits
    }

    fn property(&self, name: &str) -> Option<Value> {
        property_of(&self.link.link, &self.device.limits, self.queues, &self.serial, name)
    }

    fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn queues(&self) -> usize {
        self.queues.count
    }

    fn queue(&self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(parts) = parts.get_mut(index).and_then(Option::take) else {
            return Err(Error::device(format!("queue {index} of {} is in use", self.device.name)));
        };
        Ok(Box::new(BlkQueue::new(self.device.clone(), parts, self.link.clone())))
    }
}

fn property_of(link: &Link, limits: &Limits, queues: Queues, serial: &str, name: &str) -> Option<Value> {
    let extra = Extra {
        driver: NAME,
        num_queues: queues.count,
        max_queues: link.queues,
        poll_queues: true,
        may_pin: true,
        discard_alignment: link.config.discard_alignment(),
    };
    Some(match name {
        "path" => Value::Text(link.path.clone()),
        "fd" => Value::Int(link.raw_fd().into()),
        "queue-size" => Value::Int(queues.layout.size.into()),
        "num-poll-queues" => Value::Int(queues.polled as i64),
        "max-queue-size" => Value::Int(32768),
        "serial" => Value::Text(serial.into()),
        "needs-mem-regions" | "needs-mem-region-fd" => Value::Bool(true),
        "max-segments" => Value::Int(link.config.segments().into()),
        "max-segment-len" => Value::Int(link.config.segment_bytes().into()),
        _ => return property::fact(name, limits, &extra),
    })
}

/// Asks for the serial number, on a queue that nobody uses yet; empty if the device has none.
///
/// # Errors
/// The device does not answer, or not by the rules: it could not be served.
fn ask_serial(parts: &mut Parts, region: &Region, device: &Device) -> Result<String, Error> {
    let Some(answer) = region.slice(0, request::ID_BYTES) else { return Ok(String::new()) };
    let address = device.payload_address;
    let buffer = Buffer { address, len: request::ID_BYTES as u32, writable: true };
    serial::ask(&parts.memory, &mut *parts.ring, buffer);
    if parts.ring.publish() {
        parts.kick.signal();
    }
    let started = Instant::now();
    while started.elapsed() < SERIAL_PATIENCE && !device.is_dead() {
        match parts.ring.next_used() {
            Ok(Some(_)) => return Ok(serial::answer(&parts.memory, &answer)),
            Ok(None) if parts.ring.arm() => {}
            Ok(None) => {
                // A failure to wait means: look again, and judge by the clock.
                let _ = poll::readable(parts.call.as_fd(), 100);
                parts.call.reset();
            }
            Err(lie) => {
                return Err(Error::device(format!("{} broke the rules of the ring: {lie}", device.name)));
            }
        }
    }
    if device.is_dead() {
        return Err(Error::device(device.reason()));
    }
    let seconds = SERIAL_PATIENCE.as_secs();
    Err(Error::device(format!("{} has not answered a request for {seconds} s", device.name))
        .hint("it is connected, but does not serve its queues"))
}
