//! `[[listen]]`: one place to listen on.

use std::net::{IpAddr, Ipv6Addr};

use super::section::{At, Section};
use crate::net::listen::{DEFAULT_PORT, Listen, SOCKET_PATH_BYTES_MAX};

/// Whether clients that come here may have an IP address.
pub(super) fn has_addresses(place: &Listen) -> bool {
    matches!(place, Listen::Tcp { .. } | Listen::Activated { .. })
}

/// Whether clients that come here may have a user and a group.
pub(super) fn has_users(place: &Listen) -> bool {
    !matches!(place, Listen::Tcp { .. } | Listen::Vsock { .. })
}

/// The keys of which each section has one.
const KINDS: [&str; 4] = ["tcp", "unix", "vsock", "activation"];

/// Largest port of AF_VSOCK; the one above it stands for any (vsock(7)).
const VSOCK_PORT_MAX: i64 = u32::MAX as i64 - 1;

/// Longest name of a passed socket (systemd.socket(5), `FileDescriptorName=`).
const ACTIVATION_NAME_BYTES_MAX: usize = 255;

pub(super) fn read(mut section: Section<'_>) -> Option<At<Listen>> {
    let port = section.number("port", 0, u16::MAX.into()).map(|port| port.value);
    let tcp = tcp(&mut section, port);
    let unix = unix(&mut section);
    let vsock = section.number("vsock", 0, VSOCK_PORT_MAX).and_then(|port| u32::try_from(port.value).ok());
    let vsock = vsock.map(|port| Listen::Vsock { port });
    let activation = activation(&mut section);
    check_keys(&section);
    let at = section.at();
    section.finish();
    tcp.or(unix).or(vsock).or(activation).map(|place| At { at, value: place })
}

/// Exactly one place, and a port only where one belongs.
fn check_keys(section: &Section<'_>) {
    let mistakes = section.context.mistakes;
    let mut given: Vec<(usize, &str)> =
        KINDS.into_iter().filter_map(|key| section.key(key).map(|at| (at, key))).collect();
    given.sort_unstable();
    let Some(((_, first), more)) = given.split_first() else {
        let hint = format!("give it one of the keys {}", KINDS.join(", "));
        mistakes.add_with_hint(section.at(), "[[listen]] does not say where", hint);
        return;
    };
    for (at, key) in more {
        let text = format!("[[listen]] has '{key}' besides '{first}'");
        mistakes.add_with_hint(*at, text, "write one [[listen]] for each place");
    }
    if let Some(at) = section.key("port").filter(|_| section.key("tcp").is_none()) {
        mistakes.add_with_hint(at, "key 'port' is for TCP only", "put it beside the key 'tcp'");
    }
}

fn tcp(section: &mut Section<'_>, port: Option<i64>) -> Option<Listen> {
    let host = section.text("tcp")?;
    match check_host(&host.value) {
        Ok(host) => {
            let port = port.map_or(Some(DEFAULT_PORT), |port| u16::try_from(port).ok())?;
            Some(Listen::Tcp { hosts: vec![host], port })
        }
        Err((reason, hint)) => {
            let text = format!("key 'tcp' cannot be '{}': {reason}", host.value);
            section.context.mistakes.add_with_hint(host.at, text, hint);
            None
        }
    }
}

fn activation(section: &mut Section<'_>) -> Option<Listen> {
    let At { at, value: name } = section.text("activation")?;
    if is_socket_name(&name) {
        return Some(Listen::Activated { name: Some(name) });
    }
    let text = format!("key 'activation' cannot be '{name}': it is no name of a socket");
    section.context.mistakes.add_with_hint(at, text, "it is what FileDescriptorName= of the unit says");
    None
}

fn unix(section: &mut Section<'_>) -> Option<Listen> {
    let path = section.path("unix")?;
    if section.text("unix").is_some_and(|text| text.value == "-") {
        return Some(Listen::Private);
    }
    let bytes = path.value.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let shown = path.value.display();
        let text = format!(
            "key 'unix' cannot be '{shown}': the path has {bytes} bytes, and at most {SOCKET_PATH_BYTES_MAX} are \
             possible"
        );
        section.context.mistakes.add_with_hint(path.at, text, "choose a shorter path");
        return None;
    }
    Some(Listen::Unix(path.value))
}

/// A name that systemd may give to a socket.
fn is_socket_name(name: &str) -> bool {
    let fine = |byte: u8| matches!(byte, b' '..=b'~') && byte != b':';
    !name.is_empty() && name.len() <= ACTIVATION_NAME_BYTES_MAX && name.bytes().all(fine)
}

/// The host without the brackets that an IPv6 address may have, or why it cannot be one and what to do.
pub(super) fn check_host(text: &str) -> Result<String, (&'static str, &'static str)> {
    let host = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    if host.parse::<IpAddr>().is_ok() || (zone.is_some() && address.parse::<Ipv6Addr>().is_ok()) {
        return Ok(host.to_owned());
    }
    if host.is_empty() {
        return Err(("it is empty", "0.0.0.0 and :: are all addresses"));
    }
    if host.contains(':') {
        return Err(("it is no address of IPv6", "the port is a key of its own: port = 10809"));
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(("it is no address of IPv4", "an address has four numbers from 0 to 255"));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if host.len() > 253 || !host.strip_suffix('.').unwrap_or(host).split('.').all(label) {
        return Err((
            "it is neither an address nor the name of a host",
            "for example 127.0.0.1 or localhost",
        ));
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names() {
        for host in ["0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "a.example.org", "host_1.", "1a.2"]
        {
            assert_eq!(check_host(host), Ok(host.to_owned()), "{host}");
        }
        assert_eq!(check_host("[::1]"), Ok("::1".into()));
        let long = "x".repeat(64);
        for host in
            ["", "[]", "1.2.3", "10.0.0.256", "a b", "a:1", "::1:x", "a..b", ".", "é.org", "a/8", &long]
        {
            assert!(check_host(host).is_err(), "{host}");
        }
    }

    #[test]
    fn names_of_sockets_are_those_of_systemd() {
        assert!(is_socket_name("nbd") && is_socket_name("a.socket"));
        for name in ["", "a:b", "a\nb", "é", &"x".repeat(256)] {
            assert!(!is_socket_name(name), "{name}");
        }
    }
}
