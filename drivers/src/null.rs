//! The `null` driver: a disk of any size that discards writes and reads as zeroes. For measuring front-ends.

use std::sync::Arc;

use vm_memory::VolatileSlice;

use crate::driver::{Connected, DriverType, Opener};
use crate::error::{Errno, Error};
use crate::instant::{InstantConnected, InstantDisk, Source};
use crate::limits::{DiscardLimits, Limits, ZeroesLimits};
use crate::property::{self, Kind, Phase, Property, Settings};
use crate::queue::{Store, View};
use crate::request::{Extent, RequestFlags};
use crate::sys::mmap::zero;

pub(crate) struct NullDriver;
pub(crate) static NULL: NullDriver = NullDriver;

static TABLE: [Property; 32] = property::join([Property {
    name: "size",
    kind: Kind::Size { min: 0, max: i64::MAX as u64 },
    phase: Phase::Connect,
    default: "must be given",
    help: "Size of the disk",
}]);

impl DriverType for NullDriver {
    fn name(&self) -> &'static str {
        NullDisk::DRIVER
    }

    fn summary(&self) -> &'static str {
        "discards writes and reads zeroes"
    }

    fn magic_property(&self) -> &'static str {
        "size"
    }

    fn properties(&self) -> &'static [Property] {
        &TABLE
    }

    fn connect(&self, settings: &Settings, _opener: &Arc<dyn Opener>) -> Result<Box<dyn Connected>, Error> {
        let capacity_bytes = settings.size("size").ok_or_else(|| {
            Error::usage("driver 'null' needs the property 'size'").hint("for example: null 1G")
        })?;
        let limits = Limits {
            capacity_bytes,
            read_only: settings.bool("read-only").unwrap_or(false),
            can_grow: false,
            request_alignment_bytes: 1,
            buffer_alignment_bytes: 1,
            optimal_io_alignment_bytes: 4096,
            optimal_io_bytes: 0,
            max_transfer_bytes: 1 << 30,
            discard: Some(DiscardLimits { max_bytes: 0, alignment_bytes: 1 }),
            write_zeroes: Some(ZeroesLimits {
                max_bytes: 0,
                alignment_bytes: 1,
                fast_unmap: true,
                fast_no_unmap: true,
            }),
            fua: true,
            flush_needed: false,
            block_status: true,
            rotational: false,
            immediate: true,
        };
        Ok(Box::new(InstantConnected(Arc::new(NullDisk { limits: limits.validate()? }))))
    }
}

struct NullDisk {
    limits: Limits,
}

impl InstantDisk for NullDisk {
    const DRIVER: &'static str = "null";

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn view(&self, _offset: u64, len: usize) -> View {
        View::Zero(len)
    }

    fn read(&self, _offset: u64, into: &VolatileSlice<'_>) {
        zero(into);
    }

    fn write(&self, _offset: u64, _from: Source<'_>) -> Result<(), Errno> {
        Ok(())
    }

    fn discard(&self, _offset: u64, _len: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn write_zeroes(&self, _offset: u64, _len: u64, _flags: RequestFlags) -> Result<(), Errno> {
        Ok(())
    }

    fn block_status(&self, _offset: u64, len: u64, extents: &mut Vec<Extent>) {
        extents.push(Extent { len, hole: true, zero: true });
    }

    fn store(&self) -> Option<&dyn Store> {
        None
    }
}
