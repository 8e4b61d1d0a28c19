//! The handshake of one client: I/O around [`nbd::server::Handshake`], on the worker's runtime.
//!
//! It runs as a task of its own, because clients may be slow; the task and its memory are gone when the session
//! begins.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nbd::Transmission;
use nbd::server::{CloseReason, Handshake, Policy, State};
use tokio_uring::net::UnixStream;

use crate::exports::{Catalogue, Export, View};
use crate::net::complaint::complain;
use crate::net::handshakes::{Ended, Entered, Handshakes};
use crate::net::peer;
use crate::net::stream::Stream;
use crate::sys;
use crate::worker::mailbox::{Mailbox, Message};

/// Bytes received at a time.
const RECEIVE_BYTES: usize = 4 << 10;

/// How a handshake ended.
enum End {
    /// With an open export; the bytes came after it.
    Open(Box<Transmission>, Arc<Export>, Vec<u8>),
    /// Without.
    Closed(CloseReason),
    /// The client vanished, or the system said no.
    Failed(io::Error),
    /// The client took too long.
    TimedOut,
    /// Others need its place, or the server ends.
    Ended(Ended),
}

/// Starts the handshake on a fresh connection. When it succeeds a worker that has a queue of the disk gets the session
/// by its mailbox: this one, if it has one.
pub(crate) fn spawn(
    socket: OwnedFd,
    exports: Arc<Catalogue>,
    mailbox: Arc<Mailbox>,
    handshakes: &Handshakes,
) {
    let entered = handshakes.enter();
    tokio_uring::spawn(async move {
        match run(socket, &exports, &entered).await {
            Ok(Opened { export, message }) => match host(&export, &mailbox) {
                None => mailbox.post(message),
                Some(other) => {
                    other.post_session(message);
                    mailbox.connection_over();
                }
            },
            Err(Unopened) => mailbox.connection_over(),
        }
        // The worker may wait for the last handshake to end.
        drop(entered);
        mailbox.wake().ring();
    });
}

/// The worker that is to serve this export; `None`: the one of `own`.
fn host(export: &Export, own: &Arc<Mailbox>) -> Option<Arc<Mailbox>> {
    let owners = export.disk.mailboxes();
    if owners.iter().any(|owner| Arc::ptr_eq(owner, own)) {
        return None;
    }
    owners.iter().min_by_key(|owner| owner.connections()).cloned()
}

/// There will be a session.
struct Opened {
    export: Arc<Export>,
    message: Message,
}

/// There will be no session.
struct Unopened;

async fn run(socket: OwnedFd, exports: &Catalogue, entered: &Entered) -> Result<Opened, Unopened> {
    // The runtime's stream only reads and writes; which family the socket is of does not matter to it.
    let stream = UnixStream::from_std(socket.into());
    let end = tokio::select! {
        end = tokio::time::timeout(entered.timeout(), haggle(&stream, exports)) => match end {
            Ok(Ok(end)) => end,
            Ok(Err(cause)) => End::Failed(cause),
            Err(_) => End::TimedOut,
        },
        why = entered.ended() => End::Ended(why),
    };
    let peer = || peer::name(&sys::descriptor_of(&stream));
    match end {
        End::Open(transmission, export, received) => {
            tracing::debug!("{} opened export {:?}", peer(), transmission.export.name);
            // The stream cannot be turned into a descriptor again, but no operation of it is under way.
            match sys::descriptor_of(&stream).try_clone_to_owned() {
                Ok(client) => {
                    let stream = Stream::new(client);
                    let message = Message::Session { stream, transmission, export: export.clone(), received };
                    return Ok(Opened { export, message });
                }
                Err(cause) => complain(format_args!("cannot serve {}: {cause}", peer())),
            }
        }
        End::Closed(reason) => tracing::debug!("{}: {reason}", peer()),
        // Whoever only looks whether somebody listens does this too.
        End::Failed(cause) => tracing::debug!("{} left in the handshake: {cause}", peer()),
        End::TimedOut => complain(format_args!(
            "{} did not finish the handshake in {} s; closing its connection",
            peer(),
            entered.timeout().as_secs()
        )),
        End::Ended(Ended::CrowdedOut) => complain(format_args!(
            "closing the connection of {}, whose handshake is the oldest of too many",
            peer()
        )),
        End::Ended(Ended::GivenUp) => {}
    }
    // An operation that is still under way in the kernel, with the socket and its buffer, ends by this. It fails when
    // the client is gone.
    let _ = stream.shutdown(Shutdown::Both);
    Err(Unopened)
}

/// Talks until an export is open, or the client changed its mind or was sent away.
async fn haggle(stream: &UnixStream, exports: &Catalogue) -> io::Result<End> {
    let client = peer::client(&sys::descriptor_of(stream));
    let view = View::new(exports, &client, false);
    let mut handshake = Handshake::new(Policy::default());
    let mut out = handshake.greeting().to_vec();
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut received = Vec::new();
    let mut state = State::NeedMore;
    loop {
        if !out.is_empty() {
            let (result, returned) = stream.write_all(out).await;
            result?;
            out = returned;
            out.clear();
        }
        match state {
            State::Transmission(transmission) => {
                return Ok(match view.into_found() {
                    Some(export) => End::Open(transmission, export, received),
                    None => End::Closed(CloseReason::Refused("no export was found")),
                });
            }
            State::Close(reason) => return Ok(End::Closed(reason)),
            State::StartTls => return Ok(End::Closed(CloseReason::Refused("there is no encryption"))),
            State::NeedMore => {}
        }
        let (result, returned) = stream.read(buffer).await;
        buffer = returned;
        let got = result?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let advance = handshake.advance(&buffer[..got], &view, &mut out);
        if let Some(reason) = view.take_refusal() {
            complain(format_args!(
                "{} may not open the export that it asks for: {reason}",
                peer::name(&sys::descriptor_of(stream))
            ));
        }
        received = buffer[advance.consumed..got].to_vec();
        state = advance.state;
    }
}
