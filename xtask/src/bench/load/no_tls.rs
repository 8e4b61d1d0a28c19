//! In the place of `tls.rs` where the feature `tls` is off: nobody measures then.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use anyhow::bail;

/// There is none.
#[derive(Debug)]
pub(crate) enum TlsStream {}

impl TlsStream {
    /// # Errors
    /// Always: there is no TLS.
    pub(crate) fn connect(_tcp: TcpStream, _host: &str, _folder: &Path) -> anyhow::Result<Self> {
        bail!("this build does not speak TLS: build xtask with --features tls, as `cargo xtask bench` does")
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match *self {}
    }
}

impl Read for TlsStream {
    fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl Write for TlsStream {
    fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}
