//! `exports`: what is served, and how.

use drivers::{DriverType, Settings};
use serde_json::{Map, Value, json};

use super::super::Hub;
use super::super::arguments::Arguments;
use super::super::refusal::Refusal;
use crate::server::Served;

pub(super) fn run(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    given.finish()?;
    let exports: Vec<Value> = hub.service.exports().iter().map(describe).collect();
    Ok(json!({ "exports": exports }))
}

fn describe(served: &Served) -> Value {
    let limits = served.device.limits();
    let (offer, device) = (&served.plan.offer, &served.plan.device);
    json!({
        "name": offer.name,
        "description": offer.description,
        "driver": device.driver.name(),
        "properties": properties(device.driver, &device.settings),
        "capacity": limits.capacity_bytes,
        "read-only": offer.read_only || limits.read_only,
        "default": offer.is_default,
        "tls": if offer.needs_tls { "require" } else { "any" },
        "memory": device.options.region_bytes,
        "queues": served.device.queues(),
        "clients": served.clients(),
        "state": served.phase.name(),
        "added": served.is_added,
    })
}

/// What was set, in the order of the driver's table.
fn properties(driver: &dyn DriverType, settings: &Settings) -> Map<String, Value> {
    let value = |name: &'static str| Some((name.to_owned(), crate::values::json(settings.get(name)?)));
    driver.properties().iter().filter_map(|property| value(property.name)).collect()
}
