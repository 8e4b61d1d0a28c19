//! The handshake of TLS: on the worker's runtime, which goes on with other things while the client thinks.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, Ssl, SslRef};
use socket2::{Domain, SockRef};

use super::context::Context;
use super::identity::PeerIdentity;
use super::{TlsStream, kernel, raw, reason};
use crate::net::peer;
use crate::net::stream::{Cover, Stream};
use crate::sys::Readiness;

/// Why there is no encrypted connection, as the end of a sentence about the client.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// The client left when it had seen who we are.
    pub(crate) fn distrusted() -> Failure {
        Failure(reason::LEFT.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure(error.to_string())
    }
}

impl From<ErrorStack> for Failure {
    fn from(stack: ErrorStack) -> Failure {
        Failure(super::certificates::first_reason(&stack))
    }
}

/// An encrypted connection, and who is at its other end.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) stream: Stream,
    pub(crate) identity: PeerIdentity,
}

/// Does the handshake on a connected socket, on which nobody else receives or sends.
///
/// # Errors
/// Why there is no encryption.
pub(crate) async fn accept(
    socket: OwnedFd,
    readiness: &Readiness<'_>,
    context: &Context,
) -> Result<Secured, Failure> {
    // OpenSSL receives and sends by itself, and must not wait.
    SockRef::from(&socket).set_nonblocking(true)?;
    let mut ssl = context.connection()?;
    ssl.set_accept_state();
    let domain = SockRef::from(&socket).domain().ok();
    let is_tcp = matches!(domain, Some(Domain::IPV4 | Domain::IPV6));
    if is_tcp && kernel::is_available() {
        raw::allow_kernel(&mut ssl);
    }
    raw::attach_socket(&mut ssl, socket.as_fd())?;
    while !advance(&mut ssl, readiness).await? {}
    let identity = PeerIdentity::of(&ssl);
    let how = describe(&ssl);
    let (cover, by) = match raw::kernel_directions(&ssl) {
        (true, true) => (Cover::Kernel, "by the kernel"),
        (false, false) => (Cover::Here(Box::new(TlsStream::new(ssl)?)), "in process"),
        _ => {
            kernel::give_up();
            return Err(Failure("the kernel took only one direction over; from now on it gets none".into()));
        }
    };
    let stream = Stream::covered(socket, cover);
    let client = peer::name(&stream);
    tracing::debug!(client, user = identity.name(), "TLS with {client} is {how} {by}, by {identity}");
    Ok(Secured { stream, identity })
}

/// Goes on as far as the socket allows, then waits for it. Returns whether the handshake is done.
async fn advance(ssl: &mut Ssl, readiness: &Readiness<'_>) -> Result<bool, Failure> {
    match raw::handshake(ssl) {
        Ok(()) => return Ok(true),
        Err(ErrorCode::WANT_READ) => readiness.readable().await?,
        Err(ErrorCode::WANT_WRITE) => readiness.writable().await?,
        Err(_) => {
            let reason = reason::of(&ErrorStack::get(), ssl);
            return Err(Failure(reason.unwrap_or_else(|| reason::LEFT.into())));
        }
    }
    Ok(false)
}

fn describe(ssl: &SslRef) -> String {
    let cipher = ssl.current_cipher().map_or("no cipher", |cipher| cipher.name());
    format!("{} with {cipher}", ssl.version_str())
}
