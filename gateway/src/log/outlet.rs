//! [`Outlets`]: all places where the log can go, of which one is in use.

use std::sync::atomic::{AtomicU8, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::fields;
use super::journal::{self, Journal};
use super::syslog::{self, Syslog};
use super::text::{Escapes, OneLine};

/// A place, and the form of what goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Outlet {
    Text,
    Json,
    Syslog,
    Journal,
}

/// The one in use, as a number.
static IN_USE: AtomicU8 = AtomicU8::new(Outlet::Text as u8);

impl Outlet {
    /// Uses this one from now on. Panics, which have more than one line, go there too; those of text on standard error
    /// are printed as ever.
    pub(super) fn take_over(self) {
        IN_USE.store(self as u8, Ordering::Relaxed);
        if self != Outlet::Text {
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        }
    }

    /// Whether the one in use writes to standard error.
    pub(super) fn is_stderr() -> bool {
        [Outlet::Text as u8, Outlet::Json as u8].contains(&IN_USE.load(Ordering::Relaxed))
    }
}

/// All of them, in the order of [`Outlet`].
pub(super) struct Outlets<S>([Box<dyn Layer<S> + Send + Sync>; 4]);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Outlets<S> {
    /// `is_detailed`: lines say which part of the program speaks.
    pub(super) fn new(is_detailed: bool) -> Outlets<S> {
        Outlets([
            Box::new(text(std::io::stderr, is_detailed)),
            Box::new(json(std::io::stderr)),
            Box::new(messages(Syslog::at(syslog::SOCKET), is_detailed)),
            Box::new(Journal::at(journal::SOCKET)),
        ])
    }
}

impl<S: Subscriber> Layer<S> for Outlets<S> {
    // There are no spans, which the places would have to hear of as well.
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if let Some(outlet) = self.0.get(usize::from(IN_USE.load(Ordering::Relaxed))) {
            outlet.on_event(event, context);
        }
    }
}

/// Lines for people.
pub(super) fn text<S, W>(writer: W, is_detailed: bool) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let writer = OneLine { inner: writer, escapes: Escapes::Text };
    fmt::layer()
        .with_ansi(false)
        .with_target(is_detailed)
        .fmt_fields(fields::for_people())
        .with_writer(writer)
}

/// Lines for programs: an object each, with all fields.
pub(super) fn json<S, W>(writer: W) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let writer = OneLine { inner: writer, escapes: Escapes::Json };
    let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    layer.with_writer(writer)
}

/// Lines for a log that has times and levels of its own.
pub(super) fn messages<S, W>(writer: W, is_detailed: bool) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let writer = OneLine { inner: writer, escapes: Escapes::Text };
    let layer = fmt::layer().with_ansi(false).with_target(is_detailed).without_time().with_level(false);
    layer.fmt_fields(fields::for_people()).with_writer(writer)
}
