//! [`Address`]: where clients find this server, as URIs, other tools and shells write it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use nbd::server::TlsMode;
use nbd::uri::{Transport, UnixSocket, Uri, UriTls};
use socket2::SockAddr;

use crate::tls;

/// Where clients find this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host name or address, and a port.
    Tcp { host: String, port: u16 },
    /// A socket file, by its absolute path.
    Unix(PathBuf),
    /// A name in the abstract namespace of Linux, without the leading NUL.
    Abstract(Vec<u8>),
    /// A context and a port of AF_VSOCK.
    Vsock { cid: u32, port: u32 },
}

impl Address {
    /// The address of a socket that somebody else has bound, if NBD clients have words for it.
    pub(crate) fn of_listener(address: &SockAddr) -> Option<Address> {
        if let Some(address) = address.as_socket() {
            let host =
                if address.ip().is_unspecified() { "localhost".into() } else { address.ip().to_string() };
            return Some(Address::Tcp { host, port: address.port() });
        }
        if let Some((cid, port)) = address.as_vsock_address() {
            // All contexts: what works from this machine.
            let cid = if cid == libc::VMADDR_CID_ANY { libc::VMADDR_CID_LOCAL } else { cid };
            return Some(Address::Vsock { cid, port });
        }
        if let Some(path) = address.as_pathname() {
            return Some(Address::Unix(path.to_owned()));
        }
        address.as_abstract_namespace().map(|name| Address::Abstract(name.to_owned()))
    }

    /// The URI of an export. Where encryption is a must it says how, as nbdkit's does.
    pub(crate) fn uri(&self, export: &str, tls: &tls::Settings) -> String {
        let transport = match self {
            Address::Tcp { host, port } => Transport::Tcp { host: host.clone(), port: *port },
            Address::Unix(path) => Transport::Unix(UnixSocket::Path(path.clone())),
            Address::Abstract(name) => Transport::Unix(UnixSocket::Abstract(name.clone())),
            Address::Vsock { cid, port } => Transport::Vsock { cid: *cid, port: *port },
        };
        let mut uri = Uri::new(transport, export);
        if tls.mode == TlsMode::Require {
            uri.tls = UriTls::Required;
            uri.tls_parameters.certificates = tls.certificates.clone();
            if tls.certificates.is_none() {
                uri.tls_parameters.psk_file = tls.psk.clone();
            }
        }
        uri.to_string()
    }

    /// The address as it was written before there were URIs: as guestfish(1) wants it if it is for a guestfish, and as
    /// the tools of QEMU understand it otherwise. Younger kinds of addresses have URIs only.
    fn old_style(&self, for_guestfish: bool) -> OsString {
        let (before, path) = match self {
            Address::Tcp { host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let scheme = if for_guestfish { "nbd://" } else { "nbd:" };
                return format!("{scheme}{host}:{port}").into();
            }
            Address::Unix(path) if for_guestfish => ("nbd://?socket=", path),
            Address::Unix(path) => ("nbd:unix:", path),
            Address::Abstract(_) | Address::Vsock { .. } => {
                return self.uri("", &tls::Settings::OFF).into();
            }
        };
        let mut text = OsString::from(before);
        text.push(path);
        text
    }

    /// The variables that a captive command gets, with the names that nbdkit has for them. All are always set, so that
    /// none is inherited from elsewhere.
    pub(crate) fn variables(
        &self,
        export: &str,
        command: &str,
        tls: &tls::Settings,
    ) -> [(&'static str, OsString); 8] {
        let (port, path) = match self {
            Address::Tcp { port, .. } => (port.to_string().into(), OsString::new()),
            Address::Vsock { port, .. } => (port.to_string().into(), OsString::new()),
            Address::Unix(path) => (OsString::new(), path.clone().into()),
            Address::Abstract(_) => (OsString::new(), OsString::new()),
        };
        let uri: OsString = self.uri(export, tls).into();
        let mode = match tls.mode {
            TlsMode::Off => "0",
            TlsMode::On => "1",
            TlsMode::Require => "2",
        };
        let file = |path: &Option<PathBuf>| path.clone().unwrap_or_default().into();
        [
            ("uri", uri.clone()),
            // What was there before URIs cannot ask for encryption.
            ("nbd", if mode == "2" { uri } else { self.old_style(command.contains("guestfish")) }),
            ("port", port),
            ("unixsocket", path),
            ("exportname", export.into()),
            ("tls", mode.into()),
            ("tls_certificates", file(&tls.certificates)),
            ("tls_psk", file(&tls.psk)),
        ]
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "TCP [{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "TCP {host}:{port}"),
            Address::Unix(path) => write!(f, "socket {}", path.display()),
            Address::Abstract(name) => write!(f, "socket @{}", name.escape_ascii()),
            Address::Vsock { port, .. } => write!(f, "vsock port {port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(address: &Address, export: &str, command: &str) -> Vec<String> {
        address
            .variables(export, command, &tls::Settings::OFF)
            .into_iter()
            .map(|(_, value)| value.into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_command_learns_a_socket_in_every_spelling() {
        let address = Address::Unix("/tmp/a b/socket".into());
        assert_eq!(
            values(&address, "disk 1", "nbdinfo $uri"),
            [
                "nbd+unix:///disk%201?socket=/tmp/a%20b/socket",
                "nbd:unix:/tmp/a b/socket",
                "",
                "/tmp/a b/socket",
                "disk 1",
                "0",
                "",
                ""
            ]
        );
        assert_eq!(values(&address, "", "guestfish -a $nbd")[1], "nbd://?socket=/tmp/a b/socket");
    }

    #[test]
    fn a_command_learns_a_port_in_every_spelling() {
        let address = Address::Tcp { host: "localhost".into(), port: 10809 };
        assert_eq!(
            values(&address, "", "qemu-img info $nbd"),
            ["nbd://localhost:10809", "nbd:localhost:10809", "10809", "", "", "0", "", ""]
        );
        let address = Address::Tcp { host: "::1".into(), port: 7 };
        assert_eq!(values(&address, "", "")[..2], ["nbd://[::1]:7", "nbd:[::1]:7"]);
    }

    #[test]
    fn a_command_learns_how_encryption_is_done() {
        let address = Address::Tcp { host: "localhost".into(), port: 10809 };
        let settings = |mode| tls::Settings {
            mode,
            certificates: Some("/etc/pki".into()),
            psk: Some("/keys".into()),
            verify_peer: false,
        };
        let values =
            |mode| address.variables("", "", &settings(mode)).map(|(_, value)| value.into_string().unwrap());
        let uri = "nbds://localhost:10809?tls-certificates=/etc/pki";
        assert_eq!(values(TlsMode::Require), [uri, uri, "10809", "", "", "2", "/etc/pki", "/keys"]);
        assert_eq!(values(TlsMode::On)[..2], ["nbd://localhost:10809", "nbd:localhost:10809"]);
        let keys = tls::Settings { certificates: None, ..settings(TlsMode::Require) };
        assert_eq!(address.uri("", &keys), "nbds://localhost:10809?tls-psk-file=/keys");
    }

    #[test]
    fn what_somebody_else_has_bound_is_told_in_words_of_clients() {
        let uri = |address: &SockAddr| Address::of_listener(address).unwrap().uri("", &tls::Settings::OFF);
        let tcp = |text: &str| SockAddr::from(text.parse::<std::net::SocketAddr>().unwrap());
        assert_eq!(uri(&tcp("0.0.0.0:7")), "nbd://localhost:7");
        assert_eq!(uri(&tcp("[::1]:7")), "nbd://[::1]:7");
        assert_eq!(uri(&SockAddr::unix("/a/b").unwrap()), "nbd+unix:///?socket=/a/b");
        assert_eq!(uri(&SockAddr::unix("\0x").unwrap()), "nbd+unix:///?socket=%00x");
        assert_eq!(uri(&SockAddr::vsock(libc::VMADDR_CID_ANY, 7)), "nbd+vsock://1:7");
        assert_eq!(uri(&SockAddr::vsock(5, 7)), "nbd+vsock://5:7");
    }
}
