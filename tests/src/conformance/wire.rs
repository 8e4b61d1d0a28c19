//! A connection to the server under test, which never waits for ever.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::check::{Outcome, Trouble, demand, failed};
use super::target::Address;

/// How long a server may be silent. Only a server that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A byte stream to the server.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Wire {
    pub(super) fn connect(address: &Address) -> Outcome<Wire> {
        let stream = match address {
            Address::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Address::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).map(Stream::Tcp),
        };
        let stream = stream.or_else(|error| failed(format!("cannot connect: {error}")))?;
        let wire = Wire { stream };
        wire.bound().or_else(|error| failed(format!("cannot set up the socket: {error}")))?;
        Ok(wire)
    }

    /// No wait is endless, and no small piece is held back.
    fn bound(&self) -> std::io::Result<()> {
        match &self.stream {
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))
            }
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))
            }
        }
    }

    /// A second handle of the same connection, for a thread that only sends.
    pub(super) fn second(&self) -> Outcome<Wire> {
        let stream = match &self.stream {
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
        };
        let stream = stream.or_else(|error| failed(format!("cannot duplicate the socket: {error}")))?;
        Ok(Wire { stream })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Outcome {
        let sent = match &mut self.stream {
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tcp(stream) => stream.write_all(bytes),
        };
        sent.or_else(|error| failed(format!("the server did not take {} bytes: {error}", bytes.len())))
    }

    /// Sends one byte at a time.
    pub(super) fn drip(&mut self, bytes: &[u8]) -> Outcome {
        bytes.iter().try_for_each(|byte| self.send(&[*byte]))
    }

    pub(super) fn receive(&mut self, len: usize) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; len];
        let received = match &mut self.stream {
            Stream::Unix(stream) => stream.read_exact(&mut bytes),
            Stream::Tcp(stream) => stream.read_exact(&mut bytes),
        };
        match received {
            Ok(()) => Ok(bytes),
            Err(error) if is_timeout(error.kind()) => failed(format!("waited in vain for {len} bytes")),
            Err(error) => failed(format!("instead of {len} bytes: {error}")),
        }
    }

    pub(super) fn receive_array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let bytes = self.receive(N)?;
        Ok(bytes.try_into().expect("as many bytes as asked for"))
    }

    pub(super) fn receive_u16(&mut self) -> Outcome<u16> {
        self.receive_array().map(u16::from_be_bytes)
    }

    pub(super) fn receive_u32(&mut self) -> Outcome<u32> {
        self.receive_array().map(u32::from_be_bytes)
    }

    pub(super) fn receive_u64(&mut self) -> Outcome<u64> {
        self.receive_array().map(u64::from_be_bytes)
    }

    /// Reads one byte; `None` at the end of the stream, however the server made it.
    fn next_byte(&mut self) -> Outcome<Option<u8>> {
        let mut byte = [0];
        let read = match &mut self.stream {
            Stream::Unix(stream) => stream.read(&mut byte),
            Stream::Tcp(stream) => stream.read(&mut byte),
        };
        match read {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(byte[0])),
            Err(error) if is_timeout(error.kind()) => failed("the server keeps the connection open"),
            Err(_) => Ok(None),
        }
    }

    /// Expects that the server closes the connection and sends nothing more.
    pub(super) fn expect_end(mut self) -> Outcome {
        let byte = self.next_byte()?;
        demand!(byte.is_none(), "expected the end of the connection, got a byte {byte:02x?}");
        Ok(())
    }

    /// Expects that the server closes the connection, whatever it sends before.
    pub(super) fn drain(mut self) -> Outcome<usize> {
        let mut count = 0;
        while self.next_byte()?.is_some() {
            count += 1;
            demand!(count < 1 << 20, "the server sends without end instead of closing");
        }
        Ok(count)
    }

    /// Says that nothing more will be sent.
    pub(super) fn finish_sending(&self) {
        // Fails only if the server has closed already.
        let _ = match &self.stream {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Ends the connection for all its handles, so that none of them waits any more.
    pub(super) fn hang_up(&self) {
        // Fails only if the server has closed already.
        let _ = match &self.stream {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

const fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What an operation of the standard library ended with, as the result of a check.
impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble::Failed(format!("system error: {error}"))
    }
}
