//! The device that the property `path` names.

use std::path::Path;
use std::sync::Arc;

use super::Function;
use super::vfio::VfioFunction;
use crate::error::Error;
use crate::property::{Kind, Phase, Property, Settings};

pub(crate) const PATH: Property = Property {
    name: "path",
    kind: Kind::Path,
    phase: Phase::Connect,
    default: "none; it must be given",
    help: "Folder of the device, /sys/bus/pci/devices/DOMAIN:BUS:DEVICE.FUNCTION",
};

/// Opens it for a driver. `example` is the address of a device that it may have.
///
/// # Errors
/// None is named, or the system does not hand it out.
pub(crate) fn open<'a>(
    driver: &str,
    example: &str,
    settings: &'a Settings,
) -> Result<(Arc<dyn Function>, &'a Path), Error> {
    let Some(path) = settings.path("path") else {
        return Err(Error::usage(format!("driver '{driver}' needs the property 'path'"))
            .hint(format!("for example: {driver} path=/sys/bus/pci/devices/{example}")));
    };
    Ok((Arc::new(VfioFunction::open(path)?), path))
}
