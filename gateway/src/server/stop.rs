//! The end of service: clients get their answers, writes reach the disk, and nothing may hold that up for ever.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::time::timeout;

use super::captive::{self, Captive};
use super::crew::Crew;
use super::service::Service;
use super::signals::Signal;
use crate::worker::mailbox::Message;

/// How long workers may take to end when they have nothing to do.
const WORKERS: Duration = Duration::from_secs(5);

/// How long a captive command may take to notice that a terminal's signal, or the end of the server, is meant for it
/// too.
const CAPTIVE_PATIENCE: Duration = Duration::from_secs(2);

/// How long it may take after a signal of its own.
const CAPTIVE_TERM: Duration = Duration::from_secs(10);

/// Why service ends.
#[derive(Debug)]
pub(super) enum Reason {
    Signal(Signal),
    /// An operator asked for it.
    Asked,
    CaptiveEnded(io::Result<ExitStatus>),
    /// The only client.
    ClientLeft,
    /// A worker is gone.
    Failed(String),
}

/// Ends everything in order, and returns the exit code. No connection is accepted any more.
pub(super) async fn stop(
    reason: Reason,
    service: &Service,
    crew: &mut Crew,
    captive: &mut Option<Captive>,
) -> u8 {
    let mut code = match &reason {
        Reason::Signal(signal) => {
            if let Some(captive) = captive.as_mut().filter(|_| !signal.is_from_terminal()) {
                captive.send_signal(libc::SIGTERM);
            }
            0
        }
        Reason::Asked => {
            if let Some(captive) = captive.as_mut() {
                captive.send_signal(libc::SIGTERM);
            }
            0
        }
        Reason::ClientLeft => 0,
        Reason::CaptiveEnded(Ok(status)) => captive::exit_code(*status),
        Reason::CaptiveEnded(Err(cause)) => {
            tracing::error!("cannot wait for the command of --run: {cause}");
            1
        }
        Reason::Failed(reason) => {
            tracing::error!("{reason}; ending");
            1
        }
    };
    if !drain(service, crew).await && code == 0 {
        code = 1;
    }
    if let Some(captive) = captive.as_mut().filter(|_| !matches!(reason, Reason::CaptiveEnded(_))) {
        let captive = end_captive(captive).await;
        code = if code == 0 { captive } else { code };
    }
    code
}

/// Lets the workers answer, flush and end. Returns whether all went well.
async fn drain(service: &Service, crew: &mut Crew) -> bool {
    let fine = service.end().await;
    crew.workers().tell(|| Message::End);
    match timeout(WORKERS, crew.ended()).await {
        Ok(in_order) => fine && in_order,
        Err(_) => {
            tracing::error!("a worker does not end; ending without it");
            false
        }
    }
}

/// Waits for the command's end, and helps if it does not come. Returns its exit code.
async fn end_captive(captive: &mut Captive) -> u8 {
    for (patience, signal) in [(CAPTIVE_PATIENCE, libc::SIGTERM), (CAPTIVE_TERM, libc::SIGKILL)] {
        match timeout(patience, captive.end()).await {
            Ok(Ok(status)) => return captive::exit_code(status),
            Ok(Err(_)) => return 1,
            Err(_) => captive.send_signal(signal),
        }
    }
    captive.end().await.map_or(1, captive::exit_code)
}
