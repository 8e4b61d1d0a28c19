//! `reload` and `stop`: what signals do, too. The control thread does it when it is told to.

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::super::arguments::Arguments;
use super::super::refusal::{self, Refusal};
use super::super::{Hub, Order};
use super::done;

pub(super) async fn reload(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    given.finish()?;
    let (sender, outcome) = oneshot::channel();
    hub.orders.send(Order::Reload(sender)).map_err(|_| refusal::ending())?;
    let changes = outcome.await.map_err(|_| refusal::ending())?.map_err(Refusal::failure)?;
    Ok(json!({ "added": changes.added, "removed": changes.removed, "changed": changes.changed }))
}

pub(super) fn stop(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    given.finish()?;
    hub.orders.send(Order::Stop).map_err(|_| refusal::ending())?;
    Ok(done())
}
