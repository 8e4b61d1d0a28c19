//! [`PeerIdentity`]: who a client has proven to be.

use std::fmt;

use openssl::nid::Nid;
use openssl::ssl::{SslRef, SslVersion};
use openssl::x509::X509Ref;

use super::psk;
use crate::log::Shown;

/// Who a client has proven to be. Both are empty if nobody asked for a proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    /// Names of its certificate: the common name, then the DNS names.
    pub(crate) certificate_names: Vec<String>,
    /// Name of the user whose key it has.
    pub(crate) psk_user: Option<String>,
}

impl PeerIdentity {
    /// Of a connection whose handshake is done.
    pub(super) fn of(ssl: &SslRef) -> PeerIdentity {
        let names = ssl.peer_certificate().map(|certificate| names_of(&certificate));
        PeerIdentity { certificate_names: names.unwrap_or_default(), psk_user: psk_user(ssl) }
    }
}

impl PeerIdentity {
    /// The name of the user, or the first one of the certificate.
    pub(crate) fn name(&self) -> Option<&str> {
        self.psk_user.as_deref().or(self.certificate_names.first().map(String::as_str))
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.psk_user, self.certificate_names.first()) {
            (Some(user), _) => write!(f, "user {}", Shown(user)),
            (None, Some(name)) => write!(f, "the owner of certificate {}", Shown(name)),
            (None, None) => f.write_str("somebody"),
        }
    }
}

fn names_of(certificate: &X509Ref) -> Vec<String> {
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    let mut names: Vec<String> = common.filter_map(|entry| entry.data().to_string().ok()).collect();
    for name in certificate.subject_alt_names().iter().flatten() {
        names
            .extend(name.dnsname().filter(|name| !names.iter().any(|known| known == name)).map(String::from));
    }
    names
}

/// The user, if his key was not only named but used. A client may name a user and go on with a certificate.
fn psk_user(ssl: &SslRef) -> Option<String> {
    // Nothing else is resumed here: there are no tickets and no cache.
    let used = match ssl.version2() {
        Some(SslVersion::TLS1_3) => ssl.session_reused(),
        _ => ssl.current_cipher().is_some_and(|cipher| cipher.name().contains("PSK")),
    };
    psk::seen(ssl).filter(|seen| used && seen.known).map(|seen| seen.user.clone())
}
