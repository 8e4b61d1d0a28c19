//! The `io_uring` driver: regular files and block devices through io_uring, and through plain system calls where
//! those are faster.
//!
//! | module | is |
//! |---|---|
//! | `target` | what `path` or `fd` names, identified |
//! | `probe` | what it can do |
//! | `disk` | its limits, and what changes about them in service |
//! | `flights` | the rings of a queue and the requests in them |
//! | `inline` | reads and writes that need no ring |
//! | `extents` | holes |
//! | `queue` | the queue that puts all of this together |

mod device;
mod disk;
mod extents;
mod flights;
mod inline;
mod probe;
mod queue;
mod target;

use std::sync::Arc;

use crate::driver::{Connected, DriverType, Opener};
use crate::error::Error;
use crate::property::{self, Kind, Phase, Property, Settings};
use device::FileConnected;

pub(crate) struct IoUringDriver;
pub(crate) static IO_URING: IoUringDriver = IoUringDriver;

/// The name on the command line.
const NAME: &str = "io_uring";

static TABLE: [Property; 36] = property::join([
    Property {
        name: "path",
        kind: Kind::Path,
        phase: Phase::Connect,
        default: "none; this or fd must be given",
        help: "Image file or block device",
    },
    Property {
        name: "fd",
        kind: Kind::Int { min: 0, max: i32::MAX as i64 },
        phase: Phase::Connect,
        default: "none",
        help: "Descriptor of the file or device, opened by whoever starts this program",
    },
    Property {
        name: "direct",
        kind: Kind::Bool,
        phase: Phase::Connect,
        default: "false, or as the descriptor was opened",
        help: "Bypass the page cache (O_DIRECT)",
    },
    Property {
        name: "num-poll-queues",
        kind: Kind::Int { min: 0, max: 1024 },
        phase: Phase::Start,
        default: "0",
        help: "Queues that ask the device for completions instead of being interrupted; needs direct=true",
    },
    Property {
        name: "num-entries",
        kind: Kind::Int { min: 1, max: 32768 },
        phase: Phase::Start,
        default: "128",
        help: "Most requests in flight on one queue; rounded up to a power of two",
    },
]);

impl DriverType for IoUringDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "image files and block devices"
    }

    fn magic_property(&self) -> &'static str {
        "path"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        Ok(Box::new(FileConnected::new(settings, &**opener)?))
    }
}
