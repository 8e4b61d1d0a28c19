//! [`Address`]: where clients find this server, as URIs, other tools and shells write it.

use std::ffi::OsString;
use std::path::PathBuf;

use nbd::uri::{Transport, UnixSocket, Uri};

/// Where clients find this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host name or address, and a port.
    Tcp { host: String, port: u16 },
    /// A socket file, by its absolute path.
    Unix(PathBuf),
}

impl Address {
    /// The URI of an export.
    pub(crate) fn uri(&self, export: &str) -> String {
        let transport = match self {
            Address::Tcp { host, port } => Transport::Tcp { host: host.clone(), port: *port },
            Address::Unix(path) => Transport::Unix(UnixSocket::Path(path.clone())),
        };
        Uri::new(transport, export).to_string()
    }

    /// The address as it was written before there were URIs: as guestfish(1) wants it if it is for a guestfish, and as
    /// the tools of QEMU understand it otherwise.
    fn old_style(&self, for_guestfish: bool) -> OsString {
        let (before, path) = match self {
            Address::Tcp { host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let scheme = if for_guestfish { "nbd://" } else { "nbd:" };
                return format!("{scheme}{host}:{port}").into();
            }
            Address::Unix(path) if for_guestfish => ("nbd://?socket=", path),
            Address::Unix(path) => ("nbd:unix:", path),
        };
        let mut text = OsString::from(before);
        text.push(path);
        text
    }

    /// The variables that a captive command gets. All are always set, so that none is inherited from elsewhere.
    pub(crate) fn variables(&self, export: &str, command: &str) -> [(&'static str, OsString); 5] {
        let (port, path) = match self {
            Address::Tcp { port, .. } => (port.to_string().into(), OsString::new()),
            Address::Unix(path) => (OsString::new(), path.clone().into()),
        };
        [
            ("uri", self.uri(export).into()),
            ("nbd", self.old_style(command.contains("guestfish"))),
            ("port", port),
            ("unixsocket", path),
            ("exportname", export.into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(address: &Address, export: &str, command: &str) -> Vec<String> {
        address
            .variables(export, command)
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
                "disk 1"
            ]
        );
        assert_eq!(values(&address, "", "guestfish -a $nbd")[1], "nbd://?socket=/tmp/a b/socket");
    }

    #[test]
    fn a_command_learns_a_port_in_every_spelling() {
        let address = Address::Tcp { host: "localhost".into(), port: 10809 };
        assert_eq!(
            values(&address, "", "qemu-img info $nbd"),
            ["nbd://localhost:10809", "nbd:localhost:10809", "10809", "", ""]
        );
        let address = Address::Tcp { host: "::1".into(), port: 7 };
        assert_eq!(values(&address, "", "")[..2], ["nbd://[::1]:7", "nbd:[::1]:7"]);
    }
}
