//! Sockets that whoever started the server has opened (socket activation).

use drivers::Error;

use super::super::activation::{Activation, Handed};
use super::super::address::Address;
use super::Bound;

/// Whether there are sockets of this name, or any, that clients can reach.
///
/// # Errors
/// There is none.
pub(super) fn check(activation: &Activation, name: Option<&str>) -> Result<(), Error> {
    let known = activation.names();
    let mut wanted = activation.look(name).peekable();
    if wanted.peek().is_none() {
        let what = name.map_or_else(|| "a socket".into(), |name| format!("a socket called '{name}'"));
        let known = if known.is_empty() { "there is none".into() } else { known.join(", ") };
        return Err(Error::device(format!(
            "cannot listen on {what} of socket activation: none was passed; by name: {known}"
        ))
        .hint("the service manager names sockets with FileDescriptorName="));
    }
    let mut names = Vec::new();
    for handed in wanted {
        if address_of(handed).is_some() {
            return Ok(());
        }
        names.push(name_of(handed, None));
    }
    Err(Error::device(format!("no NBD client can reach {}", names.join(" and ")))
        .hint("TCP, Unix and vsock sockets can be served"))
}

/// Takes the sockets of this name, or all of them.
///
/// # Errors
/// As [`check`].
pub(super) fn take(activation: &mut Activation, name: Option<&str>) -> Result<Bound, Error> {
    check(activation, name)?;
    let (mut sockets, mut addresses, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for handed in activation.take(name) {
        let address = address_of(&handed);
        names.push(name_of(&handed, address.as_ref()));
        addresses.extend(address);
        sockets.push(handed.socket);
    }
    Ok(Bound { sockets, addresses, name: names.join(" and ") })
}

fn address_of(handed: &Handed) -> Option<Address> {
    Address::of_listener(&handed.socket.local_addr().ok()?)
}

fn name_of(handed: &Handed, address: Option<&Address>) -> String {
    match address {
        Some(address) => format!("{address} (descriptor {}, {})", handed.number, handed.name),
        None => format!("descriptor {} ({})", handed.number, handed.name),
    }
}
