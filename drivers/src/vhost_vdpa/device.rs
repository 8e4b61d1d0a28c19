//! [`VdpaConnected`]: the life cycle of the driver.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NAME;
use super::control::Control;
use super::open::Node;
use super::transport::VdpaTransport;
use crate::device::keeper::Keeper;
use crate::device::service::{Service, View};
use crate::device::state::{Device, Facts};
use crate::driver::{Connected, Opener, StartOptions, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{Settings, Value};
use crate::sys::eventfd::EventFd;
use crate::virtio::config::{self, BlkConfig};
use crate::virtio::kick::Kick;
use crate::virtio::lane;
use crate::virtio::properties::{self, Offer};
use crate::virtio::rings::{self, Queues, Rings, new_event};
use crate::virtio::spec::feature;
use crate::virtio::view::BlkView;

/// What this driver makes use of. Not RING_PACKED: the base of such a ring has 32 bits, and the crate's call takes 16.
const FEATURES: u64 = properties::FEATURES | feature::ACCESS_PLATFORM;

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
        let limits = properties::limits(&config, settings, &name)?;
        let max_queues = queues.min(config.queues().into()).max(1);
        let offer = Offer { config, features, max_queues, max_queue_size };
        let request_timeout = settings.patience("request-timeout").flatten();
        let limits = Limits { can_grow: true, ..limits };
        Ok(VdpaConnected { control, name, path, fd, offer, limits, request_timeout })
    }

    fn view(&self, queues: Queues, serial: &str) -> BlkView {
        let own = vec![
            ("path", Value::Text(self.path.clone())),
            ("fd", Value::Int(self.fd.into())),
            ("request-timeout", Value::Patience(self.request_timeout.map(|timeout| timeout.as_secs()))),
        ];
        BlkView { driver: NAME, own, offer: self.offer, queues, serial: serial.to_owned() }
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
        let (rings_address, payload_address) = rings::place(&[(first, last)], queues, &region, &name)?;
        let rings = Rings::new(queues, rings_address).map_err(no_memory)?;
        let features = self.offer.features_for(queues);
        self.control.accept(features)?;
        self.control.map(&[(rings_address, rings.mapping()), (payload_address, region.mapping())])?;
        let event_idx = features & feature::EVENT_IDX != 0;
        let mut parts = Vec::new();
        for index in 0..queues.count {
            let kick = new_event()?;
            let queue = rings.parts(index, event_idx, Kick::Event(kick.clone()))?;
            self.control.start_queue(index, &queue.memory, &kick, queue.call.as_deref())?;
            parts.push(queue);
        }
        self.control.run()?;
        let serial = rings.ask_serial(&mut parts[0], None, &name, Instant::now() + PATIENCE)?;
        let view = self.view(queues, &serial);
        let memories = vec![(rings_address, Rings::len_bytes(queues)), (payload_address, region.len_bytes())];
        let facts = Facts {
            name: name.clone(),
            limits,
            native_fua: false,
            resends_max: u32::MAX,
            is_mended: false,
            request_timeout: self.request_timeout,
        };
        let lanes = lane::lanes(parts, config, payload_address);
        let region = Arc::new(region);
        let no_watch = |cause| Error::system(format!("watch {name}"), &cause);
        let device = Arc::new(Device::new(facts, region, lanes).map_err(no_watch)?);
        let changed = EventFd::new().map_err(no_watch)?;
        // A device that cannot tell changes has none.
        let _ = self.control.watch_config(&changed);
        let transport = VdpaTransport { control: self.control, features, memories };
        let keeper = Keeper::start(device.clone(), transport, changed).map_err(no_watch)?;
        Ok(Arc::new(Service::new(keeper, device, view)))
    }
}
