//! The `nvme-vfio-pci` driver: NVMe disks on the PCI bus, driven from this process.
//!
//! | module | is |
//! |---|---|
//! | `controller` | registers: stop, start, shutdown, doorbells |
//! | `memory` | the memory of a pair of queues that the controller sees |
//! | `doorbells` | telling the controller how far queues have come |
//! | `pair` | a submission and a completion queue |
//! | `admin` | commands of administration |
//! | `lane` | requests of this crate to commands and back |
//! | `setup` | all that queues are made of, again after each reset |
//! | `device` | the life cycle of the driver |
//! | `transport` | what the keeper's thread does |
//!
//! Commands and what they mean lie in the module `nvme`, how the device is reached in `pci`, what becomes of requests
//! when the device goes in `device`.

mod admin;
mod controller;
mod device;
mod doorbells;
mod lane;
mod memory;
mod pair;
mod setup;
mod transport;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::device::properties as queue_properties;
use crate::driver::{Connected, DriverType, Opener};
use crate::error::Error;
use crate::nvme::properties;
use crate::pci::Function;
use crate::pci::named;
use crate::property::{self, Kind, Phase, Property, Settings};
use device::NvmeConnected;
#[cfg(feature = "testing")]
pub(crate) use transport::NvmeTransport;

pub(crate) struct NvmePciDriver;
pub(crate) static NVME_PCI: NvmePciDriver = NvmePciDriver;

/// The name on the command line.
const NAME: &str = "nvme-vfio-pci";

static TABLE: [Property; 41] = property::join([
    named::PATH,
    Property {
        name: "namespace",
        kind: Kind::Int { min: 1, max: 0xffff_fffe },
        phase: Phase::Connect,
        default: "the only one, or 1",
        help: "Number of the namespace",
    },
    Property {
        name: "request-timeout",
        kind: Kind::Patience { max: 31_536_000 },
        phase: Phase::Connect,
        default: "30",
        help: "How long the controller may end no request, or put one off, before that counts as failed",
    },
    Property {
        name: "queue-size",
        kind: Kind::Int { min: 2, max: 1024 },
        phase: Phase::Start,
        default: "256, or as many as there may be",
        help: "Entries of each queue",
    },
    queue_properties::NUM_POLL_QUEUES,
    queue_properties::MAX_QUEUE_SIZE,
    properties::SERIAL,
    properties::MODEL,
    properties::FIRMWARE,
    properties::HEALTH,
]);

impl DriverType for NvmePciDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "NVMe disks on the PCI bus, over VFIO"
    }

    fn magic_property(&self) -> &'static str {
        "path"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, _opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        let (function, path) = named::open(NAME, "0000:03:00.0", settings)?;
        connect(settings, function, path, Patience::default())
    }
}

/// How long a controller may take, besides what it says itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a command of administration. Some controllers take long after a power failure.
    pub(crate) admin: Duration,
    /// For a shutdown.
    pub(crate) shutdown: Duration,
    /// For a start or a stop, if it says that it takes longer.
    pub(crate) change: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        // No controller can say that it takes longer than 127.5 s to start.
        let change = Duration::from_secs(128);
        Patience { admin: Duration::from_secs(30), shutdown: Duration::from_secs(10), change }
    }
}

/// Takes the controller that is `function` and is known by `path`.
///
/// # Errors
/// It is no NVMe controller, or does not do what such controllers do, or its namespace cannot be served as a disk, or
/// the properties ask for what it does not have.
pub(crate) fn connect(
    settings: &Settings,
    function: Arc<dyn Function>,
    path: &Path,
    patience: Patience,
) -> Result<Box<dyn Connected>, Error> {
    Ok(Box::new(NvmeConnected::new(settings, function, path.display().to_string(), patience)?))
}

/// The same, in service with nobody who keeps it: whoever calls does what the keeper's thread would do.
///
/// # Errors
/// As of [`connect`], and of the start.
#[cfg(feature = "testing")]
pub(crate) fn unkept(
    settings: &Settings,
    function: Arc<dyn Function>,
    patience: Patience,
    options: crate::driver::StartOptions,
) -> Result<(Arc<crate::device::state::Device>, NvmeTransport), Error> {
    let connected = NvmeConnected::new(settings, function, "by hand".into(), patience)?;
    let prepared = connected.prepare(settings, options)?;
    Ok((prepared.device, prepared.transport))
}
