//! The `virtio-blk-vhost-vdpa` driver: block devices that the kernel offers as `/dev/vhost-vdpa-N`.
//!
//! | module | is |
//! |---|---|
//! | `open` | from properties to an open device node |
//! | `control` | the device's ioctls, with errors that name them |
//! | `device` | the life cycle of the driver |
//! | `transport` | what the keeper's thread does |
//!
//! The interface is that of include/uapi/linux/vhost.h of Linux; the crate `vhost` speaks it.

mod control;
mod device;
mod open;
mod transport;

use std::sync::Arc;

use crate::driver::{Connected, DriverType, Opener};
use crate::error::Error;
use crate::property::{self, Kind, Phase, Property, Settings};
use crate::virtio::properties;
use device::VdpaConnected;

pub(crate) struct VhostVdpaDriver;
pub(crate) static VHOST_VDPA: VhostVdpaDriver = VhostVdpaDriver;

/// The name on the command line.
const NAME: &str = "virtio-blk-vhost-vdpa";

static TABLE: [Property; 38] = property::join([
    Property {
        name: "path",
        kind: Kind::Path,
        phase: Phase::Connect,
        default: "none; this or fd must be given",
        help: "Device node, /dev/vhost-vdpa-N",
    },
    Property {
        name: "fd",
        kind: Kind::Int { min: 0, max: i32::MAX as i64 },
        phase: Phase::Connect,
        default: "none",
        help: "Descriptor of the open device node",
    },
    properties::REQUEST_TIMEOUT,
    properties::QUEUE_SIZE,
    properties::NUM_POLL_QUEUES,
    properties::MAX_QUEUE_SIZE,
    properties::SERIAL,
]);

impl DriverType for VhostVdpaDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "disks that the kernel offers over vhost-vdpa"
    }

    fn magic_property(&self) -> &'static str {
        "path"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        Ok(Box::new(VdpaConnected::new(settings, &**opener)?))
    }
}
