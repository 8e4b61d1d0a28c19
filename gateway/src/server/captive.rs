//! [`Captive`]: the command of `--run`. The server lives as long as it does.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use drivers::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::net::activation::VARIABLES;
use crate::net::address::Address;
use crate::sys;
use crate::tls;

/// The command line for a shell, with variables that say where the server is.
pub(super) fn command(run: &str, address: &Address, export: &str, tls: &tls::Settings) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(run).envs(address.variables(export, run, tls));
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    sys::with_former_descriptor_limit(&mut command);
    command
}

/// A running command.
#[derive(Debug)]
pub(super) struct Captive {
    child: Child,
    /// Children ended.
    ended: Signal,
}

impl Captive {
    /// Starts it.
    ///
    /// # Errors
    /// There is no shell, or no process for it.
    pub(super) fn start(command: &mut Command) -> Result<Captive, Error> {
        let failed = |cause: io::Error| Error::system("start /bin/sh for the command of --run", &cause);
        // Watched before there is a child, so that its end is not missed.
        let ended = signal(SignalKind::child()).map_err(failed)?;
        Ok(Captive { child: command.spawn().map_err(failed)?, ended })
    }

    /// Waits for its end.
    pub(super) async fn end(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            self.ended.recv().await;
        }
    }

    /// Sends it a signal, unless it has ended.
    pub(super) fn send_signal(&mut self, signal: i32) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may end in this moment, but is there until it is waited for.
            let _ = sys::send_signal(self.child.id(), signal);
        }
    }
}

/// The exit code that a shell would give.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Waits for the end of the command; for ever if there is none.
pub(super) async fn end(captive: &mut Option<Captive>) -> io::Result<ExitStatus> {
    match captive {
        Some(captive) => captive.end().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(libc::SIGTERM)), 143);
    }
}
