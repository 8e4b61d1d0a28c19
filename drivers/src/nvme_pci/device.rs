//! [`NvmeConnected`]: the life cycle of the driver.

use std::sync::Arc;
use std::time::Duration;

use super::admin::{self, Admin};
use super::controller::Controller;
use super::memory::Layout;
use super::pair::ENTRIES_MAX;
use super::setup::{self, Setup, Shared};
use super::transport::NvmeTransport;
use super::{NAME, Patience};
use crate::device::keeper::Keeper;
use crate::device::properties::agreed;
use crate::device::service::{Listed, Service};
use crate::device::state::{Device, Facts};
use crate::driver::{Connected, StartOptions, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::place::place;
use crate::mem::{LARGEST_LEASE_BYTES, Region};
use crate::nvme::disk::Disk;
use crate::nvme::facts::{Carrier, discard_alignment};
use crate::nvme::properties;
use crate::pci::Function;
use crate::property::{Extra, Settings, Value};
use crate::sys::eventfd::EventFd;
use crate::sys::mmap::Mapping;

/// `queue-size` when nobody sets it and the controller takes as many.
const DEFAULT_QUEUE_SIZE: u16 = 256;

/// `request-timeout` when nobody sets it: what Linux has.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A disk whose facts are known.
#[derive(Debug)]
pub(super) struct NvmeConnected {
    admin: Admin,
    admin_memory: Shared,
    controller: Arc<Controller>,
    path: String,
    disk: Disk,
    limits: Limits,
    /// Pairs of queues that the controller grants and can call for.
    max_queues: usize,
    vectors: usize,
    request_timeout: Option<Duration>,
}

impl NvmeConnected {
    pub(super) fn new(
        settings: &Settings,
        function: Arc<dyn Function>,
        path: String,
        patience: Patience,
    ) -> Result<NvmeConnected, Error> {
        let controller = Arc::new(Controller::take(function, patience)?);
        let name = controller.name().to_owned();
        let no_memory = |cause| Error::system(format!("make the memory for {name}"), &cause);
        let length = admin::len_bytes(&controller);
        let reach = controller.function().reach();
        let [address] = place(&reach, [length]).ok_or_else(|| controller.broken("reaches no memory"))?;
        let mapping = Arc::new(Mapping::memory(c"gateway-admin", length).map_err(no_memory)?);
        controller.function().map(address, &mapping)?;
        let admin_memory = Shared { mapping: mapping.clone(), address };
        let mut admin = Admin::start(controller.clone(), mapping, address)?;
        let wanted = settings.count("namespace").and_then(|number| u32::try_from(number).ok());
        let disk = Disk::ask(&mut admin, wanted, &name)?;
        let carrier = Carrier {
            max_transfer_bytes: LARGEST_LEASE_BYTES as u32,
            buffer_alignment_bytes: 4,
            page_bytes: controller.capabilities.page_bytes as u32,
        };
        let read_only = settings.bool("read-only").unwrap_or(false);
        let limits = agreed(disk.limits(carrier, read_only), settings, &name)?;
        let granted = setup::granted(&mut admin)?;
        let vectors = controller.function().vectors();
        let max_queues = if vectors > 1 { granted.min(vectors - 1) } else { granted };
        let request_timeout = settings.patience("request-timeout").unwrap_or(Some(DEFAULT_TIMEOUT));
        Ok(NvmeConnected {
            admin,
            admin_memory,
            controller,
            path,
            disk,
            limits,
            max_queues,
            vectors,
            request_timeout,
        })
    }

    fn max_queue_size(&self) -> u16 {
        // At most 2^10.
        self.controller.capabilities.entries_max.min(ENTRIES_MAX.into()) as u16
    }

    fn queue_size(&self, settings: &Settings) -> Result<u16, Error> {
        let most = self.max_queue_size();
        match settings.count("queue-size") {
            None => Ok(DEFAULT_QUEUE_SIZE.min(most)),
            Some(size) if size > usize::from(most) => {
                let name = self.controller.name();
                Err(Error::device(format!("{name} has queues of at most {most} entries, not {size}"))
                    .hint(format!("queue-size={most} or less")))
            }
            // At most 2^10.
            Some(size) => Ok(size as u16),
        }
    }

    fn queues(&self, settings: &Settings, workers: usize) -> Result<(usize, usize), Error> {
        let (wanted, most, name) = (settings.count("num-queues"), self.max_queues, self.controller.name());
        if let Some(count) = wanted.filter(|count| *count > most) {
            return Err(Error::device(format!("{name} has {most} queues, not {count}"))
                .hint(format!("num-queues={most} or less")));
        }
        let count = wanted.unwrap_or(workers).min(most).min(workers);
        let polled = settings.count("num-poll-queues").unwrap_or(0).min(count);
        if self.vectors < 2 && polled < count {
            tracing::warn!("{name} has too few interrupts: its queues are polled");
            return Ok((count, count));
        }
        Ok((count, polled))
    }

    fn view(&self, queues: usize, polled: usize, queue_size: u16) -> Listed {
        let text = |text: &str| Value::Text(text.to_owned());
        let count = |count: usize| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
        let mut own = vec![
            ("path", text(&self.path)),
            ("request-timeout", Value::Patience(self.request_timeout.map(|timeout| timeout.as_secs()))),
            ("queue-size", Value::Int(queue_size.into())),
            ("num-poll-queues", count(polled)),
            ("max-queue-size", Value::Int(self.max_queue_size().into())),
            ("needs-mem-regions", Value::Bool(true)),
        ];
        own.extend(properties::identity(&self.disk));
        let extra = Extra {
            driver: NAME,
            num_queues: queues,
            max_queues: self.max_queues,
            poll_queues: true,
            may_pin: true,
            discard_alignment: discard_alignment(&self.disk.namespace),
        };
        Listed { own, extra }
    }

    /// Events by which the controller calls for each queue.
    fn calls(&self, count: usize, polled: usize) -> Result<Vec<Option<Arc<EventFd>>>, Error> {
        let new_event =
            || EventFd::new().map(Arc::new).map_err(|cause| Error::system("make an event", &cause));
        let calls = (0..count)
            .map(|queue| if queue < polled { Ok(None) } else { new_event().map(Some) })
            .collect::<Result<Vec<_>, Error>>()?;
        // Interrupt 0 is that of the admin queues, whose commands are waited for otherwise. Polled queues get events
        // too, so that the numbers of interrupts are those of the queues.
        let unheard = EventFd::new().map_err(|cause| Error::system("make an event", &cause))?;
        let events: Vec<&EventFd> = std::iter::once(&unheard)
            .chain(calls.iter().map(|call| call.as_deref().unwrap_or(&unheard)))
            .take(self.vectors)
            .collect();
        if !events.is_empty() {
            self.controller.function().interrupt(&events)?;
        }
        Ok(calls)
    }
}

impl Connected for NvmeConnected {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.view(1, 0, DEFAULT_QUEUE_SIZE.min(self.max_queue_size())).value(&self.limits, name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let no_watch = |cause| Error::system("watch an NVMe controller", &cause);
        let Prepared { device, transport, view } = self.prepare(settings, options)?;
        let changed = EventFd::new().map_err(no_watch)?;
        let keeper = Keeper::start(device.clone(), transport, changed).map_err(no_watch)?;
        Ok(Arc::new(Service::new(keeper, device, view)))
    }
}

/// A disk that is ready for its queues, and for whoever keeps it.
pub(super) struct Prepared {
    pub(super) device: Arc<Device>,
    pub(super) transport: NvmeTransport,
    view: Listed,
}

impl NvmeConnected {
    /// Makes the queues.
    ///
    /// # Errors
    /// The properties ask for what the controller does not have, it does not take its queues, or there is no memory.
    pub(super) fn prepare(mut self, settings: &Settings, options: StartOptions) -> Result<Prepared, Error> {
        let name = self.controller.name().to_owned();
        let no_memory = |cause| Error::system(format!("make the memory for {name}"), &cause);
        let (count, polled) = self.queues(settings, options.workers.max(1))?;
        let page_bytes = self.controller.capabilities.page_bytes;
        let list_entries = (LARGEST_LEASE_BYTES / page_bytes).next_power_of_two();
        let layout = Layout { entries: self.queue_size(settings)?, list_entries, page_bytes };
        let region = Region::new(options.region_bytes, options.workers.max(1)).map_err(no_memory)?;
        let lengths = [admin::len_bytes(&self.controller), layout.len_bytes() * count, region.len_bytes()];
        let Some([_, address, payload_address]) = place(&self.controller.function().reach(), lengths) else {
            let mebibytes = region.len_bytes() >> 20;
            return Err(Error::device(format!("{name} cannot reach {mebibytes} MiB of memory"))
                .hint("use less: --memory"));
        };
        let mapping = Arc::new(Mapping::memory(c"gateway-queues", lengths[1]).map_err(no_memory)?);
        self.controller.function().map(address, &mapping)?;
        self.controller.function().map(payload_address, region.mapping())?;
        let no_watch = |cause| Error::system(format!("watch {name}"), &cause);
        let calls = self.calls(count, polled)?;
        let view = self.view(count, polled, layout.entries);
        let setup = Setup {
            controller: self.controller,
            admin_memory: self.admin_memory,
            memory: Shared { mapping, address },
            layout,
            calls,
            disk: self.disk,
            payload_address,
        };
        let lanes = setup.lanes(&mut self.admin)?;
        let facts = Facts {
            name: name.clone(),
            limits: self.limits,
            native_fua: true,
            resends_max: 1,
            is_mended: true,
            request_timeout: self.request_timeout,
        };
        let device = Arc::new(Device::new(facts, Arc::new(region), lanes).map_err(no_watch)?);
        let transport = NvmeTransport::new(setup, self.admin).map_err(no_watch)?;
        Ok(Prepared { device, transport, view })
    }
}
