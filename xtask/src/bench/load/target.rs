//! Where a server listens, and blocking streams to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nbd::uri::{Transport, UnixSocket, Uri, UriTls};

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

    /// Takes an NBD URI without TLS.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: Uri = text.parse().with_context(|| format!("{text} (write nbd+unix:///?socket=PATH)"))?;
        ensure!(uri.tls != UriTls::Required, "{text}: the load generator does not speak TLS");
        let address = match uri.transport {
            Transport::Unix(UnixSocket::Path(path)) => Address::Unix(path),
            Transport::Tcp { host, port } => Address::Tcp(host, port),
            _ => bail!("{text}: the load generator takes Unix sockets with a path, and TCP"),
        };
        Ok(Self { address, export: uri.export })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match &self.address {
            Address::Unix(path) => Transport::Unix(UnixSocket::Path(path.clone())),
            Address::Tcp(host, port) => Transport::Tcp { host: host.clone(), port: *port },
        };
        Uri::new(transport, self.export.as_str()).fmt(f)
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
            let target: Target = uri.parse().unwrap();
            assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }
    }

    #[test]
    fn a_path_alone_is_refused_with_an_example() {
        let error = format!("{:#}", "/tmp/s".parse::<Target>().unwrap_err());
        assert!(error.contains("nbd+unix:///?socket="), "{error}");
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        assert!("nbds://localhost".parse::<Target>().is_err());
        assert!("nbd+vsock://2".parse::<Target>().is_err());
    }
}
