//! TCP: which addresses, and one port for all of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use drivers::Error;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::super::address::Address;
use super::{BACKLOG, Bound};

/// How often a free port is asked for when the one given is taken on another address.
const FREE_PORT_TRIES: usize = 16;

/// A connection on which nothing came for so long is asked whether it still exists.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// How long to wait for an answer before the question is repeated.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Questions without an answer that end the connection.
const KEEPALIVE_RETRIES: u32 = 4;

/// Listens on `port` of every address of every host. `share`: also where a socket listens whose owner allows it.
///
/// # Errors
/// A host has no address, or an address is not this machine's, or the port is taken or forbidden.
pub(super) fn open(hosts: &[String], port: u16, share: bool) -> Result<Bound, Error> {
    let addresses = if hosts.is_empty() {
        vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
    } else {
        resolve(hosts)?
    };
    let sockets = bind_all(&addresses, port, share)?;
    let taken: Vec<SocketAddr> = sockets.iter().filter_map(local_address).collect();
    let Some(port) = taken.first().map(SocketAddr::port) else {
        return Err(Error::device("the system does not tell which port it gave"));
    };
    let host = match hosts {
        // Both loopback addresses, or all addresses: the name that works from this machine.
        [] => "localhost".to_owned(),
        [host, ..] if host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) => {
            "localhost".to_owned()
        }
        [host, ..] => host.clone(),
    };
    let name = taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    Ok(Bound { sockets, addresses: vec![Address::Tcp { host, port }], name: format!("TCP {name}") })
}

/// The addresses of all hosts, each once.
fn resolve(hosts: &[String]) -> Result<Vec<IpAddr>, Error> {
    let mut addresses = Vec::new();
    for host in hosts {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let found = (name, 0).to_socket_addrs().map_err(|cause| {
            Error::device(format!("cannot listen on host '{host}': it has no address: {cause}"))
                .hint("give an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them")
        })?;
        for address in found {
            if !addresses.contains(&address.ip()) {
                addresses.push(address.ip());
            }
        }
    }
    Ok(addresses)
}

/// One socket for each address, all on the same port.
fn bind_all(addresses: &[IpAddr], port: u16, share: bool) -> Result<Vec<Socket>, Error> {
    let mut tries = if port == 0 { FREE_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_port(addresses, port, share) {
            Err((_, cause)) if tries > 0 && cause.kind() == io::ErrorKind::AddrInUse => {}
            Err((address, cause)) => return Err(refused(address, &cause)),
            Ok(sockets) => return Ok(sockets),
        }
    }
}

/// As [`bind_all`], one try. The first address decides which port 0 stands for.
fn bind_port(
    addresses: &[IpAddr],
    mut port: u16,
    share: bool,
) -> Result<Vec<Socket>, (SocketAddr, io::Error)> {
    let mut sockets = Vec::new();
    let mut missing = None;
    for &address in addresses {
        let address = SocketAddr::new(address, port);
        match bind(address, share) {
            Ok(socket) => {
                port = local_address(&socket).map_or(port, |address| address.port());
                sockets.push(socket);
            }
            // A name, or the loopback, may have an address of a family that this machine does without.
            Err(cause) if addresses.len() > 1 && is_missing(&cause) => missing = Some((address, cause)),
            Err(cause) => return Err((address, cause)),
        }
    }
    match missing {
        Some(missing) if sockets.is_empty() => Err(missing),
        _ => Ok(sockets),
    }
}

fn bind(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A port whose former connections linger may be taken again at once; one that is listened on may not.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Each family has a socket of its own, whatever the system's default.
        socket.set_only_v6(true)?;
    }
    match socket.bind(&address.into()) {
        Err(cause) if share && cause.kind() == io::ErrorKind::AddrInUse => {
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
        }
        result => result?,
    }
    // Looks once more whether the port is free.
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(false)?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

fn is_missing(cause: &io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

fn refused(address: SocketAddr, cause: &io::Error) -> Error {
    let port = address.port();
    let error = Error::system(format!("listen on TCP address {address}"), cause);
    match cause.raw_os_error() {
        Some(libc::EADDRINUSE) if port == 0 => error.hint("no port is free; choose one with -p"),
        Some(libc::EADDRINUSE) => {
            error.hint("another program listens there; choose another port with -p, or -p 0 for a free one")
        }
        Some(libc::EACCES) => {
            error.hint("ports below 1024 are for privileged programs; choose another with -p")
        }
        Some(libc::EADDRNOTAVAIL) => error.hint("it is no address of this machine; 'ip address' lists them"),
        _ => error,
    }
}

/// Prepares an accepted connection: replies leave at once, and a client whose machine is gone is noticed.
///
/// # Errors
/// What the system answered; the connection can be used nevertheless.
pub(crate) fn tune(socket: &Socket) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(hosts: &[&str], port: u16) -> String {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        match open(&hosts, port, false) {
            Ok(bound) => panic!("it listens on {}", bound.name),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn port_0_becomes_the_same_port_on_all_addresses() {
        let bound = open(&[], 0, false).unwrap();
        let ports: Vec<u16> = bound.sockets.iter().map(|s| local_address(s).unwrap().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
        assert_eq!(bound.addresses[0], Address::Tcp { host: "localhost".into(), port: ports[0] });
        assert!(bound.name.contains(&format!("127.0.0.1:{}", ports[0])), "{}", bound.name);
    }

    #[test]
    fn an_address_given_twice_is_taken_once() {
        let bound = open(&["127.0.0.1".into(), "127.0.0.1".into()], 0, false).unwrap();
        assert_eq!(bound.sockets.len(), 1);
        assert!(bound.addresses[0].uri("", &crate::tls::Settings::OFF).starts_with("nbd://127.0.0.1:"));
    }

    #[test]
    fn a_port_that_is_listened_on_is_refused_with_a_way_out() {
        let other = open(&["127.0.0.1".into()], 0, false).unwrap();
        let port = local_address(&other.sockets[0]).unwrap().port();
        let text = message(&["127.0.0.1"], port);
        assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("-p 0"), "{text}");
    }

    #[test]
    fn a_port_of_ours_may_be_taken_for_other_addresses() {
        let ours = open(&["127.0.0.1".into()], 0, false).unwrap();
        let port = local_address(&ours.sockets[0]).unwrap().port();
        let all = ["0.0.0.0".to_owned()];
        assert!(open(&all, port, true).is_err(), "its owner does not allow it");
        ours.sockets[0].set_reuse_port(true).unwrap();
        assert!(open(&all, port, false).is_err(), "it is not wanted");
        let bound = open(&all, port, true).unwrap();
        drop(ours);
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        bound.sockets[0].accept().unwrap();
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        // 192.0.2.0/24 is for documentation (RFC 5737).
        let text = message(&["192.0.2.1"], 0);
        assert!(text.contains("192.0.2.1") && text.contains("no address of this machine"), "{text}");
    }

    #[test]
    fn all_addresses_are_called_localhost_in_the_uri() {
        let bound = open(&["0.0.0.0".into()], 0, false).unwrap();
        assert!(bound.addresses[0].uri("", &crate::tls::Settings::OFF).starts_with("nbd://localhost:"));
    }
}
