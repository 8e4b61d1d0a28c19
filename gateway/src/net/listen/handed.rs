//! Sockets that whoever started the server has opened (socket activation).

use drivers::Error;

use super::super::activation::Activation;
use super::super::address::Address;
use super::Bound;

/// Takes the sockets of this name, or all of them.
///
/// # Errors
/// There is none.
pub(super) fn take(activation: &mut Activation, name: Option<&str>) -> Result<Bound, Error> {
    let known = activation.names();
    let taken = activation.take(name);
    if taken.is_empty() {
        let what = name.map_or_else(|| "a socket".into(), |name| format!("a socket called '{name}'"));
        let known = if known.is_empty() { "there is none".into() } else { known.join(", ") };
        return Err(Error::device(format!(
            "cannot listen on {what} of socket activation: none was passed; by name: {known}"
        ))
        .hint("the service manager names sockets with FileDescriptorName="));
    }
    let (mut sockets, mut addresses, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for handed in taken {
        let address = handed.socket.local_addr().ok().and_then(|address| Address::of_listener(&address));
        names.push(match &address {
            Some(address) => format!("{address} (descriptor {}, {})", handed.number, handed.name),
            None => format!("descriptor {} ({})", handed.number, handed.name),
        });
        addresses.extend(address);
        sockets.push(handed.socket);
    }
    if addresses.is_empty() {
        return Err(Error::device(format!("no NBD client can reach {}", names.join(" and ")))
            .hint("TCP, Unix and vsock sockets can be served"));
    }
    Ok(Bound { sockets, addresses, name: names.join(" and ") })
}
