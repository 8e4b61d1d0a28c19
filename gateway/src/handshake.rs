//! The handshake of one client: I/O around [`nbd::server::Handshake`], on the worker's runtime.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nbd::Transmission;
use nbd::server::{Handshake, Policy, State};
use tokio_uring::net::UnixStream;

use crate::exports::ExportTable;
use crate::net::stream::Stream;
use crate::worker::mailbox::{Mailbox, Message};

/// How long a client may take for the whole handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes received at a time.
const RECEIVE_BYTES: usize = 4 << 10;

/// Handshakes under way on this worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Rc<Cell<usize>>);

impl Counter {
    pub(crate) fn is_zero(&self) -> bool {
        self.0.get() == 0
    }

    fn enter(&self) -> Entered {
        self.0.set(self.0.get() + 1);
        Entered(self.clone())
    }
}

struct Entered(Counter);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

/// Starts the handshake on a fresh connection. When it succeeds the worker gets the session by its mailbox.
pub(crate) fn spawn(socket: OwnedFd, exports: Arc<ExportTable>, mailbox: Arc<Mailbox>, counter: &Counter) {
    let entered = counter.enter();
    tokio_uring::spawn(async move {
        let client = match socket.try_clone() {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!("cannot serve a client: {error}");
                return;
            }
        };
        // The runtime's stream only reads and writes; which family the socket is of does not matter to it.
        let stream = UnixStream::from_std(socket.into());
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, haggle(&stream, &exports)).await {
            Ok(Ok(Some((transmission, received)))) => {
                drop(stream);
                let stream = Stream::new(client);
                mailbox.post(Message::Session { stream, transmission, received });
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::info!("a client left in the handshake: {error}"),
            Err(_) => {
                tracing::warn!("a client took more than {} s for the handshake", HANDSHAKE_TIMEOUT.as_secs());
                // Ends the receive that is still under way in the kernel.
                Stream::new(client).shutdown();
            }
        }
        drop(entered);
        mailbox.wake().ring();
    });
}

/// Talks until an export is open. `None`: the client changed its mind, or was sent away.
async fn haggle(
    stream: &UnixStream,
    exports: &ExportTable,
) -> io::Result<Option<(Box<Transmission>, Vec<u8>)>> {
    let mut handshake = Handshake::new(Policy::default());
    let mut out = handshake.greeting().to_vec();
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut state = State::NeedMore;
    let mut received = Vec::new();
    loop {
        if !out.is_empty() {
            let (result, _) = stream.write_all(std::mem::take(&mut out)).await;
            result?;
        }
        match state {
            State::Transmission(transmission) => return Ok(Some((transmission, received))),
            State::Close(reason) => {
                tracing::debug!("handshake ended: {reason}");
                return Ok(None);
            }
            State::StartTls => return Ok(None),
            State::NeedMore => {}
        }
        let (result, returned) = stream.read(buffer).await;
        buffer = returned;
        let got = result?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let advance = handshake.advance(&buffer[..got], exports, &mut out);
        received = buffer[advance.consumed..got].to_vec();
        state = advance.state;
    }
}
