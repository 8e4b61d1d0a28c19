//! The `virtio-blk-vfio-pci` driver: virtio block devices on the PCI bus, driven from this process.
//!
//! | module | is |
//! |---|---|
//! | `layout` | where the device's structures are (VIRTIO 1.2, section 4.1.4 "Virtio Structure PCI Capabilities") |
//! | `control` | the device's registers: status, features, configuration, queues |
//! | `device` | the life cycle of the driver |
//! | `transport` | what the keeper's thread does: changes, trouble, the end |
//!
//! How the device is reached lies in the module `pci`.

mod control;
mod device;
mod layout;
mod transport;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Connected, DriverType, Opener};
use crate::error::Error;
use crate::pci::Function;
use crate::pci::named;
use crate::property::{self, Property, Settings};
use crate::virtio::properties;
use device::PciConnected;

pub(crate) struct VirtioPciDriver;
pub(crate) static VIRTIO_PCI: VirtioPciDriver = VirtioPciDriver;

/// The name on the command line.
const NAME: &str = "virtio-blk-vfio-pci";

static TABLE: [Property; 37] = property::join([
    named::PATH,
    properties::REQUEST_TIMEOUT,
    properties::QUEUE_SIZE,
    properties::NUM_POLL_QUEUES,
    properties::MAX_QUEUE_SIZE,
    properties::SERIAL,
]);

impl DriverType for VirtioPciDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "virtio disks on the PCI bus, over VFIO"
    }

    fn magic_property(&self) -> &'static str {
        "path"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, _opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        let (function, path) = named::open(NAME, "0000:00:04.0", settings)?;
        connect(settings, function, path, Patience::default())
    }
}

/// How long a device may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// To reset itself.
    pub(crate) reset: Duration,
    /// To end the first request.
    pub(crate) answer: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { reset: Duration::from_secs(10), answer: Duration::from_secs(10) }
    }
}

/// Takes the device that is `function` and is known by `path`.
///
/// # Errors
/// It is no block device of virtio 1, or does not do what such devices do, or the properties ask for what it does not
/// have.
pub(crate) fn connect(
    settings: &Settings,
    function: Arc<dyn Function>,
    path: &Path,
    patience: Patience,
) -> Result<Box<dyn Connected>, Error> {
    Ok(Box::new(PciConnected::new(settings, function, path.display().to_string(), patience)?))
}
