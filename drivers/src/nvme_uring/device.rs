//! [`UringConnected`]: the life cycle of the driver.

use std::sync::Arc;

use super::lane::UringLane;
use super::target::{Admin, Target};
use super::transport::UringTransport;
use super::{NAME, probe};
use crate::device::keeper::Keeper;
use crate::device::lane::Lane;
use crate::device::properties::agreed;
use crate::device::service::{Listed, Service};
use crate::device::state::{Device, Facts};
use crate::driver::{Connected, Opener, StartOptions, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::{LARGEST_LEASE_BYTES, Region};
use crate::nvme::disk::Disk;
use crate::nvme::errand::Dialect;
use crate::nvme::facts::{Carrier, discard_alignment};
use crate::nvme::properties;
use crate::property::{Extra, Settings, Value};
use crate::sys::eventfd::EventFd;
use crate::sys::ring::{Mode, ring_error};

/// `num-entries` when nobody sets it.
const DEFAULT_ENTRIES: u16 = 128;

/// The smallest page of controllers: what their limits are multiples of. Nearly all have this, and those with larger
/// ones take more than is believed.
const PAGE_BYTES: u32 = 4096;

/// Longest transfer where the kernel does not tell what its block layer takes.
const CAUTIOUS_TRANSFER_BYTES: u64 = 128 << 10;

/// A namespace whose facts are known.
#[derive(Debug)]
pub(super) struct UringConnected {
    target: Arc<Target>,
    disk: Disk,
    limits: Limits,
    supports_poll: bool,
}

/// How many queues there are.
#[derive(Clone, Copy, Debug)]
struct Queues {
    count: usize,
    polled: usize,
    entries: u16,
}

impl UringConnected {
    pub(super) fn new(settings: &Settings, opener: &Arc<dyn Opener>) -> Result<UringConnected, Error> {
        let target = Arc::new(Target::open(settings, opener)?);
        let disk = Disk::ask(&mut Admin(&target), Some(target.namespace), &target.name)?;
        let limits = agreed(disk.limits(carrier(&target), target.read_only), settings, &target.name)?;
        if limits.capacity_bytes > 0 {
            probe::check(&target, limits.request_alignment_bytes)?;
        }
        let supports_poll = target.queue_number("io_poll") == Some(1);
        Ok(UringConnected { target, disk, limits, supports_poll })
    }

    fn queues(&self, settings: &Settings, workers: usize) -> Result<Queues, Error> {
        let count = settings.count("num-queues").unwrap_or(workers).min(workers);
        let polled = settings.count("num-poll-queues").unwrap_or(0).min(count);
        if polled > 0 && !self.supports_poll {
            return Err(Error::device(format!("{} does not support polling", self.target.name)).hint(
                "leave out num-poll-queues, or give the kernel's driver such queues: nvme.poll_queues=N on its \
                 command line",
            ));
        }
        // The table keeps it below 2^15 + 1.
        let entries = settings.count("num-entries").map(|entries| entries as u16);
        Ok(Queues { count, polled, entries: entries.unwrap_or(DEFAULT_ENTRIES).next_power_of_two() })
    }

    fn view(&self, queues: Queues) -> Listed {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut own = vec![
            ("path", text(self.target.path.as_deref().unwrap_or_default())),
            ("fd", Value::Int(self.target.number())),
            ("num-poll-queues", Value::Int(queues.polled as i64)),
            ("num-entries", Value::Int(queues.entries.into())),
        ];
        own.extend(properties::identity(&self.disk));
        let extra = Extra {
            driver: NAME,
            num_queues: queues.count,
            max_queues: i32::MAX as usize,
            poll_queues: self.supports_poll,
            may_pin: true,
            discard_alignment: discard_alignment(&self.disk.namespace),
        };
        Listed { own, extra }
    }

    fn lanes(&self, queues: Queues, region: &Arc<Region>) -> Result<Vec<Box<dyn Lane>>, Error> {
        let dialect = Dialect::of(&self.disk);
        let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
        for share in 0..queues.count {
            let mode = if share < queues.polled { Mode::Poll } else { Mode::Interrupt };
            let lane = UringLane::new(&self.target, dialect, region.clone(), share, mode, queues.entries)
                .map_err(|cause| ring_error("make a ring", &self.target.name, &cause))?;
            if !lane.is_registered() && share == 0 {
                tracing::warn!(
                    "payload memory is not registered with the kernel, which costs some speed: raise the limit of \
                     locked memory (ulimit -l, or LimitMEMLOCK= of systemd)"
                );
            }
            lanes.push(Box::new(lane));
        }
        Ok(lanes)
    }
}

/// What the kernel takes: a page of memory is a segment of its own at worst, and payloads may begin within one.
fn carrier(target: &Target) -> Carrier {
    let told = |name: &str, unit: u64| target.queue_number(name).and_then(|number| number.checked_mul(unit));
    let longest = told("max_hw_sectors_kb", 1024).unwrap_or(CAUTIOUS_TRANSFER_BYTES);
    let pages = target.queue_number("max_segments").filter(|segments| *segments > 1).map(|pages| pages - 1);
    let most = pages.and_then(|pages| pages.checked_mul(PAGE_BYTES.into())).unwrap_or(longest);
    let alignment = target.queue_number("dma_alignment").and_then(|mask| u32::try_from(mask + 1).ok());
    Carrier {
        // Bounded by the longest lease.
        max_transfer_bytes: longest.min(most).min(LARGEST_LEASE_BYTES as u64) as u32,
        buffer_alignment_bytes: alignment.unwrap_or(4),
        page_bytes: PAGE_BYTES,
    }
}

impl Connected for UringConnected {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.view(Queues { count: 1, polled: 0, entries: DEFAULT_ENTRIES }).value(&self.limits, name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let name = self.target.name.clone();
        let workers = options.workers.max(1);
        let queues = self.queues(settings, workers)?;
        let region = Region::new(options.region_bytes, workers)
            .map(Arc::new)
            .map_err(|cause| Error::system(format!("make the memory for {name}"), &cause))?;
        let lanes = self.lanes(queues, &region)?;
        let facts = Facts {
            name: name.clone(),
            limits: self.limits,
            native_fua: true,
            resends_max: 0,
            is_mended: false,
            // The kernel sees to that.
            request_timeout: None,
        };
        let no_watch = |cause| Error::system(format!("watch {name}"), &cause);
        let device = Arc::new(Device::new(facts, region, lanes).map_err(no_watch)?);
        let capacity_bytes = self.limits.capacity_bytes;
        let transport = UringTransport { target: self.target.clone(), capacity_bytes };
        let keeper =
            Keeper::start(device.clone(), transport, EventFd::new().map_err(no_watch)?).map_err(no_watch)?;
        Ok(Arc::new(Service::new(keeper, device, self.view(queues))))
    }
}
