//! Who is at the other end of a connection, for the log.

use std::os::fd::AsFd;

use socket2::SockRef;

use crate::rules::Client;
use crate::sys;

/// The other end in words: an address and a port, or a process and a user. Asked for when there is something to say,
/// so that a connection that nothing is said of keeps nothing for it.
pub(crate) fn name(socket: &impl AsFd) -> String {
    let address = SockRef::from(socket).peer_addr().ok();
    if let Some(address) = address.as_ref().and_then(socket2::SockAddr::as_socket) {
        return address.to_string();
    }
    if let Some((cid, port)) = address.as_ref().and_then(socket2::SockAddr::as_vsock_address) {
        return format!("vsock context {cid}, port {port}");
    }
    if address.is_some_and(|address| address.is_unix())
        && let Some(peer) = sys::peer_credentials(socket.as_fd())
    {
        return format!("process {} of user {}", peer.pid, peer.uid);
    }
    // A TCP connection that the client has reset has no address any more.
    "a client that is gone".into()
}

/// What is known about the other end without asking it.
pub(crate) fn client(socket: &impl AsFd) -> Client {
    let address = SockRef::from(socket).peer_addr().ok();
    let credentials = address
        .as_ref()
        .filter(|address| address.is_unix())
        .and_then(|_| sys::peer_credentials(socket.as_fd()));
    Client {
        uid: credentials.map(|credentials| credentials.uid),
        gid: credentials.map(|credentials| credentials.gid),
        address: address.and_then(|address| address.as_socket()).map(|address| address.ip()),
        ..Client::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_tcp_client_is_named_by_its_address() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(name(&server), client.local_addr().unwrap().to_string());
    }

    #[test]
    fn a_local_client_is_named_by_its_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(name(&one).starts_with(&format!("process {} of user ", std::process::id())));
    }
}
