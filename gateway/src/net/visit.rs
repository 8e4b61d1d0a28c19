//! [`Visit`]: a client's time with an export, for the log and for those who look after the server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::complaint::{Limiter, Verdict};
use crate::log::Shown;
use crate::tls::PeerIdentity;

/// Not every client of a flood is told of.
static LIMITER: Limiter = Limiter::new();

/// The number of the next client.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Whoever started the server is its client and knows.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Tells of clients only those who look for a fault.
pub(crate) fn be_quiet() {
    IS_QUIET.store(true, Ordering::Relaxed);
}

/// A client that has opened an export, until this is dropped. The log tells of its coming and its leaving, or of
/// neither; to those who look for a fault, of both in any case.
#[derive(Debug)]
pub(crate) struct Visit {
    /// Its number: no other client of this server has it, or had it before.
    pub(crate) id: u64,
    /// Where it comes from.
    client: Box<str>,
    /// Who it has proven to be; `None` if its connection is not encrypted.
    pub(crate) identity: Option<Box<PeerIdentity>>,
    export: Box<str>,
    /// When it opened the export.
    pub(crate) since: Instant,
    is_told: bool,
}

impl Visit {
    /// A client opens an export. `client` says where it comes from, `identity` who it has proven to be.
    pub(crate) fn begin(client: String, identity: Option<&PeerIdentity>, export: &str) -> Visit {
        let visit = Visit {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            client: client.into(),
            identity: identity.cloned().map(Box::new),
            export: export.into(),
            since: Instant::now(),
            is_told: !IS_QUIET.load(Ordering::Relaxed) && may_be_told(),
        };
        visit.tell(format_args!("opens export {}", Shown(export)));
        visit
    }

    /// Where the client comes from.
    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    /// What it has opened.
    pub(crate) fn export(&self) -> &str {
        &self.export
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        let (client, export) = (&*self.client, &*self.export);
        let identity = self.identity.as_deref();
        let (by, user) = (by(identity), identity.and_then(PeerIdentity::name));
        match self.is_told {
            true => tracing::info!(client, export, user, "{client}{by} {what}"),
            false => tracing::debug!(client, export, user, "{client}{by} {what}"),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let seconds = self.since.elapsed().as_secs_f64();
        self.tell(format_args!("leaves export {} after {seconds:.1} s", Shown(&self.export)));
    }
}

/// Who a client has proven to be, as a part of a message behind where it comes from.
pub(crate) fn by(identity: Option<&PeerIdentity>) -> String {
    identity.map(|identity| format!(" ({identity})")).unwrap_or_default()
}

fn may_be_told() -> bool {
    let Verdict::Log { left_out } = LIMITER.judge() else { return false };
    if left_out > 0 {
        tracing::info!("{left_out} other clients came without a word about them");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_clients_have_the_same_number() {
        let begin = || Visit::begin("a client".into(), None, "an export");
        let (one, other) = (begin(), begin());
        assert!(one.id < other.id);
    }
}
