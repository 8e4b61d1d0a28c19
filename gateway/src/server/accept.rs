//! [`Acceptors`]: take connections and hand them to the workers.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use drivers::Error;
use socket2::{SockAddr, Socket};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::crew::Balance;
use crate::net::complaint::complain;
use crate::net::limits::Limits;
use crate::net::{listen, peer};
use crate::sys;

/// How long to wait after an error that goes away by itself at best, such as too many open descriptors. Connections
/// wait in the kernel meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// How long after one complaint the next one may come.
const SILENCE: Duration = Duration::from_secs(60);

/// Descriptors that connections leave to everything else: what a session needs for a moment when it begins, and what
/// drivers open while they serve.
const RESERVED_DESCRIPTORS: u64 = 16;

/// The sockets of a place, and a task for each once it accepts. Dropping this ends the tasks and closes the sockets, a
/// moment later.
#[derive(Debug)]
pub(super) struct Acceptors {
    listeners: Vec<Rc<AsyncFd<Socket>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Acceptors {
    /// Gets ready to accept.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn new(sockets: Vec<Socket>) -> Result<Acceptors, Error> {
        let watch = |socket| sys::watch_listener(socket).map(Rc::new);
        let listeners = sockets.into_iter().map(watch).collect::<io::Result<_>>();
        let listeners = listeners.map_err(|cause| Error::system("wait for connections", &cause))?;
        Ok(Acceptors { listeners, tasks: Vec::new() })
    }

    /// The sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.listeners.iter().map(|listener| listener.get_ref())
    }

    /// Accepts from now on, as long as this process has fewer than `descriptors_max` descriptors.
    pub(super) fn start(&mut self, balance: &Balance, limits: Limits, descriptors_max: u64) {
        let start = |listener: &Rc<AsyncFd<Socket>>| {
            tokio_uring::spawn(accept(listener.clone(), balance.clone(), limits, descriptors_max))
        };
        self.tasks = self.listeners.iter().map(start).collect();
    }

    /// Stops, and closes the sockets.
    pub(super) async fn stop(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // It answers that it was aborted.
            let _ = task.await;
        }
    }
}

impl Drop for Acceptors {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Accepts for ever. Errors never end it: a server that takes no more clients until it is restarted is worse than one
/// that tries again.
async fn accept(listener: Rc<AsyncFd<Socket>>, balance: Balance, limits: Limits, descriptors_max: u64) {
    let mut told: Option<Instant> = None;
    loop {
        let trouble = match sys::accept(&listener).await {
            Ok((socket, address)) => {
                let trouble = shortage(&socket, descriptors_max);
                welcome(socket, &address, &balance, limits);
                trouble
            }
            Err(cause) if is_of_one_connection(&cause) => {
                tracing::debug!("a connection failed: {cause}");
                None
            }
            Err(cause) => Some(cause),
        };
        let Some(cause) = trouble else { continue };
        if told.is_none_or(|told| told.elapsed() >= SILENCE) {
            told = Some(Instant::now());
            tracing::warn!(
                "cannot accept more connections for now: {cause}; they wait (a limit of open files can be raised with \
                 ulimit -Hn, or LimitNOFILE= of systemd)"
            );
        }
        pause(listener.get_ref(), &balance, descriptors_max).await;
    }
}

/// Gives a connection to a worker, if there may be one more.
///
/// One too many is closed at once. If it waited until another client leaves, a client with several connections would
/// wait for itself, and others without a word. Those in the handshake make room: whoever only connects keeps nobody
/// out.
fn welcome(socket: Socket, address: &SockAddr, balance: &Balance, limits: Limits) {
    if let Some(max) = limits.clients_max
        && balance.connections() >= max
        && !balance.end_oldest_handshake()
    {
        let peer = peer::name(&socket);
        return complain(
            &peer,
            format_args!("closing the connection of {peer}: there are {max} clients already"),
        );
    }
    prepare(&socket, address);
    balance.hand_over(socket);
}

/// Sets the options of a connection.
pub(super) fn prepare(socket: &Socket, address: &SockAddr) {
    if address.as_socket().is_some()
        && let Err(cause) = listen::tune(socket)
    {
        tracing::debug!("cannot set options of a connection: {cause}");
    }
}

/// Waits, and goes on waiting while descriptors are short. Clients that never finish their handshake shall not be what
/// the others wait for.
async fn pause(listener: &Socket, balance: &Balance, descriptors_max: u64) {
    loop {
        balance.make_room();
        tokio::time::sleep(PAUSE).await;
        let probe = listener.try_clone();
        if probe.is_ok_and(|probe| shortage(&probe, descriptors_max).is_none()) {
            return;
        }
    }
}

/// Whether a descriptor is one of the last: the lowest free number is always taken.
fn shortage(descriptor: &impl AsRawFd, descriptors_max: u64) -> Option<io::Error> {
    let number = u64::try_from(descriptor.as_raw_fd()).unwrap_or(0);
    (number + RESERVED_DESCRIPTORS >= descriptors_max).then(|| io::Error::from_raw_os_error(libc::EMFILE))
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
