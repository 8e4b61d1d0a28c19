//! Where to listen, by options, a configuration file and what was passed.

use std::path::PathBuf;

use drivers::Error;

use super::args::Places;
use crate::net::activation::Activation;
use crate::net::listen::{DEFAULT_PORT, Listen};

/// What whoever started the server has passed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    /// Anything.
    pub(super) any: bool,
    /// A client that is connected already.
    pub(super) client: bool,
}

impl Passed {
    pub(super) fn of(activation: &Activation) -> Passed {
        Passed { any: !activation.is_empty(), client: activation.has_client() }
    }
}

/// Where to listen. `run`: for a captive command; `of_file`: as a file says, if there is one that says so.
///
/// Unix sockets and vsock add up, and TCP to them if it is asked for: by `-i`, or by `-p` unless vsock takes that port.
/// Without any of these it is as the file says; or else TCP, or a private socket for a captive command. A client or
/// sockets that were passed, or a client on the standard streams, exclude all options.
pub(super) fn listen(
    places: &Places,
    run: bool,
    passed: Passed,
    of_file: Vec<Listen>,
) -> Result<Vec<Listen>, Error> {
    if passed.any {
        return activated(places, run, passed, of_file);
    }
    if places.single {
        return Ok(Vec::new());
    }
    let port = places.port.unwrap_or(DEFAULT_PORT);
    let mut all = unix_sockets(&places.unix)?;
    let takes_port = match places.vsock {
        None => false,
        Some(own) => {
            all.push(Listen::Vsock { port: own.unwrap_or(port.into()) });
            own.is_none()
        }
    };
    if !places.ipaddr.is_empty() || (places.port.is_some() && !takes_port) {
        all.push(Listen::Tcp { hosts: places.ipaddr.clone(), port });
    }
    Ok(match (all.is_empty(), of_file.is_empty()) {
        (false, _) => all,
        (true, false) => of_file,
        (true, true) if run => vec![Listen::Private],
        (true, true) => vec![Listen::Tcp { hosts: Vec::new(), port }],
    })
}

fn unix_sockets(paths: &[PathBuf]) -> Result<Vec<Listen>, Error> {
    let mut all = Vec::new();
    for path in paths {
        let listen = match path.as_os_str() == "-" {
            true => Listen::Private,
            false => Listen::Unix(path.clone()),
        };
        if listen != Listen::Private && all.contains(&listen) {
            return Err(
                Error::usage(format!("socket '{}' is given twice", path.display())).hint("give it once")
            );
        }
        all.push(listen);
    }
    Ok(all)
}

/// The same with sockets that were passed.
fn activated(places: &Places, run: bool, passed: Passed, of_file: Vec<Listen>) -> Result<Vec<Listen>, Error> {
    let given = [
        ("-p", places.port.is_some()),
        ("-i", !places.ipaddr.is_empty()),
        ("-U", !places.unix.is_empty()),
        ("--vsock", places.vsock.is_some()),
        ("-s", places.single),
        ("--run", run && passed.client),
    ];
    if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Error::usage(format!(
            "option {option} says where clients are, and so does socket activation (LISTEN_FDS is set)"
        ))
        .hint("leave one of them out"));
    }
    Ok(match (passed.client, of_file.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec![Listen::Activated { name: None }],
        (false, false) => of_file,
    })
}
