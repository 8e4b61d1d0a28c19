//! The canonical text of a URI.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Remote, TlsKind, Transport, UnixSocket, Uri, UriTls, percent_encode};

/// What stays readable in values besides the unreserved characters.
const KEEP: &str = "/";

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.tls {
            UriTls::Opportunistic => "nbd",
            UriTls::Required => "nbds",
        })?;
        f.write_str(match self.transport {
            Transport::Tcp { .. } => "://",
            Transport::Unix(_) => "+unix://",
            Transport::Vsock { .. } => "+vsock://",
            Transport::Ssh { .. } => "+ssh://",
        })?;
        if let Some(user) = &self.user {
            write!(f, "{}@", percent_encode(user.as_bytes(), ""))?;
        }
        match &self.transport {
            Transport::Tcp { host, port } | Transport::Ssh { host, ssh_port: port, .. } => {
                write!(f, "{}:{port}", host_text(host))?;
            }
            Transport::Vsock { cid, port } => write!(f, "{cid}:{port}")?,
            Transport::Unix(_) => {}
        }
        let is_unix = matches!(self.transport, Transport::Unix(_));
        if is_unix || !self.export.is_empty() {
            write!(f, "/{}", percent_encode(self.export.as_bytes(), KEEP))?;
        }
        for (at, (name, value)) in self.parameters().iter().enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// IPv6 addresses stand in brackets.
fn host_text(host: &str) -> String {
    if host.contains(':') {
        format!("[{}]", percent_encode(host.as_bytes(), ":"))
    } else {
        percent_encode(host.as_bytes(), "")
    }
}

fn socket_text(socket: &UnixSocket) -> String {
    match socket {
        UnixSocket::Path(path) => path_text(path),
        UnixSocket::Abstract(name) => format!("%00{}", percent_encode(name, KEEP)),
    }
}

fn path_text(path: &Path) -> String {
    percent_encode(path.as_os_str().as_bytes(), KEEP)
}

impl Uri {
    /// Names and encoded values of all parameters.
    fn parameters(&self) -> Vec<(String, String)> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut put = |name: &str, value: String| parameters.push((name.to_owned(), value));
        match &self.transport {
            Transport::Unix(socket) => put("socket", socket_text(socket)),
            Transport::Ssh { remote, compress, .. } => {
                match remote {
                    Remote::Port(port) => put("nbd-port", port.to_string()),
                    Remote::Socket(socket) => put("socket", socket_text(socket)),
                }
                if *compress {
                    put("compress", "1".into());
                }
            }
            Transport::Tcp { .. } | Transport::Vsock { .. } => {}
        }
        let tls = &self.tls_parameters;
        if let Some(kind) = tls.kind {
            let text = match kind {
                TlsKind::Anonymous => "anon",
                TlsKind::X509 => "x509",
                TlsKind::Psk => "psk",
            };
            put("tls-type", text.into());
        }
        if let Some(hostname) = &tls.hostname {
            put("tls-hostname", percent_encode(hostname.as_bytes(), KEEP));
        }
        if let Some(verify) = tls.verify_peer {
            put("tls-verify-peer", u8::from(verify).to_string());
        }
        if let Some(username) = &tls.username {
            put("tls-username", percent_encode(username.as_bytes(), KEEP));
        }
        if let Some(certificates) = &tls.certificates {
            put("tls-certificates", path_text(certificates));
        }
        if let Some(psk_file) = &tls.psk_file {
            put("tls-psk-file", path_text(psk_file));
        }
        for (name, value) in &self.experimental {
            put(&percent_encode(name.as_bytes(), ""), percent_encode(value.as_bytes(), KEEP));
        }
        parameters
    }
}
