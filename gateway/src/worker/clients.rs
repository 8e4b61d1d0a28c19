//! The clients of a worker, for those who look after the server: who they are, and sending one of them away.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Worker;
use crate::net::peer;
use crate::session::{Activity, Session};
use crate::tls::PeerIdentity;

/// Places that one page tells of. Each client on it takes a system call or two, and sessions wait meanwhile.
const PAGE_PLACES: usize = 64;

/// A client as it is at the moment.
#[derive(Debug)]
pub(crate) struct ClientFacts {
    pub(crate) id: u64,
    /// Name of its export.
    pub(crate) export: String,
    /// The other end of its connection in words.
    pub(crate) peer: String,
    /// Who it has proven to be; `None` if it is not encrypted.
    pub(crate) identity: Option<PeerIdentity>,
    /// For how long its export has been open.
    pub(crate) connected: Duration,
    /// Requests of it that are not answered.
    pub(crate) in_flight: u32,
    pub(crate) activity: Activity,
}

/// Some of a worker's clients.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) clients: Vec<ClientFacts>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<usize>,
}

impl Worker {
    /// Describes the clients at some places of the table, from one on.
    pub(super) fn describe(&self, from: usize) -> Page {
        let now = Instant::now();
        let (sessions, next) = self.sessions.page(from, PAGE_PLACES);
        Page { clients: sessions.map(|session| facts(session, now)).collect(), next }
    }

    /// Sends a client away: with its answers, or at once. `found` is told whether it is here, `gone` when it is not any
    /// more.
    pub(super) fn dismiss(
        &mut self,
        client: u64,
        now: bool,
        found: oneshot::Sender<bool>,
        gone: oneshot::Sender<()>,
    ) {
        let key = self.sessions.entries().find(|(_, session)| session.visit.id == client).map(|(key, _)| key);
        // Whoever does not wait for it does not want to know.
        let _ = found.send(key.is_some());
        let Some(key) = key else { return };
        self.dismissed.push((key, gone));
        if now {
            return self.close(key);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.drain();
        }
        self.enqueue(key);
    }
}

fn facts(session: &Session, now: Instant) -> ClientFacts {
    ClientFacts {
        id: session.visit.id,
        export: session.export_name().to_owned(),
        peer: peer::name(&session.stream),
        identity: session.visit.identity.as_deref().cloned(),
        connected: now.saturating_duration_since(session.visit.since),
        in_flight: session.in_flight(),
        activity: session.activity(),
    }
}
