//! The `memory` driver: a sparse RAM disk. Reads are answered straight from its store.

mod bitmap;
mod disk;

use std::sync::Arc;

use crate::driver::{Connected, DriverType, Opener};
use crate::error::Error;
use crate::instant::{InstantConnected, InstantDisk};
use crate::property::{self, Kind, Phase, Property, Settings};
use disk::MemoryDisk;

pub(crate) struct MemoryDriver;
pub(crate) static MEMORY: MemoryDriver = MemoryDriver;

static TABLE: [Property; 32] = property::join([Property {
    name: "size",
    // The address space of a process holds 128 TiB; half of it leaves room for everything else.
    kind: Kind::Size { min: 0, max: 64 << 40 },
    phase: Phase::Connect,
    default: "must be given",
    help: "Size of the disk; memory is used only for what is written",
}]);

impl DriverType for MemoryDriver {
    fn name(&self) -> &'static str {
        MemoryDisk::DRIVER
    }

    fn summary(&self) -> &'static str {
        "sparse RAM disk"
    }

    fn magic_property(&self) -> &'static str {
        "size"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, _opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        let size = settings.size("size").ok_or_else(|| {
            Error::usage("driver 'memory' needs the property 'size'").hint("for example: memory 1G")
        })?;
        let disk = MemoryDisk::new(size, settings.bool("read-only").unwrap_or(false))
            .map_err(|cause| Error::system(format!("make a RAM disk of {size} bytes"), &cause))?;
        Ok(Box::new(InstantConnected(Arc::new(disk))))
    }
}
