//! NBD URIs: where a server is, and which of its exports is meant.
//!
//! Parsing takes the text apart and checks it; it resolves nothing and opens nothing. Printing gives the canonical
//! form: everything that is not plainly harmless is percent-encoded, the port is always there.
//!
//! Source: doc/uri.md of the NetworkBlockDevice/nbd project; the schemes for vsock and ssh, and the parameters
//! `tls-certificates`, `tls-psk-file`, `tls-username`, `nbd-port` and `compress`, are those of libnbd.
//!
//! ```
//! use nbd::uri::{Transport, Uri};
//!
//! let uri: Uri = "nbd://example.com/hello%20world".parse()?;
//! assert_eq!(uri.export, "hello world");
//! assert_eq!(uri.transport, Transport::Tcp { host: "example.com".into(), port: 10809 });
//! assert_eq!(uri.to_string(), "nbd://example.com:10809/hello%20world");
//! # Ok::<(), nbd::uri::BadUri>(())
//! ```

mod parse;
mod percent;
mod print;
mod shell;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use parse::{BadUri, LocalFiles};
pub use percent::{decode as percent_decode, encode as percent_encode};
pub use shell::shell_quote;

/// A parsed URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// How to reach the server.
    pub transport: Transport,
    /// Whether encryption is a must (`nbds` schemes) or used if the server has it.
    pub tls: UriTls,
    /// Name of the export; empty for the default one.
    pub export: String,
    /// User name of TLS, or of ssh.
    pub user: Option<String>,
    /// How TLS is done.
    pub tls_parameters: TlsParameters,
    /// Parameters whose names start with `x-`, in their order.
    pub experimental: Vec<(String, String)>,
}

/// Whether encryption is a must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UriTls {
    /// Used if the server offers it.
    Opportunistic,
    /// The connection must fail without.
    Required,
}

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix domain socket on this machine.
    Unix(UnixSocket),
    /// A socket between virtual machines and their host.
    Vsock {
        /// Context id; 2 is the host.
        cid: u32,
        /// Port.
        port: u32,
    },
    /// A tunnel through ssh, to a server on the other machine.
    Ssh {
        /// Machine to log in to, without brackets; does not start with a dash.
        host: String,
        /// Port of ssh.
        ssh_port: u16,
        /// The server there.
        remote: Remote,
        /// Whether ssh compresses.
        compress: bool,
    },
}

/// Address of a Unix domain socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixSocket {
    /// A file.
    Path(PathBuf),
    /// A name in the abstract namespace of Linux, without the leading NUL.
    Abstract(Vec<u8>),
}

/// A server behind a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// On this TCP port of the other machine's loopback.
    Port(u16),
    /// On this Unix domain socket there.
    Socket(UnixSocket),
}

/// How TLS is done; all optional.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsParameters {
    /// Kind of credentials (`tls-type`).
    pub kind: Option<TlsKind>,
    /// Name that the server's certificate must have (`tls-hostname`).
    pub hostname: Option<String>,
    /// Whether the server's identity is verified (`tls-verify-peer`).
    pub verify_peer: Option<bool>,
    /// User name for pre-shared keys (`tls-username`); [`Uri::user`] means the same without ssh.
    pub username: Option<String>,
    /// Folder with certificates (`tls-certificates`).
    pub certificates: Option<PathBuf>,
    /// File with pre-shared keys (`tls-psk-file`).
    pub psk_file: Option<PathBuf>,
}

/// Kinds of TLS credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsKind {
    /// None: encrypted, but nobody is who he says.
    Anonymous,
    /// Certificates.
    X509,
    /// Pre-shared keys.
    Psk,
}

impl Uri {
    /// A URI without parameters.
    pub fn new(transport: Transport, export: impl Into<String>) -> Uri {
        Uri {
            transport,
            tls: UriTls::Opportunistic,
            export: export.into(),
            user: None,
            tls_parameters: TlsParameters::default(),
            experimental: Vec::new(),
        }
    }
}
