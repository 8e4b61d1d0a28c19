//! AF_VSOCK: between virtual machines and their host (vsock(7)).

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::ops::RangeInclusive;

use drivers::Error;
use socket2::{Domain, SockAddr, Socket, Type};

use super::super::address::Address;
use super::{BACKLOG, Bound};

/// Free ports are looked for among these, which nobody has registered for TCP (RFC 6335). The kernel would give one of
/// ten digits, and libnbd takes no URI with such a one.
const FREE_PORTS: RangeInclusive<u32> = 49152..=65535;

/// How many of them are tried.
const FREE_PORT_TRIES: u32 = 256;

/// Listens on `port` for every context; 0 takes a free port.
///
/// # Errors
/// The kernel has no such sockets, or the port is taken or forbidden.
pub(super) fn open(port: u32) -> Result<Bound, Error> {
    let bound = if port == 0 { bind_free() } else { bind(port).map(|socket| (socket, port)) };
    let (socket, port) = bound.map_err(|cause| refused(port, &cause))?;
    Ok(Bound {
        sockets: vec![socket],
        // As TCP says localhost: what works from this machine. Others say its context id.
        addresses: vec![Address::Vsock { cid: libc::VMADDR_CID_LOCAL, port }],
        name: format!("vsock port {port}"),
    })
}

fn bind(port: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
    socket.bind(&SockAddr::vsock(libc::VMADDR_CID_ANY, port))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind_free() -> io::Result<(Socket, u32)> {
    let ports = FREE_PORTS.end() - FREE_PORTS.start() + 1;
    // Somewhere, so that servers that start together are not in each other's way.
    let first = u32::try_from(RandomState::new().hash_one(()) % u64::from(ports)).unwrap_or(0);
    let mut last = io::Error::from_raw_os_error(libc::EADDRINUSE);
    for step in 0..FREE_PORT_TRIES {
        let port = FREE_PORTS.start() + (first + step) % ports;
        match bind(port) {
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => last = cause,
            result => return result.map(|socket| (socket, port)),
        }
    }
    Err(last)
}

fn refused(port: u32, cause: &io::Error) -> Error {
    let error = Error::system(format!("listen on vsock port {port}"), cause);
    match cause.raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::ESOCKTNOSUPPORT | libc::ENODEV) => error.hint(
            "this kernel has no vsock: load the module vsock (and vhost_vsock on a host, \
             vmw_vsock_virtio_transport in a guest)",
        ),
        Some(libc::EADDRINUSE) => {
            error.hint("another program listens there; choose another port, or 0 for a free one")
        }
        Some(libc::EACCES) => error.hint("ports below 1024 are for privileged programs; choose another"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_vsock_is_told_from_a_port_that_is_taken() {
        let text = |code| refused(7, &io::Error::from_raw_os_error(code)).to_string();
        assert!(text(libc::EAFNOSUPPORT).contains("load the module vsock"));
        assert!(text(libc::EADDRINUSE).contains("vsock port 7") && text(libc::EADDRINUSE).contains("0 for"));
    }

    #[test]
    fn port_0_becomes_a_free_port() {
        // A kernel may do without.
        let Ok(bound) = open(0) else { return };
        let Address::Vsock { cid: 1, port } = bound.addresses[0] else { panic!("{:?}", bound.addresses) };
        assert!(FREE_PORTS.contains(&port), "{port}");
        assert!(open(port).is_err_and(|error| error.to_string().contains("another program")));
    }
}
