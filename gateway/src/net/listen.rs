//! [`Place`]: one place to listen, with its sockets and what belongs to them in the file system.

mod handed;
mod tcp;
mod unix;
mod vsock;

use std::path::PathBuf;

use drivers::Error;
use socket2::Socket;

use super::activation::Activation;
use super::address::Address;
use unix::{Access, PrivateFolder};

pub(crate) use tcp::tune;
pub(crate) use unix::{PATH_BYTES_MAX as SOCKET_PATH_BYTES_MAX, SocketFile};

/// Connections that may wait to be accepted; the kernel's own limit (`net.core.somaxconn`) is lower.
const BACKLOG: i32 = 65535;

/// The port of the protocol, registered for it.
pub(crate) const DEFAULT_PORT: u16 = 10809;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Listen {
    /// On this port of these hosts (names or addresses); of the loopback addresses if there are none. Port 0 takes a
    /// free one.
    Tcp { hosts: Vec<String>, port: u16 },
    /// On a socket file.
    Unix(PathBuf),
    /// On a socket file in a private folder made for it.
    Private,
    /// On this port for virtual machines and their host. Port 0 takes a free one.
    Vsock { port: u32 },
    /// On the sockets of this name that whoever started the server has opened; on all of them without a name.
    Activated { name: Option<String> },
}

/// A place to listen. Dropping this closes the sockets and removes what was made in the file system.
#[derive(Debug)]
pub(crate) struct Place {
    sockets: Vec<Socket>,
    /// At least one.
    addresses: Vec<Address>,
    /// What the log calls it.
    name: String,
    /// Fields are dropped in order: the file goes before its folder.
    _file: Option<SocketFile>,
    _folder: Option<PrivateFolder>,
}

impl Place {
    /// Whether what `listen` wants of `activation` is there. Takes nothing.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn check(listen: &Listen, activation: &Activation) -> Result<(), Error> {
        match listen {
            Listen::Activated { name } => handed::check(activation, name.as_deref()),
            _ => Ok(()),
        }
    }

    /// Makes the sockets, or takes them from `activation`. They queue connections from now on. `share`: a port may be
    /// taken on which a socket listens whose owner allows it.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub(crate) fn open(listen: &Listen, activation: &mut Activation, share: bool) -> Result<Place, Error> {
        match listen {
            Listen::Tcp { hosts, port } => tcp::open(hosts, *port, share).map(Place::without_file),
            Listen::Vsock { port } => vsock::open(*port).map(Place::without_file),
            Listen::Activated { name } => handed::take(activation, name.as_deref()).map(Place::without_file),
            Listen::Unix(path) => Place::unix(path.clone(), None),
            Listen::Private => {
                let folder = PrivateFolder::new()?;
                Place::unix(folder.path().join("socket"), Some(folder))
            }
        }
    }

    fn without_file(bound: Bound) -> Place {
        let Bound { sockets, addresses, name } = bound;
        Place { sockets, addresses, name, _file: None, _folder: None }
    }

    fn unix(path: PathBuf, folder: Option<PrivateFolder>) -> Result<Place, Error> {
        let (socket, file) = SocketFile::open(&path, Access::AsUsual)?;
        Ok(Place {
            sockets: vec![socket],
            name: format!("socket {}", path.display()),
            addresses: vec![Address::Unix(path)],
            _file: Some(file),
            _folder: folder,
        })
    }

    /// Where clients find it, one for each way; at least one.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The place in words.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The sockets, to accept from; once.
    pub(crate) fn take_sockets(&mut self) -> Vec<Socket> {
        std::mem::take(&mut self.sockets)
    }
}

/// Sockets that leave nothing in the file system.
struct Bound {
    sockets: Vec<Socket>,
    addresses: Vec<Address>,
    name: String,
}
