//! [`VdpaConnected`] and [`VdpaDevice`]: the life cycle of the driver.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::NAME;
use super::control::Control;
use super::keeper::Keeper;
use super::open::Node;
use super::place::place;
use crate::driver::{Connected, Event, Opener, StartOptions, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{Settings, Value};
use crate::queue::Queue;
use crate::virtio::config::{self, BlkConfig};
use crate::virtio::device::{Device, Facts};
use crate::virtio::properties::Offer;
use crate::virtio::queue::BlkQueue;
use crate::virtio::rings::{Queues, Rings};
use crate::virtio::spec::feature;

/// What this driver makes use of. Not CONFIG_WCE, see `vhost_user`. Not RING_PACKED: the base of such a ring has 32
/// bits, and the crate's call takes 16.
const FEATURES: u64 = feature::SIZE_MAX
    | feature::SEG_MAX
    | feature::READ_ONLY
    | feature::BLK_SIZE
    | feature::FLUSH
    | feature::TOPOLOGY
    | feature::MQ
    | feature::DISCARD
    | feature::WRITE_ZEROES
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::VERSION_1
    | feature::ACCESS_PLATFORM;

/// How long the first request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A device whose facts are known.
#[derive(Debug)]
pub(super) struct VdpaConnected {
    control: Control,
    name: String,
    path: String,
    fd: i32,
    offer: Offer,
    limits: Limits,
    request_timeout: Option<Duration>,
}

impl VdpaConnected {
    pub(super) fn new(settings: &Settings, opener: &dyn Opener) -> Result<VdpaConnected, Error> {
        let Node { file, name, path } = Node::open(settings, opener)?;
        let name = format!("the vhost-vdpa device {name}");
        let fd = file.as_raw_fd();
        let control = Control::take(file, &name)?;
        let offered = control.features()?;
        if offered & feature::VERSION_1 == 0 {
            return Err(Error::device(format!("{name} is a legacy device, which is not supported")));
        }
        let (bytes, len) = control.config()?;
        let features = offered & FEATURES & config::features_within(len);
        let config = BlkConfig::decode(&bytes, features);
        let (queues, max_queue_size) = control.queue_limits()?;
        let limits = config
            .limits(settings.bool("read-only").unwrap_or(false))
            .map_err(|error| Error { message: format!("{name}: {}", error.message), ..error })?;
        if limits.read_only && settings.bool("read-only") == Some(false) {
            return Err(Error::device(format!("{name} is read-only")).hint("leave out read-only=false"));
        }
        let max_queues = queues.min(config.queues().into()).max(1);
        let offer = Offer { config, features, max_queues, max_queue_size };
        let request_timeout = settings.patience("request-timeout").flatten();
        let limits = Limits { can_grow: true, ..limits };
        Ok(VdpaConnected { control, name, path, fd, offer, limits, request_timeout })
    }

    fn view(&self, queues: Queues, serial: &str) -> View {
        View {
            path: self.path.clone(),
            fd: self.fd,
            offer: self.offer,
            queues,
            serial: serial.to_owned(),
            request_timeout: self.request_timeout,
        }
    }
}

impl Connected for VdpaConnected {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.view(self.offer.no_queues(), "").property(&self.limits, name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let name = self.name.clone();
        let no_memory = |cause| Error::system(format!("make the memory for {name}"), &cause);
        let queues = self.offer.queues(settings, options.workers.max(1), &name)?;
        let (config, limits) = self.offer.fitted(self.limits, queues, &name)?;
        let region = Region::new(options.region_bytes, options.workers.max(1)).map_err(no_memory)?;
        let (first, last) = self.control.iova_range()?;
        let rings_len = Rings::len_bytes(queues);
        let Some((rings_address, payload_address)) = place(first, last, rings_len, region.len_bytes()) else {
            let mebibytes = region.len_bytes() >> 20;
            return Err(Error::device(format!("{name} cannot reach {mebibytes} MiB of memory"))
                .hint("use less: --memory"));
        };
        let rings = Rings::new(queues, rings_address).map_err(no_memory)?;
        // With event indices a device that is late calls once too often.
        let without = if queues.polled > 0 { feature::EVENT_IDX } else { 0 };
        let features = self.offer.features & !without;
        self.control.accept(features)?;
        self.control.map(&[(rings_address, rings.mapping()), (payload_address, region.mapping())])?;
        let event_idx = features & feature::EVENT_IDX != 0;
        let mut parts = Vec::new();
        for index in 0..queues.count {
            let queue = rings.parts(index, event_idx)?;
            self.control.start_queue(index, &queue.memory, &queue.kick, queue.call.as_deref())?;
            parts.push(queue);
        }
        self.control.run()?;
        let serial = rings.ask_serial(&mut parts[0], None, &name, Instant::now() + PATIENCE)?;
        let view = self.view(queues, &serial);
        let memories = vec![(rings_address, rings_len), (payload_address, region.len_bytes())];
        let facts = Facts {
            name: name.clone(),
            config,
            limits,
            payload_address,
            request_timeout: self.request_timeout,
        };
        let region = Arc::new(region);
        let no_watch = |cause| Error::system(format!("watch {name}"), &cause);
        let device = Arc::new(Device::new(facts, region.clone(), parts).map_err(no_watch)?);
        let keeper = Keeper::start(device.clone(), self.control, features, memories).map_err(no_watch)?;
        let in_use = Mutex::new(vec![false; queues.count]);
        Ok(Arc::new(VdpaDevice { keeper: Arc::new(keeper), device, region, view, in_use }))
    }
}

/// A device in service.
struct VdpaDevice {
    keeper: Arc<Keeper>,
    device: Arc<Device>,
    region: Arc<Region>,
    view: View,
    in_use: Mutex<Vec<bool>>,
}

impl Started for VdpaDevice {
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

    fn is_flushed(&self) -> bool {
        self.device.durability.is_clean()
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
    offer: Offer,
    queues: Queues,
    serial: String,
    request_timeout: Option<Duration>,
}

impl View {
    fn property(&self, limits: &Limits, name: &str) -> Option<Value> {
        Some(match name {
            "path" => Value::Text(self.path.clone()),
            "fd" => Value::Int(self.fd.into()),
            "request-timeout" => Value::Patience(self.request_timeout.map(|timeout| timeout.as_secs())),
            _ => return self.offer.property(NAME, limits, self.queues, &self.serial, name),
        })
    }
}
