//! [`Relay`]: a client whose requests come from one descriptor and whose replies go to another, such as a pair of
//! pipes, as one socket.
//!
//! Two threads move the bytes, with calls that wait. Whether a pipe blocks is a property that all its users share, so
//! making one that a shell gave us non-blocking would change it for the shell too, and for good if the server is
//! killed.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;

/// Bytes moved at a time: what a pipe holds.
const PIECE_BYTES: usize = 64 << 10;

/// The threads between a pair of descriptors and a socket.
#[derive(Debug)]
pub(crate) struct Relay {
    delivered: oneshot::Receiver<()>,
}

impl Relay {
    /// Starts moving bytes. The socket is what the server talks to.
    ///
    /// # Errors
    /// No descriptors or threads left.
    pub(crate) fn start(input: OwnedFd, output: OwnedFd) -> io::Result<(OwnedFd, Relay)> {
        let (server, client) = UnixStream::pair()?;
        let client = Arc::new(client);
        let (report, delivered) = oneshot::channel();
        let to_server = client.clone();
        thread::Builder::new().name("relay-in".into()).spawn(move || {
            copy("standard input", &mut File::from(input), &mut &*to_server);
            // Nothing more comes; what the server still says may go out.
            let _ = to_server.shutdown(Shutdown::Write);
        })?;
        thread::Builder::new().name("relay-out".into()).spawn(move || {
            copy("standard output", &mut &*client, &mut File::from(output));
            // Nobody takes more, so nobody need be listened to. The other thread may wait for a client that stays.
            let _ = client.shutdown(Shutdown::Both);
            // The server may be gone without waiting.
            let _ = report.send(());
        })?;
        Ok((server.into(), Relay { delivered }))
    }

    /// Waits until everything that the server has sent is written.
    pub(crate) async fn delivered(self) {
        // A thread that panicked delivers nothing more.
        let _ = self.delivered.await;
    }
}

/// Copies until the end, or until one side is gone.
fn copy(what: &str, from: &mut (impl io::Read + AsFd), to: &mut (impl io::Write + AsFd)) {
    let mut bytes = vec![0; PIECE_BYTES];
    if let Err(cause) = copy_with(&mut bytes, from, to) {
        tracing::debug!("{what}: {cause}");
    }
}

/// Not [`io::copy`]: it would splice(2) from the socket to a pipe, and while that waits for the socket the pipe is
/// locked, so that the client could not even close its end.
///
/// Whoever made the pipe may have made it one that does not block.
fn copy_with(
    bytes: &mut [u8],
    from: &mut (impl io::Read + AsFd),
    to: &mut (impl io::Write + AsFd),
) -> io::Result<()> {
    loop {
        match from.read(bytes) {
            Ok(0) => return Ok(()),
            Ok(got) => write_all(to, &bytes[..got])?,
            Err(cause) => wait_or_fail(from.as_fd(), PollFlags::POLLIN, cause)?,
        }
    }
}

fn write_all(to: &mut (impl io::Write + AsFd), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(cause) => wait_or_fail(to.as_fd(), PollFlags::POLLOUT, cause)?,
        }
    }
    Ok(())
}

/// Waits until another try is worth it, if there may be one.
fn wait_or_fail(fd: BorrowedFd<'_>, until: PollFlags, cause: io::Error) -> io::Result<()> {
    match cause.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => match poll(&mut [PollFd::new(fd, until)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
        _ => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn bytes_go_through_in_both_directions_until_the_end() {
        let (input, mut requests) = io::pipe().unwrap();
        let (mut replies, output) = io::pipe().unwrap();
        let (server, relay) = Relay::start(input.into(), output.into()).unwrap();
        let mut server = UnixStream::from(server);
        requests.write_all(b"ask").unwrap();
        let mut asked = [0; 3];
        server.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"ask");
        let answer = vec![7; 1 << 20];
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            replies.read_to_end(&mut bytes).unwrap();
            bytes
        });
        server.write_all(&answer).unwrap();
        drop(requests);
        assert_eq!(server.read(&mut asked).unwrap(), 0, "the client's end is seen");
        drop(server);
        assert!(reader.join().unwrap() == answer);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(relay.delivered());
    }

    #[test]
    fn a_client_that_takes_nothing_more_ends_the_connection() {
        let (input, _requests) = io::pipe().unwrap();
        let (replies, output) = io::pipe().unwrap();
        let (server, _relay) = Relay::start(input.into(), output.into()).unwrap();
        let mut server = UnixStream::from(server);
        drop(replies);
        server.write_all(b"x").unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    }
}
