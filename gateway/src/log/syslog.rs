//! The system's log: a datagram for each event (RFC 3164, as syslog(3) sends them).
//!
//! The receiver adds the time. Where nobody listens any more, nothing is logged.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where system logs listen.
pub(super) const SOCKET: &str = "/dev/log";

/// Messages from daemons of no special kind (RFC 3164, section 4.1.1): facility 3.
const FACILITY: u8 = 3 << 3;

/// Longest message in bytes; the rest is cut off.
const MESSAGE_BYTES_MAX: usize = 2048;

/// Makes a datagram of each event.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: Option<UnixDatagram>,
    path: PathBuf,
}

impl Syslog {
    pub(super) fn at(path: impl Into<PathBuf>) -> Syslog {
        // A log that is full must not hold up the server.
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        Syslog { socket: socket.ok(), path: path.into() }
    }

    fn message(&self, level: Level) -> Message<'_> {
        let head = format!("<{}>gateway[{}]: ", FACILITY | severity(level), std::process::id());
        Message { log: self, text: head.into_bytes() }
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Message<'a>;

    fn make_writer(&'a self) -> Message<'a> {
        self.message(Level::INFO)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Message<'a> {
        self.message(*metadata.level())
    }
}

/// One event. It is sent when this is dropped.
#[derive(Debug)]
pub(super) struct Message<'a> {
    log: &'a Syslog,
    text: Vec<u8>,
}

impl Write for Message<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        if let Some(socket) = &self.log.socket {
            let text = self.text.trim_ascii_end();
            let text = &text[..text.len().min(MESSAGE_BYTES_MAX)];
            // Nobody may listen, and there is nobody else to tell.
            let _ = socket.send_to(text, &self.log.path);
        }
    }
}

/// RFC 3164, section 4.1.1; the journal has the same numbers.
pub(super) fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_datagram_with_priority_and_tag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Syslog::at(path))
            .without_time()
            .with_level(false)
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("{} is odd", "this");
            tracing::error!("{}", "x".repeat(5000));
        });
        let mut bytes = [0; 8192];
        let got = socket.recv(&mut bytes).unwrap();
        let expected = format!("<28>gateway[{}]: this is odd", std::process::id());
        assert_eq!(std::str::from_utf8(&bytes[..got]).unwrap(), expected);
        let got = socket.recv(&mut bytes).unwrap();
        assert_eq!((&bytes[..4], got), (&b"<27>"[..], MESSAGE_BYTES_MAX));
    }

    #[test]
    fn without_a_system_log_nothing_happens() {
        let folder = tempfile::tempdir().unwrap();
        let log = Syslog::at(folder.path().join("missing"));
        log.message(Level::INFO).write_all(b"x").unwrap();
    }
}
