//! Where a server listens, and blocking streams to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use nbd::uri::{LocalFiles, Transport, UnixSocket, Uri, UriTls};

use super::tls::TlsStream;

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
    /// Host and port of a server that must encrypt, and the folder with the authority's certificate.
    Tls(String, u16, PathBuf),
}

impl FromStr for Target {
    type Err = anyhow::Error;

    /// Takes an NBD URI; one with TLS names the folder of certificates.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        // The folder of certificates is the user's own.
        let uri = Uri::parse(text, LocalFiles::Allow)
            .with_context(|| format!("{text} (write nbd+unix:///?socket=PATH)"))?;
        let address = match uri.transport {
            Transport::Tcp { host, port } if uri.tls == UriTls::Required => {
                let folder = uri
                    .tls_parameters
                    .certificates
                    .with_context(|| format!("{text} lacks ?tls-certificates=FOLDER"))?;
                Address::Tls(host, port, folder)
            }
            _ if uri.tls == UriTls::Required => bail!("{text}: the load generator speaks TLS over TCP only"),
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
            Address::Tcp(host, port) | Address::Tls(host, port, _) => {
                Transport::Tcp { host: host.clone(), port: *port }
            }
        };
        let mut uri = Uri::new(transport, self.export.as_str());
        if let Address::Tls(_, _, folder) = &self.address {
            uri.tls = UriTls::Required;
            uri.tls_parameters.certificates = Some(folder.clone());
        }
        uri.fmt(f)
    }
}

/// A blocking stream to a server.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Unix stream socket.
    Unix(UnixStream),
    /// TCP socket with Nagle's algorithm off.
    Tcp(TcpStream),
    /// The same through TLS.
    Tls(Box<TlsStream>),
}

impl Address {
    /// Whether nothing is said in clear but that.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(..))
    }

    /// Does the TLS handshake.
    ///
    /// # Errors
    /// It fails, or the address is not of this kind.
    pub(crate) fn encrypt(&self, stream: Stream) -> anyhow::Result<Stream> {
        match (self, stream) {
            (Self::Tls(host, _, folder), Stream::Tcp(tcp)) => {
                Ok(Stream::Tls(Box::new(TlsStream::connect(tcp, host, folder)?)))
            }
            _ => bail!("only TCP is encrypted"),
        }
    }

    /// Connects; one attempt.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Self::Tcp(host, port) | Self::Tls(host, port, _) => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl Stream {
    /// A second handle to the same socket, for [`Stream::shutdown`].
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Tls(stream) => stream.tcp().try_clone().map(Self::Tcp),
        }
    }

    /// Bounds how long a read may wait; without a limit when `None`.
    pub(crate) fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(limit),
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Tls(stream) => stream.tcp().set_read_timeout(limit),
        }
    }

    /// Ends both directions, so that a thread blocked on the socket returns.
    pub(crate) fn shutdown(&self) {
        // An error means that the peer has closed already, which is as good.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Tls(stream) => stream.tcp().shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buf),
            Self::Tcp(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(buf),
            Self::Tcp(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(_) | Self::Tcp(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_survive_a_round_trip() {
        for uri in [
            "nbd+unix:///?socket=/tmp/s",
            "nbd+unix:///disk?socket=/tmp/s",
            "nbd://localhost:10810/a",
            "nbds://localhost:10810/?tls-certificates=/pki",
        ] {
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
        assert!("nbds://localhost".parse::<Target>().is_err(), "without certificates");
        assert!("nbds+unix:///?socket=/s&tls-certificates=/pki".parse::<Target>().is_err());
        assert!("nbd+vsock://2".parse::<Target>().is_err());
    }
}
