//! Rows about controllers in the tables of their drivers, and their values.

use super::disk::Disk;
use crate::property::{Kind, Property, Value, fact_row};

pub(crate) const SERIAL: Property = fact_row("serial", Kind::Text, "Serial number of the controller");
pub(crate) const MODEL: Property = fact_row("model", Kind::Text, "Model of the controller");
pub(crate) const FIRMWARE: Property =
    fact_row("firmware", Kind::Text, "Revision of the controller's firmware");
pub(crate) const HEALTH: Property =
    fact_row("health", Kind::Text, "What the controller says of its condition, asked at the start");

/// The values of these rows and of `namespace`.
pub(crate) fn identity(disk: &Disk) -> [(&'static str, Value); 5] {
    let controller = &disk.controller;
    let health = disk.health.map_or_else(|| "unknown".into(), |health| health.to_string());
    [
        ("namespace", Value::Int(disk.number.into())),
        (SERIAL.name, Value::Text(controller.serial.clone())),
        (MODEL.name, Value::Text(controller.model.clone())),
        (FIRMWARE.name, Value::Text(controller.firmware.clone())),
        (HEALTH.name, Value::Text(health)),
    ]
}
