//! `remove`, `drain`, `pause` and `resume`: how an export is served.

use serde_json::{Value, json};

use super::super::Hub;
use super::super::arguments::Arguments;
use super::super::refusal::Refusal;
use super::done;

/// The name of the export, the only argument.
fn name(mut given: Arguments) -> Result<String, Refusal> {
    let name = given.text("name")?;
    given.finish()?;
    Ok(name)
}

pub(super) async fn remove(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    hub.service.remove(&name(given)?).await?;
    Ok(done())
}

pub(super) async fn drain(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    let cut_off = hub.service.drain(&name(given)?).await?;
    Ok(json!({ "cut-off": cut_off }))
}

pub(super) async fn pause(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    hub.service.pause(&name(given)?).await?;
    Ok(done())
}

pub(super) async fn resume(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    hub.service.resume(&name(given)?).await?;
    Ok(done())
}
