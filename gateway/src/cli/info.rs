//! `gateway info`: everything that is known about a disk, for people and scripts.
//!
//! The lines are `NAME=VALUE` in the order of the driver's table, the JSON is one object with the same names; both
//! are stable.

use drivers::{DriverType, Error, Started, Value};

use crate::server::Device;
use crate::values::json;

/// Opens the disk and describes it.
///
/// # Errors
/// What the driver says.
pub(super) fn text(device: &Device, json: bool) -> Result<String, Error> {
    let started = device.start()?;
    Ok(if json { as_json(device.driver, &*started) } else { as_lines(device.driver, &*started) })
}

fn values(driver: &dyn DriverType, disk: &dyn Started) -> Vec<(&'static str, Value)> {
    let value = |name: &'static str| disk.property(name).map(|value| (name, value));
    driver.properties().iter().filter_map(|property| value(property.name)).collect()
}

fn as_lines(driver: &dyn DriverType, disk: &dyn Started) -> String {
    values(driver, disk).into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn as_json(driver: &dyn DriverType, disk: &dyn Started) -> String {
    let object: serde_json::Map<String, serde_json::Value> =
        values(driver, disk).into_iter().map(|(name, value)| (name.to_owned(), json(&value))).collect();
    format!("{:#}\n", serde_json::Value::Object(object))
}
