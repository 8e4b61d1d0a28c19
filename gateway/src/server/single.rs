//! [`Single`]: a server for one client that is connected already, on standard input and output or on a socket that was
//! passed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use drivers::Error;
use socket2::Socket;

use super::accept;
use crate::net::relay::Relay;
use crate::sys;

/// How long the client may take for what it has been sent, once the server has nothing more to do.
const DELIVERY: Duration = Duration::from_secs(10);

/// The only client.
#[derive(Debug)]
pub(super) struct Single {
    socket: Option<Socket>,
    /// Its bytes come and go by two descriptors.
    relay: Option<Relay>,
}

impl Single {
    /// A connection.
    pub(super) fn connected(socket: Socket) -> Single {
        if let Ok(address) = socket.peer_addr() {
            accept::prepare(&socket, &address);
        }
        Single { socket: Some(socket), relay: None }
    }

    /// The client at the other end of standard input and output. Nobody else can use these from now on.
    ///
    /// # Errors
    /// Nobody can be there.
    pub(super) fn on_standard_streams() -> Result<Single, Error> {
        let failed = |cause: io::Error| Error::system("take over standard input and output", &cause);
        let input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
        let is_one_socket = check(&input, "input")? & check(&output, "output")? && same(&input, &output);
        sys::empty_standard_streams(false).map_err(failed)?;
        if is_one_socket {
            return Ok(Single::connected(Socket::from(OwnedFd::from(input))));
        }
        let (socket, relay) = Relay::start(input.into(), output.into()).map_err(failed)?;
        Ok(Single { socket: Some(Socket::from(socket)), relay: Some(relay) })
    }

    /// The connection; once.
    pub(super) fn take_socket(&mut self) -> Option<Socket> {
        self.socket.take()
    }

    /// Waits until the client has been sent everything, unless it does not take it.
    pub(super) async fn delivered(self) {
        if let Some(relay) = self.relay
            && tokio::time::timeout(DELIVERY, relay.delivered()).await.is_err()
        {
            tracing::warn!("the client does not take what it is sent; ending without that");
        }
    }
}

/// Whether it is a socket. Something where no client can be is refused.
fn check(file: &File, which: &str) -> Result<bool, Error> {
    let kind = file
        .metadata()
        .map_err(|cause| Error::system(format!("find out what standard {which} is"), &cause))?
        .file_type();
    if kind.is_socket() || kind.is_fifo() {
        return Ok(kind.is_socket());
    }
    Err(Error::device(format!(
        "cannot serve a client on standard {which}: it is neither a socket nor a pipe"
    ))
    .hint("option -s is for programs that start the server as their own, such as nbdsh with connect_command"))
}

fn same(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().map(|facts| (facts.dev(), facts.ino())).ok();
    identity(one).is_some_and(|one| Some(one) == identity(other))
}
