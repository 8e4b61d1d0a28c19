//! `status`: the server as a whole.

use serde_json::{Value, json};

use super::super::Hub;
use super::super::arguments::Arguments;
use super::super::refusal::Refusal;

pub(super) fn run(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    given.finish()?;
    let workers = hub.service.workers();
    Ok(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime": hub.started.elapsed().as_secs(),
        "workers": workers.mailboxes().len(),
        "places": *hub.places.borrow(),
        "exports": hub.service.exports().len(),
        "connections": workers.connections(),
    }))
}
