//! The `nvme-io_uring` driver: NVMe namespaces past the kernel's block layer, through io_uring.
//!
//! The kernel's NVMe driver stays in charge of the device: it carries our commands to its own queues, watches over
//! their time, and resets the controller when it must. What it answers is believed.
//!
//! | module | is |
//! |---|---|
//! | `target` | what `path` or `fd` names, identified; commands of administration |
//! | `passthrough` | commands as the kernel takes them |
//! | `lane` | a ring of commands |
//! | `probe` | whether kernel and caller may do this at all |
//! | `device` | the life cycle of the driver |
//! | `transport` | what the keeper's thread does |
//!
//! Commands and what they mean lie in the module `nvme`.

mod device;
mod lane;
mod passthrough;
mod probe;
mod target;
mod transport;

use std::sync::Arc;

use crate::driver::{Connected, DriverType, Opener};
use crate::error::Error;
use crate::nvme::properties;
use crate::property::{self, Kind, Phase, Property, Settings};
use device::UringConnected;

pub(crate) struct NvmeUringDriver;
pub(crate) static NVME_URING: NvmeUringDriver = NvmeUringDriver;

/// The name on the command line.
const NAME: &str = "nvme-io_uring";

static TABLE: [Property; 40] = property::join([
    Property {
        name: "path",
        kind: Kind::Path,
        phase: Phase::Connect,
        default: "none; this or fd must be given",
        help: "Generic device of a namespace, /dev/ngXnY",
    },
    Property {
        name: "fd",
        kind: Kind::Int { min: 0, max: i32::MAX as i64 },
        phase: Phase::Connect,
        default: "none",
        help: "Descriptor of the generic device, opened by whoever starts this program",
    },
    Property {
        name: "num-poll-queues",
        kind: Kind::Int { min: 0, max: 1024 },
        phase: Phase::Start,
        default: "0",
        help: "Queues that ask the device for completions; the kernel needs nvme.poll_queues=N for that",
    },
    Property {
        name: "num-entries",
        kind: Kind::Int { min: 1, max: 32768 },
        phase: Phase::Start,
        default: "128",
        help: "Most commands in flight on one queue; rounded up to a power of two",
    },
    property::fact_row("namespace", Kind::Int { min: 0, max: i64::MAX }, "Number of the namespace"),
    properties::SERIAL,
    properties::MODEL,
    properties::FIRMWARE,
    properties::HEALTH,
]);

impl DriverType for NvmeUringDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "NVMe namespaces past the kernel's block layer"
    }

    fn magic_property(&self) -> &'static str {
        "path"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        Ok(Box::new(UringConnected::new(settings, opener)?))
    }
}
