//! [`Caller`]: who a client is, for those who look after the server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::tls::PeerIdentity;

/// The number of the next client.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What is known of a client besides its connection.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Its number: no other client of this server has it, or had it before.
    pub(crate) id: u64,
    /// When it opened its export.
    pub(crate) since: Instant,
    /// Who it has proven to be; `None` if it is not encrypted.
    pub(crate) identity: Option<Box<PeerIdentity>>,
}

impl Caller {
    /// A client that has just opened its export.
    pub(crate) fn new(identity: Option<PeerIdentity>) -> Caller {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Caller { id, since: Instant::now(), identity: identity.map(Box::new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_clients_have_the_same_number() {
        let (one, other) = (Caller::new(None), Caller::new(None));
        assert!(one.id < other.id);
    }
}
