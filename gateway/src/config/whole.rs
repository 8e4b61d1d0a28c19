//! What the sections of a file must be together.

use std::collections::HashSet;

use nbd::server::TlsMode;

use super::Told;
use super::export::Draft;
use super::listen::{has_addresses, has_users};
use super::report::Mistakes;
use super::section::At;
use super::server::ServerConfig;
use crate::net::listen::Listen;

pub(super) fn check(
    server: &ServerConfig,
    listen: &[At<Listen>],
    exports: &[Draft],
    told: Told,
    mistakes: &Mistakes,
) {
    check_places(listen, mistakes);
    check_names(exports, mistakes);
    check_default(exports, mistakes);
    for export in exports {
        if !told.tls {
            check_tls(server, export, mistakes);
        }
        if !told.places {
            check_reach(listen, export, mistakes);
        }
    }
}

/// No place twice. A free port is another one each time, a private folder too.
fn check_places(listen: &[At<Listen>], mistakes: &Mistakes) {
    let mut seen = HashSet::new();
    for place in listen {
        let many =
            matches!(place.value, Listen::Tcp { port: 0, .. } | Listen::Vsock { port: 0 } | Listen::Private);
        if !many && !seen.insert(&place.value) {
            mistakes.add_with_hint(place.at, "this place to listen on is there twice", "leave it out here");
        }
    }
}

fn check_names(exports: &[Draft], mistakes: &Mistakes) {
    let mut seen = HashSet::new();
    for name in exports.iter().filter_map(|export| export.name.as_ref()) {
        if !seen.insert(&name.value) {
            let text = format!("another export is called '{}'", name.value);
            mistakes.add_with_hint(name.at, text, "names must differ");
        }
    }
}

fn check_default(exports: &[Draft], mistakes: &Mistakes) {
    let mut defaults = exports.iter().filter(|export| export.default_at.is_some());
    let Some(first) = defaults.next() else { return };
    for at in defaults.filter_map(|export| export.default_at) {
        mistakes.add_with_hint(at, "another export is the default already", "leave 'default' out here");
    }
    let is_unnamed = |export: &&Draft| export.name.as_ref().is_some_and(|name| name.value.is_empty());
    if let (Some(at), Some(unnamed)) = (first.default_at, exports.iter().find(is_unnamed))
        && unnamed.default_at.is_none()
    {
        let text = "the export without a name is the default: clients that ask for none ask for that name";
        mistakes.add_with_hint(at, text, "leave 'default' out here, or give the other one a name");
    }
}

/// Exports that nobody could open for want of TLS.
fn check_tls(server: &ServerConfig, export: &Draft, mistakes: &Mistakes) {
    let off = server.tls == Some(TlsMode::Off);
    if let Some(at) = export.tls_at.filter(|_| off) {
        let text = "nobody can open this export: it needs TLS, and [server] has tls = \"off\"";
        mistakes.add_with_hint(at, text, "set that to \"on\"");
    }
    for (key, at) in &export.allow_keys {
        match *key {
            "certificate" | "psk" if off => {
                let text = format!("no client can match '{key}': [server] has tls = \"off\"");
                mistakes.add_with_hint(*at, text, "set that to \"on\"");
            }
            "certificate" if server.tls_verify_peer == Some(false) => {
                let text = "no client can match 'certificate': [server] has tls-verify-peer = false";
                mistakes.add_with_hint(*at, text, "set that to true");
            }
            _ => {}
        }
    }
}

/// Rules about what clients of no place to listen on have.
fn check_reach(listen: &[At<Listen>], export: &Draft, mistakes: &Mistakes) {
    if listen.is_empty() {
        return;
    }
    let users = listen.iter().any(|place| has_users(&place.value));
    let addresses = listen.iter().any(|place| has_addresses(&place.value));
    for (key, at) in &export.allow_keys {
        match *key {
            "uid" | "gid" if !users => {
                let text = format!("no client can match '{key}': no [[listen]] is a Unix socket");
                mistakes.add_with_hint(*at, text, "add one with the key 'unix'");
            }
            "address" if !addresses => {
                let text = "no client can match 'address': no [[listen]] is for TCP";
                mistakes.add_with_hint(*at, text, "add one with the key 'tcp'");
            }
            _ => {}
        }
    }
}
