//! The control socket: an operator looks at what is served, and changes it, while the server serves.
//!
//! | module | is |
//! |---|---|
//! | `protocol` | what the lines mean: greeting, requests, answers |
//! | `lines` | bytes to lines, at most so long |
//! | `seats` | who is connected, and who makes room |
//! | `connection` | one connection, from the greeting to its end |
//! | `arguments`, `refusal` | what is asked for, and why not |
//! | `pace` | commands come no faster than the server has time for |
//! | `commands` | one file for each |
//! | `client` | the other end, for `gateway ctl` |
//!
//! All of it runs on the control thread. Workers are asked by messages, and no answer of theirs is waited for without
//! a bound. docs/control.md is the protocol in words.

mod arguments;
pub(crate) mod client;
mod commands;
mod connection;
mod lines;
mod pace;
mod protocol;
mod refusal;
mod seats;

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use drivers::Error;
use socket2::Socket;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::net::complaint::complain;
use crate::net::listen::SocketFile;
use crate::net::peer;
use crate::server::{Outcome, Service};
use pace::Pace;
pub(crate) use refusal::Mistake;
use refusal::Refusal;
use seats::{Seat, Seats, Taken};

/// How long after an error the next connection is tried: it may be that there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How long connections may take to hear that the server ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the control thread does for a command.
#[derive(Debug)]
pub(crate) enum Order {
    /// Read the configuration file again, and tell what came of it.
    Reload(oneshot::Sender<Outcome>),
    /// End the server.
    Stop,
}

/// Connections that are kept until the server has ended, so that the other end sees when that is.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    _streams: Vec<UnixStream>,
}

/// What all connections share.
struct Hub {
    service: Rc<Service>,
    started: Instant,
    /// Where NBD clients find the server.
    places: RefCell<Vec<String>>,
    orders: mpsc::UnboundedSender<Order>,
    pace: Pace,
    /// Connections that asked for the end.
    waiting: RefCell<Vec<UnixStream>>,
}

/// A socket that nobody answers on yet.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: Socket,
    file: SocketFile,
}

/// Listens on `path`, for root and this user.
///
/// # Errors
/// What is in the way, and what to do about it.
pub(crate) fn open(path: &Path) -> Result<Bound, Error> {
    let (socket, file) = SocketFile::open_private(path)?;
    Ok(Bound { socket, file })
}

impl Bound {
    /// Answers from now on. `places` says where NBD clients find the server.
    ///
    /// # Errors
    /// What the system answered.
    pub(crate) fn answer(self, service: Rc<Service>, places: Vec<String>) -> Result<Control, Error> {
        let Bound { socket, file } = self;
        let listener = socket
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(OwnedFd::from(socket).into()))
            .map_err(|cause| Error::system("wait for connections on the control socket", &cause))?;
        let (orders, received) = mpsc::unbounded_channel();
        let hub = Rc::new(Hub {
            service,
            started: Instant::now(),
            places: RefCell::new(places),
            orders,
            pace: Pace::default(),
            waiting: RefCell::default(),
        });
        let (ending, ended) = watch::channel(false);
        let acceptor = tokio_uring::spawn(accept(listener, hub.clone(), ended));
        Ok(Control { file, hub, orders: received, ending, acceptor })
    }
}

/// A control socket that answers.
pub(crate) struct Control {
    file: SocketFile,
    hub: Rc<Hub>,
    /// At most one for each connection.
    orders: mpsc::UnboundedReceiver<Order>,
    ending: watch::Sender<bool>,
    acceptor: JoinHandle<()>,
}

impl Control {
    /// NBD clients find the server here from now on.
    pub(crate) fn listens_on(&self, places: Vec<String>) {
        self.hub.places.replace(places);
    }
}

/// What a command wants of the control thread; nothing ever without a control socket.
pub(crate) async fn order(control: &mut Option<Control>) -> Order {
    if let Some(control) = control
        && let Some(order) = control.orders.recv().await
    {
        return order;
    }
    std::future::pending().await
}

/// Waits for the command to end the server, while a reload is under way.
pub(crate) async fn stop(control: &mut Option<Control>) {
    loop {
        match order(control).await {
            Order::Stop => return,
            // Whoever does not wait for it does not want to know.
            Order::Reload(answer) => drop(answer.send(Err(vec!["a reload is under way already".into()]))),
        }
    }
}

/// Ends it: commands under way are given up, and the other ends are told so. Returns those that wait for the end of the
/// server.
pub(crate) async fn close(control: Option<Control>) -> Waiting {
    let Some(Control { file, hub, ending, acceptor, .. }) = control else { return Waiting::default() };
    // Its name goes first, so that nobody finds a socket on which nobody listens.
    drop(file);
    let _ = ending.send(true);
    // It is bounded by itself.
    let _ = acceptor.await;
    Waiting { _streams: hub.waiting.take() }
}

/// Accepts until the server ends.
async fn accept(listener: UnixListener, hub: Rc<Hub>, mut ended: watch::Receiver<bool>) {
    let seats = Seats::default();
    let mut connections = JoinSet::new();
    let ending = ended.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.wait_for(|ended| *ended) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some(taken) = admit(&stream, &seats, &mut ended).await else { break };
                while connections.try_join_next().is_some() {}
                match taken {
                    Ok(seat) => {
                        let talk = connection::serve(stream, seat, hub.clone(), ending.clone());
                        drop(connections.spawn_local(talk));
                    }
                    Err(refusal) => connection::refuse(&stream, refusal).await,
                }
            }
            Err(cause) => {
                complain("", format_args!("cannot accept a connection to the control socket: {cause}"));
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // Those that are not through by then are cut off with the set.
    let _ = timeout(FAREWELL, all).await;
}

/// A seat for a connection, if whoever made it may have one. `None`: the server ends.
async fn admit(
    stream: &UnixStream,
    seats: &Seats,
    ended: &mut watch::Receiver<bool>,
) -> Option<Result<Seat, Refusal>> {
    let user = peer::client(stream).uid;
    if !user.is_some_and(|user| may_control(user, nix::unistd::geteuid().as_raw())) {
        let peer = peer::name(stream);
        complain(&peer, format_args!("{peer} may not use the control socket"));
        return Some(Err(refusal::forbidden()));
    }
    loop {
        match seats.take(Instant::now()) {
            Taken::Seat(seat) => return Some(Ok(seat)),
            Taken::None => return Some(Err(refusal::crowded())),
            // Others that come now wait behind this one.
            Taken::Wait(time) => tokio::select! {
                () = sleep(time) => {}
                _ = ended.wait_for(|ended| *ended) => return None,
            },
        }
    }
}

/// Whether a process of user `peer` may control a server of user `own`.
fn may_control(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

#[cfg(test)]
mod tests {
    use super::may_control;

    #[test]
    fn only_root_and_the_user_of_the_server_may_control_it() {
        assert!(may_control(0, 1000) && may_control(1000, 1000) && may_control(0, 0));
        assert!(!may_control(1000, 0) && !may_control(1000, 1001) && !may_control(u32::MAX, 0));
    }
}
