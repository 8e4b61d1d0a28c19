//! [`Acceptors`]: take connections and hand them to the workers.

use std::io;
use std::time::Duration;

use drivers::Error;
use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::crew::{Balance, Crew};
use crate::net::listen;
use crate::sys;

/// How long to wait after an error that goes away by itself at best, such as too many open descriptors. Connections
/// wait in the kernel meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// One task for each socket.
#[derive(Debug)]
pub(super) struct Acceptors {
    tasks: Vec<JoinHandle<()>>,
}

impl Acceptors {
    /// Accepts from now on.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn start(sockets: Vec<Socket>, crew: &Crew) -> Result<Acceptors, Error> {
        let mut tasks = Vec::new();
        for socket in sockets {
            let listener =
                sys::watch_listener(socket).map_err(|cause| Error::system("wait for connections", &cause))?;
            tasks.push(tokio_uring::spawn(accept(listener, crew.balance())));
        }
        Ok(Acceptors { tasks })
    }

    /// Stops, and closes the sockets.
    pub(super) async fn stop(self) {
        for task in self.tasks {
            task.abort();
            // It answers that it was aborted.
            let _ = task.await;
        }
    }
}

/// Accepts for ever. Errors never end it: a server that takes no more clients until it is restarted is worse than one
/// that tries again.
async fn accept(listener: AsyncFd<Socket>, balance: Balance) {
    let mut told = false;
    loop {
        let accepted = match listener.readable().await {
            // Takes the readiness back if there is no connection after all.
            Ok(mut ready) => ready.try_io(|listener| listener.get_ref().accept()),
            Err(cause) => Ok(Err(cause)),
        };
        match accepted {
            Ok(Ok((socket, address))) => {
                if std::mem::take(&mut told) {
                    tracing::info!("accepting connections again");
                }
                if !address.is_unix()
                    && let Err(cause) = listen::tune(&socket)
                {
                    tracing::debug!("cannot set options of a connection: {cause}");
                }
                balance.hand_over(socket);
            }
            Ok(Err(cause)) if is_of_one_connection(&cause) => tracing::debug!("a connection failed: {cause}"),
            Ok(Err(cause)) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        "cannot accept connections: {cause}; trying again (a limit of open files can be raised with \
                         ulimit -Hn, or LimitNOFILE= of systemd)"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(_would_block) => {}
        }
    }
}

/// Errors that concern the connection only that was to be accepted (accept(2), "Error handling").
fn is_of_one_connection(cause: &io::Error) -> bool {
    matches!(
        cause.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EPERM
        )
    )
}
