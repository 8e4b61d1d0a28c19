//! `clients`: who has an export open, and what he waits for.

use serde_json::{Value, json};

use super::super::Hub;
use super::super::arguments::Arguments;
use super::super::refusal::Refusal;
use super::ask;
use crate::tls::PeerIdentity;
use crate::worker::clients::ClientFacts;
use crate::worker::mailbox::Message;

pub(super) async fn run(hub: &Hub, given: Arguments) -> Result<Value, Refusal> {
    given.finish()?;
    let mut clients = Vec::new();
    let mut silent = Vec::new();
    for (number, worker) in hub.service.workers().mailboxes().iter().enumerate() {
        let mut next = Some(0);
        while let Some(from) = next {
            match ask(worker, |page| Message::Describe { from, page }).await {
                Some(page) => {
                    clients.extend(page.clients.into_iter().map(|client| (number, client)));
                    next = page.next;
                }
                None => {
                    silent.push(number);
                    next = None;
                }
            }
            if next.is_some() {
                // Sessions have their turn between two pages.
                hub.pace.turn().await;
            }
        }
    }
    clients.sort_by_key(|(_, client)| client.id);
    let clients: Vec<Value> = clients.into_iter().map(|(worker, client)| describe(worker, client)).collect();
    Ok(json!({ "clients": clients, "silent-workers": silent }))
}

fn describe(worker: usize, client: ClientFacts) -> Value {
    json!({
        "id": client.id,
        "export": client.export,
        "peer": client.peer,
        "tls": client.identity.map(identity),
        "connected": client.connected.as_secs(),
        "worker": worker,
        "in-flight": client.in_flight,
        "state": client.activity.name(),
    })
}

fn identity(identity: PeerIdentity) -> Value {
    json!({ "user": identity.psk_user, "certificate": identity.certificate_names })
}
