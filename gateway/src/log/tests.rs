//! The forms of the log as whole lines, and a level that changes.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::outlet::{json, messages, text};
use super::text::Shown;

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    /// Takes it.
    pub(crate) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Sink;

    fn make_writer(&'a self) -> Sink {
        self.clone()
    }
}

/// The lines of what is logged in one form.
fn lines<L: Layer<Registry> + Send + Sync>(form: impl FnOnce(Sink) -> L, log: impl FnOnce()) -> Vec<String> {
    let sink = Sink::default();
    let subscriber = tracing_subscriber::registry().with(form(sink.clone()));
    tracing::subscriber::with_default(subscriber, log);
    sink.take().split_terminator('\n').map(str::to_owned).collect()
}

/// A name that would begin a line of its own, in red.
const HOSTILE: &str = "\n\x1b[31mERROR all is lost\u{9b}m\u{202e}";

/// Events with such a name where each kind of event has names, by those who care and those who forgot.
fn log_hostile_names() {
    tracing::info!(client = HOSTILE, export = HOSTILE, "client {} left", Shown(HOSTILE));
    tracing::warn!(export = %HOSTILE, other = HOSTILE, "a device of {HOSTILE} is back");
    let name = HOSTILE;
    tracing::error!(?name, "{name}");
}

#[test]
fn no_name_begins_or_colours_a_line_in_any_form() {
    let forms = [
        lines(|sink| text(sink, true), log_hostile_names),
        lines(json, log_hostile_names),
        lines(|sink| messages(sink, false), log_hostile_names),
    ];
    for lines in forms {
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in &lines {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(!line.starts_with("ERROR"), "{line:?}");
        }
    }
}

#[test]
fn a_line_of_text_leaves_out_what_its_text_says() {
    let log = || tracing::info!(client = "c", export = "e", user = "u", slot = 7, "c opened e");
    let lines = lines(|sink| text(sink, false), log);
    assert!(lines[0].ends_with("  INFO c opened e slot=7"), "{lines:?}");
    let lines = self::lines(|sink| messages(sink, false), log);
    assert_eq!(lines, ["c opened e slot=7"]);
}

#[test]
fn a_line_of_json_is_an_object_with_all_fields() {
    let lines = lines(json, || {
        tracing::warn!(client = HOSTILE, micros = 17, "{} is \"odd\"", HOSTILE);
    });
    let value: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(value["client"], HOSTILE);
    assert_eq!(value["message"], format!("{HOSTILE} is \"odd\""));
    assert_eq!((&value["micros"], &value["level"]), (&17.into(), &"WARN".into()));
    assert_eq!(value["target"], module_path!());
    assert!(value["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{value}");
}

/// Says something with each level, and as a request.
fn say() {
    tracing::info!("one");
    tracing::debug!("two");
    tracing::trace!(target: "request", "three");
}

fn said(sink: &Sink) -> Vec<bool> {
    say();
    let text = sink.take();
    ["one", "two", "three"].map(|word| text.contains(word)).to_vec()
}

#[test]
fn a_level_changes_while_the_program_runs() {
    fn with(filter: reload::Layer<EnvFilter, Registry>, sink: Sink) -> impl Subscriber + Send + Sync {
        tracing_subscriber::registry().with(filter).with(messages(sink, false))
    }
    let sink = Sink::default();
    let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
    tracing::subscriber::with_default(with(filter, sink.clone()), || {
        assert_eq!(said(&sink), [true, false, false]);
        handle.reload(EnvFilter::new("info,request=trace")).unwrap();
        assert_eq!(said(&sink), [true, false, true]);
        handle.reload(EnvFilter::new("trace,request=off")).unwrap();
        assert_eq!(said(&sink), [true, true, false]);
        handle.reload(EnvFilter::new("error")).unwrap();
        assert_eq!(said(&sink), [false, false, false]);
    });
}

#[test]
fn a_filter_that_makes_no_sense_is_refused() {
    assert!(super::level::check("info,drivers=debug").is_ok());
    for filter in ["a=b=c", "gateway=loud"] {
        let error = super::level::set_level(filter).unwrap_err().to_string();
        assert!(error.contains(filter) && error.contains("for example"), "{error}");
    }
}
