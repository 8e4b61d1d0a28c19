//! The handshake of one client: I/O around [`nbd::server::Handshake`], on the worker's runtime.
//!
//! It runs as a task of its own, because clients may be slow; the task and its memory are gone when the session
//! begins.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nbd::Transmission;
use nbd::server::{CloseReason, Handshake, Policy, State};
use tokio_uring::net::UnixStream;

use crate::exports::{Catalogue, Export, View};
use crate::net::complaint::complain;
use crate::net::gather::Gather;
use crate::net::handshakes::{Ended, Entered, Handshakes};
use crate::net::peer;
use crate::net::stream::Stream;
use crate::net::visit::{self, Visit};
use crate::sys::{self, Readiness};
use crate::tls::{self, PeerIdentity, Secured};
use crate::worker::mailbox::{Mailbox, Message};

/// Bytes received at a time.
const RECEIVE_BYTES: usize = 4 << 10;

/// How a handshake ended.
enum End {
    /// With an open export; the bytes came after it. The stream is there if it is encrypted.
    Open(Box<Transmission>, Arc<Export>, Vec<u8>, Option<Stream>, Visit),
    /// Without.
    Closed(CloseReason),
    /// There is no encryption.
    Uncovered(tls::Failure),
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
        let place = Place { mailbox: &mailbox, entered: &entered, is_left: Cell::new(false) };
        let opened = run(socket, &exports, &place).await;
        place.leave();
        match opened {
            Ok(Opened { export, message }) => {
                export.is_free().await;
                match host(&export, &mailbox) {
                    None => mailbox.post(message),
                    Some(other) => {
                        other.post_session(message);
                        mailbox.connection_over();
                    }
                }
            }
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

/// The place of a handshake among those under way.
struct Place<'a> {
    mailbox: &'a Mailbox,
    entered: &'a Entered,
    is_left: Cell<bool>,
}

impl Place<'_> {
    /// The handshake is over, or all but the last answer of it: from now on it is a client, and nobody ends it to make
    /// room.
    fn leave(&self) {
        if !self.is_left.replace(true) {
            self.entered.is_through();
            self.mailbox.handshake_over();
        }
    }
}

/// There will be a session.
struct Opened {
    export: Arc<Export>,
    message: Message,
}

/// There will be no session.
struct Unopened;

async fn run(socket: OwnedFd, exports: &Catalogue, place: &Place<'_>) -> Result<Opened, Unopened> {
    let entered = place.entered;
    // The runtime's stream only reads and writes; which family the socket is of does not matter to it.
    let stream = UnixStream::from_std(socket.into());
    let end = tokio::select! {
        end = tokio::time::timeout(entered.timeout(), haggle(&stream, exports, place)) => match end {
            Ok(Ok(end)) => end,
            Ok(Err(cause)) => End::Failed(cause),
            Err(_) => End::TimedOut,
        },
        why = entered.ended() => End::Ended(why),
    };
    let peer = || peer::name(&sys::descriptor_of(&stream));
    match end {
        End::Open(transmission, export, received, covered, visit) => {
            // The runtime's stream cannot be turned into a descriptor again, but no operation of it is under way.
            let client = match covered {
                Some(client) => Ok(client),
                None => sys::descriptor_of(&stream).try_clone_to_owned().map(Stream::new),
            };
            match client {
                Ok(stream) => {
                    let message =
                        Message::Session { stream, visit, transmission, export: export.clone(), received };
                    return Ok(Opened { export, message });
                }
                Err(cause) => {
                    complain(visit.client(), format_args!("cannot serve {}: {cause}", visit.client()));
                }
            }
        }
        End::Closed(reason) => {
            let peer = peer();
            tracing::debug!(client = peer, "{peer}: {reason}");
        }
        End::Uncovered(failure) => {
            let peer = peer();
            complain(&peer, format_args!("TLS with {peer} failed: {failure}"));
        }
        // Whoever only looks whether somebody listens does this too.
        End::Failed(cause) => {
            let peer = peer();
            tracing::debug!(client = peer, "{peer} left in the handshake: {cause}");
        }
        End::TimedOut => {
            let (peer, seconds) = (peer(), entered.timeout().as_secs());
            complain(
                &peer,
                format_args!("{peer} did not finish the handshake in {seconds} s; closing its connection"),
            );
        }
        End::Ended(Ended::CrowdedOut) => {
            let peer = peer();
            complain(
                &peer,
                format_args!("closing the connection of {peer}, whose handshake is the oldest of too many"),
            );
        }
        End::Ended(Ended::GivenUp) => {}
    }
    // An operation that is still under way in the kernel, with the socket and its buffer, ends by this. It fails when
    // the client is gone.
    let _ = stream.shutdown(Shutdown::Both);
    Err(Unopened)
}

/// Talks until an export is open, or the client changed its mind or was sent away.
async fn haggle(stream: &UnixStream, exports: &Catalogue, place: &Place<'_>) -> io::Result<End> {
    let tls = exports.tls();
    let mut view = View::new(exports, peer::client(&sys::descriptor_of(stream)));
    let mut handshake = Handshake::new(Policy { tls: tls.mode(), ..Policy::default() });
    let mut channel = Channel::Clear(stream);
    let mut out = handshake.greeting().to_vec();
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut received = Vec::new();
    let mut state = State::NeedMore;
    // It has said nothing since it has seen who we are.
    let mut may_distrust = false;
    let mut visit = None;
    loop {
        // Before the client knows, so that what it does then comes later.
        if let State::Transmission(transmission) = &state {
            place.leave();
            visit = Some(channel.visit(&transmission.export.name));
        }
        if !out.is_empty() {
            out = channel.send(out).await?;
            out.clear();
        }
        match state {
            State::Transmission(_) if !exports.tls().is_like(&tls) => {
                channel.close();
                return Ok(End::Closed(CloseReason::Refused("encryption has changed during its handshake")));
            }
            State::Transmission(transmission) => {
                return Ok(match (view.into_found(), visit) {
                    (Some(export), Some(visit)) => {
                        End::Open(transmission, export, received, channel.into_covered(), visit)
                    }
                    _ => End::Closed(CloseReason::Refused("no export was found")),
                });
            }
            State::Close(reason) => {
                channel.close();
                return Ok(End::Closed(reason));
            }
            State::StartTls => {
                match start_tls(stream, &tls).await {
                    Ok(covered) => channel = covered,
                    Err(failure) => return Ok(End::Uncovered(failure)),
                }
                if let Channel::Covered { identity, .. } = &channel {
                    view.encrypted(identity);
                }
                handshake.tls_established();
                may_distrust = true;
            }
            State::NeedMore => {}
        }
        let (result, returned) = channel.receive(buffer).await;
        buffer = returned;
        let got = match result {
            Err(_) | Ok(0) if may_distrust => return Ok(End::Uncovered(tls::Failure::distrusted())),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            result => result?,
        };
        may_distrust = false;
        let advance = handshake.advance(&buffer[..got], &view, &mut out);
        if let Some(reason) = view.take_refusal() {
            let (client, by) = (channel.client(), visit::by(channel.identity()));
            complain(
                &client,
                format_args!("{client}{by} may not open the export that it asks for: {reason}"),
            );
        }
        received = buffer[advance.consumed..got].to_vec();
        state = advance.state;
    }
}

/// Does the handshake of TLS. No operation of the runtime's stream is under way, and none comes later.
async fn start_tls<'a>(stream: &'a UnixStream, context: &tls::Context) -> Result<Channel<'a>, tls::Failure> {
    let socket = sys::descriptor_of(stream);
    let readiness = sys::watch_stream(socket)?;
    let secured = tls::accept(socket.try_clone_to_owned()?, &readiness, context).await?;
    let Secured { stream, identity } = secured;
    Ok(Channel::Covered { stream, readiness, identity })
}

/// How bytes travel, before and after STARTTLS.
enum Channel<'a> {
    Clear(&'a UnixStream),
    Covered { stream: Stream, readiness: Readiness<'a>, identity: PeerIdentity },
}

impl Channel<'_> {
    /// Sends everything, and gives the memory back.
    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let (stream, readiness) = match self {
            Channel::Clear(stream) => {
                let (result, bytes) = stream.write_all(bytes).await;
                return result.map(|()| bytes);
            }
            Channel::Covered { stream, readiness, .. } => (stream, readiness),
        };
        let mut sent = 0;
        while sent < bytes.len() || stream.has_unsent() {
            let mut gather = Gather::new();
            gather.push(&bytes[sent..]);
            match stream.send(&gather) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readiness.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// Receives what there is, and gives the memory back. 0 is the end of the stream.
    async fn receive(&mut self, mut into: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (stream, readiness) = match self {
            Channel::Clear(stream) => return stream.read(into).await,
            Channel::Covered { stream, readiness, .. } => (stream, readiness),
        };
        let result = loop {
            match stream.receive(&mut into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = readiness.readable().await {
                        break Err(error);
                    }
                }
                result => break result,
            }
        };
        (result, into)
    }

    /// Where the client comes from.
    fn client(&self) -> String {
        match self {
            Channel::Clear(stream) => peer::name(&sys::descriptor_of(stream)),
            Channel::Covered { stream, .. } => peer::name(stream),
        }
    }

    /// Who the client has proven to be, if that was asked for.
    fn identity(&self) -> Option<&PeerIdentity> {
        match self {
            Channel::Clear(_) => None,
            Channel::Covered { identity, .. } => Some(identity),
        }
    }

    /// The client opens an export.
    fn visit(&self, export: &str) -> Visit {
        Visit::begin(self.client(), self.identity(), export)
    }

    /// Says goodbye where there is a word for it.
    fn close(&mut self) {
        if let Channel::Covered { stream, .. } = self {
            stream.shutdown();
        }
    }

    /// The stream, if it is encrypted.
    fn into_covered(self) -> Option<Stream> {
        match self {
            Channel::Clear(_) => None,
            Channel::Covered { stream, .. } => Some(stream),
        }
    }
}
