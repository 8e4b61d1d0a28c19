//! [`VhostUserConnected`] and [`VhostUserDevice`]: the life cycle of the driver.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::NAME;
use super::address::Address;
use super::keeper::{self, Keeper};
use super::link::{LAYOUT_FEATURES, Link, PATIENCE, Terms};
use super::service::{self, PAYLOAD_ADDRESS, Queues};
use crate::driver::{Connected, Event, Opener, StartOptions, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{self, Extra, Settings, Value};
use crate::queue::Queue;
use crate::virtio::config::BlkConfig;
use crate::virtio::device::{Device, Facts};
use crate::virtio::memory::{Format, Layout};
use crate::virtio::queue::BlkQueue;
use crate::virtio::spec::{SECTOR_BYTES, feature};

/// `queue-size` when nobody sets it.
const DEFAULT_QUEUE_SIZE: u16 = 256;

/// `reconnect` when nobody sets it: a back-end that is restarted is there again by then.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);

/// The word for a back-end whose cache went with it.
pub(super) const LOST: &str = "lost";

/// A device whose facts are known.
pub(super) struct VhostUserConnected {
    link: Link,
    address: Address,
    opener: Arc<dyn Opener>,
    terms: Terms,
    limits: Limits,
    patience: Option<Duration>,
    loses_cache: bool,
}

impl VhostUserConnected {
    pub(super) fn new(settings: &Settings, opener: &Arc<dyn Opener>) -> Result<VhostUserConnected, Error> {
        let address = Address::of(settings)?;
        let patience = patience(settings, &address)?;
        let name = address.name();
        let terms = Terms { capacity_bytes: size(settings)?, without: 0 };
        let socket = address.connect_patiently(&**opener)?;
        let link = Link::negotiate(socket, &name, terms, Instant::now() + PATIENCE)?;
        let limits = link
            .config
            .limits(settings.bool("read-only").unwrap_or(false))
            .map_err(|error| Error { message: format!("{name}: {}", error.message), ..error })?;
        if limits.read_only && settings.bool("read-only") == Some(false) {
            return Err(Error::device(format!("{name} is read-only")).hint("leave out read-only=false"));
        }
        let limits = Limits { can_grow: link.tells_changes(), ..limits };
        let loses_cache = settings.text("reconnect-cache") == Some(LOST);
        let opener = opener.clone();
        Ok(VhostUserConnected { link, address, opener, terms, limits, patience, loses_cache })
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
        let indirect = self.link.has(feature::INDIRECT_DESC);
        let format = if self.link.has(feature::RING_PACKED) { Format::Packed } else { Format::Split };
        let layout = Layout { format, size, chain_max: segments.max(1) + 2, indirect };
        let count = settings.count("num-queues").unwrap_or(workers);
        if settings.count("num-queues").is_some_and(|wanted| wanted > self.link.queues) {
            let (name, most) = (self.address.name(), self.link.queues);
            return Err(Error::device(format!("{name} has {most} queues, not {count}"))
                .hint(format!("num-queues={most} or less")));
        }
        let count = count.min(self.link.queues).min(workers);
        let polled = settings.count("num-poll-queues").unwrap_or(0).min(count);
        Ok(Queues { count, polled, layout })
    }

    fn view(&self, queues: Queues, serial: &str) -> View {
        View {
            path: self.address.path(),
            fd: self.link.socket.as_raw_fd(),
            config: self.link.config,
            max_queues: self.link.queues,
            queues,
            serial: serial.to_owned(),
            patience: self.patience,
            loses_cache: self.loses_cache,
        }
    }
}

/// The size of a disk that does not tell it.
fn size(settings: &Settings) -> Result<Option<u64>, Error> {
    match settings.size("size") {
        Some(bytes) if !bytes.is_multiple_of(SECTOR_BYTES) => Err(Error::usage(format!(
            "property 'size' cannot be {bytes}: it is no multiple of {SECTOR_BYTES}"
        ))
        .hint("disks are made of sectors")),
        size => Ok(size),
    }
}

/// How long to try to reconnect; `None`: for ever.
fn patience(settings: &Settings, address: &Address) -> Result<Option<Duration>, Error> {
    match settings.patience("reconnect") {
        Some(Some(Duration::ZERO)) => Ok(Some(Duration::ZERO)),
        Some(_) if !address.can_come_back() => Err(Error::usage(
            "property 'reconnect' cannot be used with 'fd': there is no place to connect to",
        )
        .hint("give the path of the back-end's socket: path=PATH")),
        Some(patience) => Ok(patience),
        None if address.can_come_back() => Ok(Some(DEFAULT_PATIENCE)),
        None => Ok(Some(Duration::ZERO)),
    }
}

impl Connected for VhostUserConnected {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn property(&self, name: &str) -> Option<Value> {
        let layout = Layout { format: Format::Split, size: DEFAULT_QUEUE_SIZE, chain_max: 3, indirect: true };
        self.view(Queues { count: 1, polled: 0, layout }, "").property(&self.limits, name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let queues = self.queues(settings, options.workers.max(1))?;
        let name = self.address.name();
        let region = Region::new(options.region_bytes, options.workers.max(1))
            .map_err(|cause| Error::system(format!("make the memory for {name}"), &cause))?;
        let region = Arc::new(region);
        // Requests are no longer than the chains that the layout has room for, beside header and status.
        let config = self.link.config.with_segments_max(queues.layout.chain_max - 2);
        let max_transfer_bytes =
            config.limits(true).map(|limits| limits.max_transfer_bytes).map_err(|error| {
                Error { message: format!("{name}: {}", error.message), ..error }
                    .hint("take a larger queue-size")
            })?;
        let limits = Limits { max_transfer_bytes, ..self.limits };
        let mut view = self.view(queues, "");
        let mut link = self.link;
        let until = Instant::now() + PATIENCE;
        let service = service::start(&mut link, &name, queues, &region.file(), until)?;
        view.serial.clone_from(&service.serial);
        let facts = Facts { name, config, limits, payload_address: PAYLOAD_ADDRESS };
        let no_watch = |cause| Error::system(format!("watch {}", self.address.name()), &cause);
        let device = Arc::new(Device::new(facts, region.clone(), service.parts).map_err(no_watch)?);
        // What changes the memory of a queue is not taken from another back-end if this one does not have it, nor is a
        // cache, which nobody would flush.
        let without = (LAYOUT_FEATURES | feature::FLUSH) & !link.features;
        let terms = Terms { without, ..self.terms };
        let plan = keeper::Plan {
            address: self.address.clone(),
            opener: self.opener,
            terms,
            queues,
            serial: service.serial,
            patience: self.patience,
            loses_cache: self.loses_cache,
        };
        let keeper = Arc::new(Keeper::start(device.clone(), link, plan).map_err(no_watch)?);
        let in_use = Mutex::new(vec![false; queues.count]);
        Ok(Arc::new(VhostUserDevice { keeper, device, region, view, in_use }))
    }
}

/// A device in service.
struct VhostUserDevice {
    keeper: Arc<Keeper>,
    device: Arc<Device>,
    region: Arc<Region>,
    view: View,
    in_use: Mutex<Vec<bool>>,
}

impl Started for VhostUserDevice {
    fn limits(&self) -> Limits {
        self.device.limits()
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.view.property(&self.device.limits(), name)
    }

    fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn queues(&self) -> usize {
        self.device.queues()
    }

    fn queue(&self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let name = &self.device.facts.name;
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.get_mut(index).is_none_or(|in_use| std::mem::replace(in_use, true)) {
            return Err(Error::device(format!("queue {index} of {name} is in use")));
        }
        let queue = BlkQueue::new(self.device.clone(), index, self.keeper.clone())
            .map_err(|cause| Error::system(format!("watch a queue of {name}"), &cause))?;
        Ok(Box::new(queue))
    }

    fn losses(&self) -> u64 {
        self.device.durability.losses()
    }

    fn is_flushed(&self) -> bool {
        self.device.durability.is_clean()
    }

    fn try_again(&self) {
        self.keeper.try_again();
    }

    fn hurry(&self) {
        self.keeper.hurry();
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        Some(self.keeper.news().as_fd())
    }

    fn next_event(&self) -> Option<Event> {
        self.keeper.news().next()
    }
}

/// What properties tell besides the limits.
struct View {
    path: String,
    fd: i32,
    config: BlkConfig,
    max_queues: usize,
    queues: Queues,
    serial: String,
    patience: Option<Duration>,
    loses_cache: bool,
}

impl View {
    fn property(&self, limits: &Limits, name: &str) -> Option<Value> {
        let extra = Extra {
            driver: NAME,
            num_queues: self.queues.count,
            max_queues: self.max_queues,
            poll_queues: true,
            may_pin: true,
            discard_alignment: self.config.discard_alignment(),
        };
        Some(match name {
            "path" => Value::Text(self.path.clone()),
            "fd" => Value::Int(self.fd.into()),
            "size" => Value::Size(limits.capacity_bytes),
            "reconnect" => Value::Patience(self.patience.map(|patience| patience.as_secs())),
            "reconnect-cache" => Value::Text(if self.loses_cache { LOST } else { "kept" }.into()),
            "queue-size" => Value::Int(self.queues.layout.size.into()),
            "num-poll-queues" => Value::Int(self.queues.polled as i64),
            "max-queue-size" => Value::Int(32768),
            "serial" => Value::Text(self.serial.clone()),
            "needs-mem-regions" | "needs-mem-region-fd" => Value::Bool(true),
            "max-segments" => Value::Int(self.config.segments().into()),
            "max-segment-len" => Value::Int(self.config.segment_bytes().into()),
            _ => return property::fact(name, limits, &extra),
        })
    }
}
