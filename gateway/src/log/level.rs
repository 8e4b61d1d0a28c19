//! How much is said.
//!
//! A filter is a level, or levels by part: `debug`, or `info,drivers=debug,request=trace`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use drivers::Error;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Says what is logged, before everything else.
const VARIABLE: &str = "GATEWAY_LOG";

/// A filter that can be exchanged. As long as it stays, it costs what it would cost without: which places speak is
/// kept at each of them (`tracing`, "interest").
type Exchangeable = reload::Layer<EnvFilter, Registry>;

static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// The command line or the environment has said it.
static IS_SAID: AtomicBool = AtomicBool::new(false);

/// What `-v` means, by how often it was given. All requests are a flood that nobody means who wants to see more.
const VERBOSE: [&str; 4] = ["info", "debug", "trace,request=off", "trace"];

/// The filter of the start. Returns with it whether it is for those who look for a fault: they want to know which part
/// of the program speaks.
pub(super) fn start(verbose: u8) -> Result<(Exchangeable, bool), Error> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let by_option = VERBOSE[usize::from(verbose).min(VERBOSE.len() - 1)];
    let filter = EnvFilter::try_new(variable.as_deref().unwrap_or(by_option)).map_err(|cause| {
        Error::usage(format!("the environment variable {VARIABLE} cannot be understood: {cause}"))
            .hint(format!("for example {VARIABLE}=debug or {VARIABLE}=gateway=debug,drivers=trace"))
    })?;
    let is_said = verbose > 0 || variable.is_some();
    IS_SAID.store(is_said, Ordering::Relaxed);
    let (layer, handle) = reload::Layer::new(filter);
    // There is one start.
    let _ = HANDLE.set(handle);
    Ok((layer, is_said))
}

/// Whether a filter makes sense.
///
/// # Errors
/// Why not.
pub(crate) fn check(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|cause| cause.to_string())
}

/// From now on so much is said.
///
/// # Errors
/// The filter makes no sense; as much is said as before.
pub(crate) fn set_level(filter: &str) -> Result<(), Error> {
    let new = check(filter).map_err(|cause| {
        Error::usage(format!("the log level '{filter}' cannot be understood: {cause}"))
            .hint("for example debug, or info,drivers=debug,request=trace")
    })?;
    let Some(handle) = HANDLE.get() else { return Ok(()) };
    handle.reload(new).map_err(|cause| Error::device(format!("cannot change the log level: {cause}")))
}

/// From now on so much is said as a configuration file says, if it says anything and nothing goes before it.
///
/// # Errors
/// As [`set_level`].
pub(crate) fn follow(filter: Option<&str>) -> Result<(), Error> {
    match filter {
        Some(filter) if !IS_SAID.load(Ordering::Relaxed) => set_level(filter),
        _ => Ok(()),
    }
}
