//! [`Single`]: a server for one client that is connected already, on a socket that was passed.

use socket2::Socket;

use super::accept;

/// The only client.
#[derive(Debug)]
pub(super) struct Single {
    socket: Option<Socket>,
}

impl Single {
    /// A connection.
    pub(super) fn connected(socket: Socket) -> Single {
        if let Ok(address) = socket.peer_addr() {
            accept::prepare(&socket, &address);
        }
        Single { socket: Some(socket) }
    }

    /// The connection; once.
    pub(super) fn take_socket(&mut self) -> Option<Socket> {
        self.socket.take()
    }
}
