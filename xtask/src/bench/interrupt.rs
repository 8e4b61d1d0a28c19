//! Ctrl-C and SIGTERM: the bench notices them between and during runs and ends with its servers stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Notes SIGINT and SIGTERM instead of dying from them. A second one ends the process at once.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn install() -> anyhow::Result<()> {
    let interrupted = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, sets it, and only the next one ends the process.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(interrupted))
            .context("signal handler")?;
        flag::register(signal, Arc::clone(interrupted)).context("signal handler")?;
    }
    Ok(())
}

/// Fails when the user has interrupted.
///
/// # Errors
/// The interrupt itself.
pub(crate) fn check() -> anyhow::Result<()> {
    if INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        bail!("interrupted");
    }
    Ok(())
}
