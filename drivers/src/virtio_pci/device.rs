//! [`PciConnected`]: the life cycle of the driver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::Control;
use super::transport::PciTransport;
use super::{NAME, Patience};
use crate::device::keeper::Keeper;
use crate::device::service::{Service, View};
use crate::device::state::{Device, Facts};
use crate::driver::{Connected, StartOptions, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::pci::Function;
use crate::property::{Settings, Value};
use crate::sys::eventfd::EventFd;
use crate::virtio::config::{self, BlkConfig};
use crate::virtio::lane::{self, Parts};
use crate::virtio::properties::{self, Offer};
use crate::virtio::rings::{self, Queues, Rings};
use crate::virtio::spec::feature;
use crate::virtio::view::BlkView;

/// What this driver makes use of.
const FEATURES: u64 =
    properties::FEATURES | feature::ACCESS_PLATFORM | feature::RING_PACKED | feature::ORDER_PLATFORM;

/// The interrupt that tells changes of the configuration. Those of the queues follow.
const CHANGES_VECTOR: u16 = 0;

/// A device whose facts are known.
#[derive(Debug)]
pub(super) struct PciConnected {
    control: Control,
    path: String,
    offer: Offer,
    limits: Limits,
    /// Interrupts that the device has.
    vectors: usize,
    request_timeout: Option<Duration>,
    patience: Patience,
}

impl PciConnected {
    pub(super) fn new(
        settings: &Settings,
        function: Arc<dyn Function>,
        path: String,
        patience: Patience,
    ) -> Result<PciConnected, Error> {
        let control = Control::take(function, patience.reset)?;
        let name = control.name().to_owned();
        let offered = control.features();
        check_features(offered, &name)?;
        let (bytes, len) = control.config()?;
        let features = offered & FEATURES & config::features_within(len);
        let config = BlkConfig::decode(&bytes, features);
        let limits = properties::limits(&config, settings, &name)?;
        let (queues, max_queue_size) = control.queue_limits()?;
        let vectors = control.function().vectors();
        let called = if vectors > 1 { vectors - 1 } else { queues };
        let max_queues = queues.min(called).min(config.queues().into()).max(1);
        // The largest that a power of two can be.
        let max_queue_size = 1 << max_queue_size.ilog2();
        let offer = Offer { config, features, max_queues, max_queue_size };
        let request_timeout = settings.patience("request-timeout").flatten();
        let limits = Limits { can_grow: true, ..limits };
        Ok(PciConnected { control, path, offer, limits, vectors, request_timeout, patience })
    }

    fn view(&self, queues: Queues, serial: &str) -> BlkView {
        let own = vec![
            ("path", Value::Text(self.path.clone())),
            ("request-timeout", Value::Patience(self.request_timeout.map(|timeout| timeout.as_secs()))),
        ];
        BlkView { driver: NAME, own, offer: self.offer, queues, serial: serial.to_owned() }
    }

    /// Queues by the properties. A device that cannot tell apart who is called is polled.
    fn queues(&self, settings: &Settings, workers: usize) -> Result<Queues, Error> {
        let queues = self.offer.queues(settings, workers, self.control.name())?;
        if self.vectors < 2 && queues.polled < queues.count {
            tracing::warn!("{} has too few interrupts: its queues are polled", self.control.name());
            return Ok(Queues { polled: queues.count, ..queues });
        }
        Ok(queues)
    }

    /// Sets up everything but the first request, and lets the device run.
    fn run(
        &self,
        rings: &Rings,
        queues: Queues,
        features: u64,
        changed: &EventFd,
    ) -> Result<Vec<Parts>, Error> {
        self.control.accept(features)?;
        let event_idx = features & feature::EVENT_IDX != 0;
        // There are at most 1024.
        let numbers = 0..queues.count as u16;
        let mut parts = Vec::new();
        for queue in numbers.clone() {
            parts.push(rings.parts(queue.into(), event_idx, self.control.kick(queue)?)?);
        }
        // Polled queues get events too, so that the numbers of interrupts are those of the queues.
        let events: Vec<&EventFd> = std::iter::once(changed)
            .chain(parts.iter().map(|parts| parts.call.as_deref().unwrap_or(changed)))
            .take(self.vectors)
            .collect();
        if !events.is_empty() {
            self.control.function().interrupt(&events)?;
        }
        self.control.tell_changes((self.vectors > 0).then_some(CHANGES_VECTOR))?;
        for (queue, parts) in numbers.zip(&parts) {
            let vector = parts.call.as_ref().map(|_| CHANGES_VECTOR + 1 + queue);
            self.control.start_queue(queue, &parts.memory, vector)?;
        }
        self.control.run()?;
        Ok(parts)
    }
}

/// What a device must have to be driven from a process at all.
fn check_features(offered: u64, name: &str) -> Result<(), Error> {
    if offered & feature::VERSION_1 == 0 {
        return Err(Error::device(format!("{name} is a legacy device, which is not supported")));
    }
    if offered & feature::ACCESS_PLATFORM == 0 {
        return Err(Error::device(format!(
            "{name} does not reach memory through the IOMMU (it does not offer VIRTIO_F_ACCESS_PLATFORM)"
        ))
        .hint("it would write to memory that is not ours; in qemu: iommu_platform=on"));
    }
    Ok(())
}

impl Connected for PciConnected {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.view(self.offer.no_queues(), "").property(&self.limits, name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let name = self.control.name().to_owned();
        let no_memory = |cause| Error::system(format!("make the memory for {name}"), &cause);
        let queues = self.queues(settings, options.workers.max(1))?;
        let (config, limits) = self.offer.fitted(self.limits, queues, &name)?;
        let region = Region::new(options.region_bytes, options.workers.max(1)).map_err(no_memory)?;
        let reach = self.control.function().reach();
        let (rings_address, payload_address) = rings::place(&reach, queues, &region, &name)?;
        let rings = Rings::new(queues, rings_address).map_err(no_memory)?;
        self.control.function().map(rings_address, rings.mapping())?;
        self.control.function().map(payload_address, region.mapping())?;
        let features = self.offer.features_for(queues);
        let no_watch = |cause| Error::system(format!("watch {name}"), &cause);
        let changed = EventFd::new().map_err(no_watch)?;
        let mut parts = self.run(&rings, queues, features, &changed)?;
        let serial = rings.ask_serial(&mut parts[0], None, &name, Instant::now() + self.patience.answer)?;
        let view = self.view(queues, &serial);
        let request_timeout = self.request_timeout;
        let facts = Facts {
            name: name.clone(),
            limits,
            native_fua: false,
            resends_max: u32::MAX,
            is_mended: false,
            request_timeout,
        };
        let lanes = lane::lanes(parts, config, payload_address);
        let device = Arc::new(Device::new(facts, Arc::new(region), lanes).map_err(no_watch)?);
        let transport = PciTransport::new(self.control, features, self.vectors > 0).map_err(no_watch)?;
        let keeper = Keeper::start(device.clone(), transport, changed).map_err(no_watch)?;
        Ok(Arc::new(Service::new(keeper, device, view)))
    }
}
