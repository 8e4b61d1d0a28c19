//! Where a server listens, and blocking streams to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};

/// Address and export of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Socket address.
    pub address: Address,
    /// Export name; empty for the default export.
    pub export: String,
}

/// A socket address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Path of a Unix stream socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
}

impl FromStr for Target {
    type Err = anyhow::Error;

    /// Takes `nbd+unix:///EXPORT?socket=PATH` and `nbd://HOST[:PORT]/EXPORT`, without percent escapes.
    fn from_str(uri: &str) -> anyhow::Result<Self> {
        if let Some(rest) = uri.strip_prefix("nbd+unix:///") {
            let (export, path) = rest
                .split_once("?socket=")
                .with_context(|| format!("{uri}: no socket named; write nbd+unix:///?socket=PATH"))?;
            return Ok(Self { address: Address::Unix(path.into()), export: export.into() });
        }
        let Some(rest) = uri.strip_prefix("nbd://") else {
            bail!("{uri}: not an NBD URI; write nbd+unix:///?socket=PATH or nbd://HOST:PORT/")
        };
        let (host, export) = rest.split_once('/').unwrap_or((rest, ""));
        // A colon inside brackets belongs to an IPv6 address.
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().with_context(|| format!("{uri}: bad port {port}"))?)
            }
            _ => (host, 10809),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self { address: Address::Tcp(host.into(), port), export: export.into() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(path) => write!(f, "nbd+unix:///{}?socket={}", self.export, path.display()),
            Address::Tcp(host, port) => write!(f, "nbd://{host}:{port}/{}", self.export),
        }
    }
}

/// A blocking stream to a server.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Unix stream socket.
    Unix(UnixStream),
    /// TCP socket with Nagle's algorithm off.
    Tcp(TcpStream),
}

impl Address {
    /// Connects; one attempt.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Self::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl Stream {
    /// A second handle to the same socket.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
        }
    }

    /// Bounds how long a read may wait; without a limit when `None`.
    pub(crate) fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(limit),
            Self::Tcp(stream) => stream.set_read_timeout(limit),
        }
    }

    /// Ends both directions, so that a thread blocked on the socket returns.
    pub(crate) fn shutdown(&self) {
        // An error means that the peer has closed already, which is as good.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buf),
            Self::Tcp(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(buf),
            Self::Tcp(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_survive_a_round_trip() {
        for uri in ["nbd+unix:///?socket=/tmp/s", "nbd+unix:///disk?socket=/tmp/s", "nbd://localhost:10810/a"]
        {
            assert_eq!(uri.parse::<Target>().unwrap().to_string(), uri);
        }
    }

    #[test]
    fn a_tcp_uri_without_port_means_10809() {
        let target: Target = "nbd://[::1]".parse().unwrap();
        assert_eq!(target.address, Address::Tcp("::1".into(), 10809));
    }

    #[test]
    fn a_path_alone_is_refused() {
        assert!("/tmp/s".parse::<Target>().unwrap_err().to_string().contains("not an NBD URI"));
    }
}
