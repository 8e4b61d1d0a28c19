//! The journal of systemd: a datagram for each event, in the journal's native protocol.
//!
//! Source: systemd, "Native Journal Protocol" and systemd.journal-fields(7). Values are on one line here, so the form
//! `NAME=value` does for all, and none can begin a field of its own. An entry stays far below the size from which it
//! would have to be passed as a file.
//!
//! The crate `tracing-journald` is not used: its socket blocks, and a journal that stands still would stop workers.

use std::fmt;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::fields::MESSAGE;
use super::syslog::severity;
use super::text::{Escapes, cut, on_one_line};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Longest value of a field in bytes; the rest is cut off.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// Sends events to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: Option<UnixDatagram>,
    path: PathBuf,
}

impl Journal {
    pub(super) fn at(path: impl Into<PathBuf>) -> Journal {
        // A journal that is full must not hold up the server.
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        Journal { socket: socket.ok(), path: path.into() }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(socket) = &self.socket else { return };
        // Nobody may listen any more, and there is nobody else to tell.
        let _ = socket.send_to(Entry::of(event).0.as_bytes(), &self.path);
    }
}

/// Whether somebody listens there.
///
/// # Errors
/// Nobody does.
pub(super) fn reach(path: &Path) -> io::Result<()> {
    UnixDatagram::unbound()?.connect(path)
}

/// Whether the variable JOURNAL_STREAM, which says which stream the journal has made, means the file with these
/// numbers (systemd.exec(5)). It is inherited by programs whose standard error is another one.
pub(super) fn is_stream(variable: &str, device: u64, inode: u64) -> bool {
    let numbers = variable.split_once(':');
    numbers.is_some_and(|(one, other)| one.parse() == Ok(device) && other.parse() == Ok(inode))
}

/// The text of a datagram.
#[derive(Debug)]
struct Entry(String);

impl Entry {
    fn of(event: &Event<'_>) -> Entry {
        let metadata = event.metadata();
        let mut entry = Entry(String::with_capacity(256));
        entry.add("PRIORITY", &severity(*metadata.level()).to_string());
        entry.add("SYSLOG_IDENTIFIER", "gateway");
        entry.add("TARGET", metadata.target());
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry.add("CODE_FILE", file);
            entry.add("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        entry
    }

    /// Adds a field. Its name is of capital letters, digits and underscores, and begins with a letter.
    fn add(&mut self, name: &str, value: &str) {
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(cut(&on_one_line(value, Escapes::Text), VALUE_BYTES_MAX));
        self.0.push('\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            MESSAGE => self.add("MESSAGE", value),
            name => {
                self.add(&name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"), value)
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt as _;

    /// What the journal gets: the fields of each entry, all of one line.
    fn entries(log: impl FnOnce()) -> Vec<BTreeMap<String, String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal::at(path));
        tracing::subscriber::with_default(subscriber, log);
        let mut bytes = vec![0; 256 << 10];
        let mut entries = Vec::new();
        while let Ok(got) = journal.recv(&mut bytes) {
            let text = std::str::from_utf8(&bytes[..got]).unwrap();
            let fields = text.lines().map(|line| line.split_once('=').unwrap());
            entries.push(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
        }
        entries
    }

    #[test]
    fn an_event_is_an_entry_with_fields() {
        let entries = entries(|| {
            tracing::warn!(client = "192.0.2.7:1", export = "a", seconds.all = 7, "{} is odd", "this");
            tracing::trace!("a trace");
        });
        let [odd, trace] = &entries[..] else { panic!("{entries:?}") };
        let expected = [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "gateway"),
            ("MESSAGE", "this is odd"),
            ("CLIENT", "192.0.2.7:1"),
            ("EXPORT", "a"),
            ("SECONDS_ALL", "7"),
            ("TARGET", module_path!()),
            ("CODE_FILE", file!()),
        ];
        for (name, value) in expected {
            assert_eq!(odd.get(name).map(String::as_str), Some(value), "{name} in {odd:?}");
        }
        assert_eq!(trace["PRIORITY"], "7");
    }

    #[test]
    fn no_value_begins_a_field_or_is_without_end() {
        let entries = entries(|| {
            tracing::info!(export = "a\nPRIORITY=0\n\x1b[31m", "x\nMESSAGE=y{}", "z".repeat(100_000));
        });
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((&entry["PRIORITY"][..], &entry["EXPORT"][..]), ("6", "a\\nPRIORITY=0\\n\\u{1b}[31m"));
        assert!(entry["MESSAGE"].starts_with("x\\nMESSAGE=yz"), "{}", entry["MESSAGE"]);
        assert_eq!(entry["MESSAGE"].len(), VALUE_BYTES_MAX);
    }

    #[test]
    fn a_journal_that_stands_still_holds_up_nobody() {
        // It takes nothing while this logs more than fits.
        let got = entries(|| (0..10_000).for_each(|number| tracing::info!("{number}")));
        assert!(!got.is_empty() && got.len() < 10_000, "{}", got.len());
    }

    #[test]
    fn the_stream_of_the_journal_is_known_by_its_numbers() {
        assert!(is_stream("9:4711", 9, 4711));
        for other in ["9:4712", "8:4711", "9", "", ":", "9:4711:1", "x:y"] {
            assert!(!is_stream(other, 9, 4711), "{other}");
        }
    }

    #[test]
    fn a_journal_that_is_not_there_is_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(reach(&path).is_err());
        let _journal = UnixDatagram::bind(&path).unwrap();
        assert!(reach(&path).is_ok());
    }
}
