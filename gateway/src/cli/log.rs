//! The log: lines on standard error; of a server in the background, messages to the system's log.

use std::sync::OnceLock;

use drivers::Error;
use tracing_subscriber::fmt::{self, writer::MakeWriterExt as _};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use crate::syslog::{self, Syslog};

/// Says what is logged, by part: `debug`, or `gateway=debug,drivers=trace`.
const VARIABLE: &str = "GATEWAY_LOG";

/// By which the filter is changed while the server runs.
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts it. `verbose` is how often `-v` was given; the variable has the last word. `daemon`: this may go into the
/// background.
///
/// # Errors
/// The variable makes no sense.
pub(super) fn start(verbose: u8, daemon: bool) -> Result<(), Error> {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::try_new(text.as_deref().unwrap_or(level)).map_err(|cause| {
        Error::usage(format!("the environment variable {VARIABLE} cannot be understood: {cause}"))
            .hint(format!("for example {VARIABLE}=debug or {VARIABLE}=gateway=debug,drivers=trace"))
    })?;
    // Which part of the program speaks matters only to those who look for a fault in it.
    let target = verbose > 0 || text.is_some();
    let stderr = std::io::stderr.with_filter(|_| !syslog::is_in_use());
    let lines = fmt::layer().with_target(target).with_writer(stderr);
    // The system's log has times and levels of its own.
    let messages = daemon.then(|| {
        let layer = fmt::layer().with_target(target).without_time().with_level(false).with_ansi(false);
        layer.with_writer(Syslog::new().with_filter(|_| syslog::is_in_use()))
    });
    let (filter, handle) = reload::Layer::new(filter);
    // It is started once.
    let _ = FILTER.set(handle);
    tracing_subscriber::registry().with(filter).with(lines).with(messages).init();
    Ok(())
}

/// Logs what this says from now on: `debug`, or `gateway=debug,drivers=trace`.
///
/// # Errors
/// It makes no sense.
pub(crate) fn set_level(filter: &str) -> Result<(), Error> {
    let wanted = EnvFilter::builder().parse(filter).map_err(|cause| {
        Error::usage(format!("the filter '{filter}' cannot be understood: {cause}"))
            .hint("for example debug, or gateway=debug,drivers=trace")
    })?;
    let changed = FILTER.get().map(|handle| handle.reload(wanted));
    changed
        .transpose()
        .map_err(|cause| Error::device(format!("cannot set what is logged: {cause}")))
        .map(Option::unwrap_or_default)
}
