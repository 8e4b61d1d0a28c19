//! The log: how much it says, and where it goes.
//!
//! | module | is |
//! |---|---|
//! | `level` | how much is said, and how that changes while the server runs |
//! | `outlet` | the places, of which one is in use |
//! | `journal`, `syslog` | those that take datagrams |
//! | `fields` | what an event says besides its text |
//! | `text` | texts of others, made harmless |
//!
//! What an operator wants is said with `info`, what wants looking at with `warn`, what is lost with `error`; what only
//! helps to find a fault with `debug`. Requests have a target of their own, `request`, with `trace`.

mod fields;
mod journal;
pub(crate) mod level;
mod outlet;
mod syslog;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use drivers::Error;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use outlet::{Outlet, Outlets};
pub(crate) use text::{Shown, harmless};

/// Where the log shall go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Place {
    /// Where whoever started the server looks for it.
    #[default]
    Auto,
    Stderr,
    Journald,
    Syslog,
}

/// The form of its lines on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// What is known of the log before the server starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) place: Place,
    pub(crate) format: Format,
    /// How much is said, if nothing that goes before it says so.
    pub(crate) level: Option<String>,
}

/// The log goes to the system's log when this process is in the background.
static MOVES: AtomicBool = AtomicBool::new(false);

/// Starts the log, on standard error. `verbose` is how often `-v` was given; the environment has the last word.
///
/// # Errors
/// The environment makes no sense.
pub(crate) fn start(verbose: u8) -> Result<(), Error> {
    let (filter, is_detailed) = level::start(verbose)?;
    tracing_subscriber::registry().with(filter).with(Outlets::new(is_detailed)).init();
    Ok(())
}

/// Lets it go where it shall from now on. `daemon`: this process goes into the background.
///
/// # Errors
/// Nobody takes it there, or its level makes no sense.
pub(crate) fn settle(settings: &Settings, daemon: bool) -> Result<(), Error> {
    level::follow(settings.level.as_deref())?;
    let on_stderr = match settings.format {
        Format::Text => Outlet::Text,
        Format::Json => Outlet::Json,
    };
    let outlet = match settings.place {
        // Whoever asks for a form asks for what has one.
        Place::Auto if settings.format == Format::Text && is_at_hand() => Outlet::Journal,
        Place::Auto | Place::Stderr => on_stderr,
        Place::Journald => reached("the journal", journal::SOCKET, Outlet::Journal)?,
        Place::Syslog => reached("the system's log", syslog::SOCKET, Outlet::Syslog)?,
    };
    MOVES.store(daemon && settings.place == Place::Auto && outlet == on_stderr, Ordering::Relaxed);
    outlet.take_over();
    Ok(())
}

/// This process is in the background from now on. `status` is what it does, for a log that has not heard of it.
/// Returns whether it still needs standard error.
pub(crate) fn stay_behind(status: &str) -> bool {
    if MOVES.load(Ordering::Relaxed) {
        // Without a system's log there is none.
        Outlet::Syslog.take_over();
        tracing::info!("{status}");
    }
    Outlet::is_stderr()
}

fn reached(what: &str, socket: &str, outlet: Outlet) -> Result<Outlet, Error> {
    let there = journal::reach(Path::new(socket)).map(|()| outlet);
    there.map_err(|cause| {
        Error::system(format!("reach {what} at {socket}"), &cause).hint("say where the log goes with --log")
    })
}

/// Whether the journal is at hand, and standard error is a stream that it has made.
fn is_at_hand() -> bool {
    let Ok(variable) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let facts = stderr.and_then(|stderr| stderr.metadata());
    let is_its_stream = facts.is_ok_and(|facts| journal::is_stream(&variable, facts.dev(), facts.ino()));
    is_its_stream && journal::reach(Path::new(journal::SOCKET)).is_ok()
}
