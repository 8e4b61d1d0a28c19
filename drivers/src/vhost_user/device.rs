//! [`VhostUserConnected`]: the life cycle of the driver.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NAME;
use super::address::Address;
use super::keeper::{self, Keeper};
use super::link::{LAYOUT_FEATURES, Link, PATIENCE, Terms};
use super::service::{self, PAYLOAD_ADDRESS};
use crate::device::service::{Service, View};
use crate::device::state::{Device, Facts};
use crate::driver::{Connected, Opener, StartOptions, Started};
use crate::error::Error;
use crate::limits::Limits;
use crate::mem::Region;
use crate::property::{Settings, Value};
use crate::virtio::lane;
use crate::virtio::properties::{self, Offer};
use crate::virtio::rings::Queues;
use crate::virtio::spec::{SECTOR_BYTES, feature};
use crate::virtio::view::BlkView;

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
        let limits = properties::limits(&link.config, settings, &name)?;
        let limits = Limits { can_grow: link.tells_changes(), ..limits };
        let loses_cache = settings.text("reconnect-cache") == Some(LOST);
        let opener = opener.clone();
        Ok(VhostUserConnected { link, address, opener, terms, limits, patience, loses_cache })
    }

    fn offer(&self) -> Offer {
        Offer {
            config: self.link.config,
            features: self.link.features,
            max_queues: self.link.queues,
            // The limit of the specification: nothing tells another one.
            max_queue_size: 32768,
        }
    }

    fn view(&self, queues: Queues, serial: &str) -> BlkView {
        let loses_cache = if self.loses_cache { LOST } else { "kept" };
        let own = vec![
            ("path", Value::Text(self.address.path())),
            ("fd", Value::Int(self.link.socket.as_raw_fd().into())),
            ("reconnect", Value::Patience(self.patience.map(|patience| patience.as_secs()))),
            ("reconnect-cache", Value::Text(loses_cache.into())),
        ];
        BlkView { driver: NAME, own, offer: self.offer(), queues, serial: serial.to_owned() }
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
        self.view(self.offer().no_queues(), "").property(&self.limits, name)
    }

    fn start(self: Box<Self>, settings: &Settings, options: StartOptions) -> Result<Arc<dyn Started>, Error> {
        let name = self.address.name();
        let queues = self.offer().queues(settings, options.workers.max(1), &name)?;
        let (config, limits) = self.offer().fitted(self.limits, queues, &name)?;
        let region = Region::new(options.region_bytes, options.workers.max(1))
            .map_err(|cause| Error::system(format!("make the memory for {name}"), &cause))?;
        let region = Arc::new(region);
        let mut view = self.view(queues, "");
        let mut link = self.link;
        let until = Instant::now() + PATIENCE;
        let service = service::start(&mut link, &name, queues, &region.file(), until)?;
        view.serial.clone_from(&service.serial);
        let facts = Facts {
            name,
            limits,
            native_fua: false,
            resends_max: u32::MAX,
            is_mended: false,
            request_timeout: None,
        };
        let lanes = lane::lanes(service.parts, config, PAYLOAD_ADDRESS);
        let no_watch = |cause| Error::system(format!("watch {}", self.address.name()), &cause);
        let device = Arc::new(Device::new(facts, region, lanes).map_err(no_watch)?);
        // What changes the memory of a queue is not taken from another back-end if this one does not have it, nor is a
        // cache, which nobody would flush.
        let without = (LAYOUT_FEATURES | feature::FLUSH) & !link.features;
        let terms = Terms { without, ..self.terms };
        let plan = keeper::Plan {
            address: self.address.clone(),
            opener: self.opener,
            terms,
            queues,
            config,
            serial: service.serial,
            patience: self.patience,
            loses_cache: self.loses_cache,
        };
        let keeper = Keeper::start(device.clone(), link, plan).map_err(no_watch)?;
        Ok(Arc::new(Service::new(keeper, device, view)))
    }
}
