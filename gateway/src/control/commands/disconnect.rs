//! `disconnect`: sends a client away.

use std::sync::Arc;
use std::time::Duration;

use drivers::Error;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::Hub;
use super::super::arguments::Arguments;
use super::super::refusal::Refusal;
use super::ask;
use crate::worker::mailbox::{Mailbox, Message};

/// How long the client may take to receive its last answers.
const CLIENT: Duration = Duration::from_secs(10);

pub(super) async fn run(hub: &Hub, mut given: Arguments) -> Result<Value, Refusal> {
    let client = given.number("client")?;
    let now = given.flag("now")?;
    given.finish()?;
    for worker in hub.service.workers().mailboxes() {
        let Some(gone) = dismiss(worker, client, now).await else { continue };
        tracing::info!("client {client} is sent away by an operator");
        // The other end of the channel is dropped with the client's session.
        if timeout(CLIENT, gone).await.is_ok() {
            return Ok(json!({ "cut-off": now }));
        }
        tracing::warn!("closing the connection of client {client}, which does not finish");
        if let Some(gone) = dismiss(worker, client, true).await {
            let _ = timeout(CLIENT, gone).await;
        }
        return Ok(json!({ "cut-off": true }));
    }
    let error = Error::device(format!("there is no client {client}"));
    Err(error.hint("it may have left; 'clients' lists those that are there").into())
}

/// Has a worker send the client away, if it is there. Returns what ends when the client is gone.
async fn dismiss(worker: &Arc<Mailbox>, client: u64, now: bool) -> Option<oneshot::Receiver<()>> {
    let (gone, end) = oneshot::channel();
    let is_there = ask(worker, |found| Message::Dismiss { client, now, found, gone }).await;
    is_there.filter(|is_there| *is_there).map(|_| end)
}
