//! A client without any courtesy: bytes on a socket, for tests of what a server does when clients misbehave or leave.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Request types and errors (doc/proto.md of the NetworkBlockDevice/nbd project).
pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const WRITE_ZEROES: u16 = 6;
pub(crate) const EPERM: u32 = 1;
pub(crate) const EIO: u32 = 5;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const ESHUTDOWN: u32 = 108;
/// Command flag.
pub(crate) const FUA: u16 = 1;

/// A connection in transmission with simple replies.
pub(crate) struct Raw {
    pub(crate) stream: UnixStream,
    pub(crate) size_bytes: u64,
    pub(crate) flags: u16,
}

/// The reply to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) error: u32,
    pub(crate) cookie: u64,
}

impl Raw {
    /// Connects and opens an export with EXPORT_NAME.
    pub(crate) fn open(socket: &Path, export: &str) -> Raw {
        Raw::over(UnixStream::connect(socket).expect("the server listens"), export)
    }

    /// Opens an export with EXPORT_NAME on a connection.
    pub(crate) fn over(mut stream: UnixStream, export: &str) -> Raw {
        stream.write_all(&hello(export)).expect("the server receives");
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).expect("the server greets");
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).expect("the export is open");
        let size_bytes = u64::from_be_bytes(reply[..8].try_into().expect("8 bytes"));
        let flags = u16::from_be_bytes(reply[8..].try_into().expect("2 bytes"));
        Raw { stream, size_bytes, flags }
    }

    /// Sends the header of a request.
    pub(crate) fn request(&mut self, kind: u16, cookie: u64, offset: u64, len: u32) {
        self.stream.write_all(&header(kind, cookie, offset, len)).expect("the server receives");
    }

    /// Sends a request with a payload.
    pub(crate) fn send(&mut self, kind: u16, flags: u16, cookie: u64, offset: u64, payload: &[u8]) {
        let len = u32::try_from(payload.len()).expect("a payload that a request can name");
        let mut bytes = header(kind, cookie, offset, len);
        bytes[4..6].copy_from_slice(&flags.to_be_bytes());
        bytes.extend(payload);
        self.stream.write_all(&bytes).expect("the server receives");
    }

    /// Sends a request without payload, waits for its reply and returns the error.
    pub(crate) fn ask(&mut self, kind: u16, flags: u16, offset: u64, len: u32) -> u32 {
        let mut bytes = header(kind, 1, offset, len);
        bytes[4..6].copy_from_slice(&flags.to_be_bytes());
        self.stream.write_all(&bytes).expect("the server receives");
        self.reply().expect("a reply").error
    }

    /// Writes, and returns the error.
    pub(crate) fn write(&mut self, flags: u16, offset: u64, payload: &[u8]) -> u32 {
        self.send(WRITE, flags, 1, offset, payload);
        self.reply().expect("a reply").error
    }

    /// Reads: the data, or the error.
    pub(crate) fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, u32> {
        match self.ask(READ, 0, offset, u32::try_from(len).expect("a length that a request can name")) {
            0 => {
                let mut data = vec![0; len];
                self.stream.read_exact(&mut data).expect("the data follows");
                Ok(data)
            }
            error => Err(error),
        }
    }

    /// Receives so many replies without payload, all of which are successes.
    pub(crate) fn all_succeed(&mut self, count: usize) {
        for _ in 0..count {
            let reply = self.reply().expect("a reply");
            assert_eq!(reply.error, 0, "request {}", reply.cookie);
        }
    }

    /// Receives the head of a simple reply; `None` if the server has closed the connection.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).ok()?;
        assert_eq!(head[..4], 0x6744_6698_u32.to_be_bytes(), "the magic of a simple reply");
        Some(Reply {
            error: u32::from_be_bytes(head[4..8].try_into().expect("4 bytes")),
            cookie: u64::from_be_bytes(head[8..].try_into().expect("8 bytes")),
        })
    }
}

/// What a client says until its export is open: flags, then EXPORT_NAME.
pub(crate) fn hello(export: &str) -> Vec<u8> {
    let mut bytes = 3_u32.to_be_bytes().to_vec();
    bytes.extend(b"IHAVEOPT");
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(u32::try_from(export.len()).expect("a short name").to_be_bytes());
    bytes.extend(export.as_bytes());
    bytes
}

/// The header of a request.
pub(crate) fn header(kind: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend(0_u16.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes
}
