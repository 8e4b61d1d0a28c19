//! The log: lines on standard error.

use drivers::Error;
use tracing_subscriber::EnvFilter;

/// Says what is logged, by part: `debug`, or `gateway=debug,drivers=trace`.
const VARIABLE: &str = "GATEWAY_LOG";

/// Starts it. `verbose` is how often `-v` was given; the variable has the last word.
///
/// # Errors
/// The variable makes no sense.
pub(super) fn start(verbose: u8) -> Result<(), Error> {
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
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // Which part of the program speaks matters only to those who look for a fault in it.
    log.with_target(verbose > 0 || text.is_some()).init();
    Ok(())
}
