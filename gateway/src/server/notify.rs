//! [`Manager`]: tells a service manager how things are (sd_notify(3) of systemd).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager, if there is one that wants to know.
#[derive(Debug)]
pub(super) struct Manager {
    address: Option<SocketAddr>,
}

impl Manager {
    /// That of the environment.
    pub(super) fn from_environment() -> Manager {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let address = name.and_then(|name| match address(&name) {
            Ok(address) => Some(address),
            Err(cause) => {
                tracing::warn!("the service manager at {} cannot be told anything: {cause}", name.display());
                None
            }
        });
        Manager { address }
    }

    /// Clients can connect, as `status` says in words.
    pub(super) fn ready(&self, status: &str) {
        // The process that the manager started may be another one, which has ended.
        self.tell(&format!("READY=1\nMAINPID={}\nSTATUS={status}\n", std::process::id()));
    }

    /// The configuration is read again; [`Manager::ready`] follows.
    pub(super) fn reloading(&self) {
        // The manager wants to know what came first: this or a wish of its own.
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let micros =
            now.map_or(0, |now| i128::from(now.tv_sec()) * 1_000_000 + i128::from(now.tv_nsec()) / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration\n"));
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=answering what is in flight, then ending\n");
    }

    fn tell(&self, text: &str) {
        let Some(address) = &self.address else { return };
        let sent = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(text.as_bytes(), address).map(drop));
        if let Err(cause) = sent {
            tracing::warn!("the service manager cannot be told anything: {cause}");
        }
    }
}

/// A path, or `@` and a name in the abstract namespace.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let got = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..got].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_in_the_abstract_namespace_is_told() {
        let name = format!("@gateway-notify-test-{}", std::process::id());
        let there = address(OsStr::new(&name)).unwrap();
        let socket = UnixDatagram::bind_addr(&there).unwrap();
        let manager = Manager { address: Some(there) };
        manager.ready("as nbd://localhost");
        let text = received(&socket);
        assert!(text.starts_with("READY=1\n") && text.contains("\nSTATUS=as nbd://localhost\n"), "{text}");
        assert!(text.contains(&format!("\nMAINPID={}\n", std::process::id())), "{text}");
        manager.reloading();
        let text = received(&socket);
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.lines().next());
        assert!(time.is_some_and(|time| time.parse::<u64>().is_ok_and(|time| time > 0)), "{text}");
        manager.stopping();
        assert!(received(&socket).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn other_kinds_of_addresses_are_refused() {
        assert!(address(OsStr::new("vsock:2:1")).is_err());
        assert!(address(OsStr::new("/run/systemd/notify")).is_ok());
    }
}
