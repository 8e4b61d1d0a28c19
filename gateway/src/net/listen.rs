//! [`Listeners`]: the sockets this server listens on, and what belongs to them in the file system.

mod tcp;
mod unix;

use std::path::PathBuf;

use drivers::Error;
use socket2::Socket;

use super::address::Address;
use unix::{PrivateFolder, SocketFile};

pub(crate) use tcp::tune;
pub(crate) use unix::PATH_BYTES_MAX as SOCKET_PATH_BYTES_MAX;

/// Connections that may wait to be accepted; the kernel's own limit (`net.core.somaxconn`) is lower.
const BACKLOG: i32 = 65535;

/// The port of the protocol, registered for it.
pub(crate) const DEFAULT_PORT: u16 = 10809;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// On this port of these hosts (names or addresses); of the loopback addresses if there are none. Port 0 takes a
    /// free one.
    Tcp { hosts: Vec<String>, port: u16 },
    /// On a socket file.
    Unix(PathBuf),
    /// On a socket file in a private folder made for it.
    Private,
}

/// Sockets that listen. Dropping this removes what was made in the file system.
#[derive(Debug)]
pub(crate) struct Listeners {
    sockets: Vec<Socket>,
    address: Address,
    /// What the log calls the place.
    place: String,
    /// Fields are dropped in order: the file goes before its folder.
    _file: Option<SocketFile>,
    _folder: Option<PrivateFolder>,
}

impl Listeners {
    /// Makes the sockets. They queue connections from now on.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub(crate) fn open(listen: &Listen) -> Result<Listeners, Error> {
        match listen {
            Listen::Tcp { hosts, port } => {
                let tcp::Bound { sockets, address, place } = tcp::open(hosts, *port)?;
                Ok(Listeners { sockets, address, place, _file: None, _folder: None })
            }
            Listen::Unix(path) => Listeners::unix(path.clone(), None),
            Listen::Private => {
                let folder = PrivateFolder::new()?;
                Listeners::unix(folder.path().join("socket"), Some(folder))
            }
        }
    }

    fn unix(path: PathBuf, folder: Option<PrivateFolder>) -> Result<Listeners, Error> {
        let (socket, file) = SocketFile::open(&path)?;
        Ok(Listeners {
            sockets: vec![socket],
            place: format!("socket {}", path.display()),
            address: Address::Unix(path),
            _file: Some(file),
            _folder: folder,
        })
    }

    /// Where clients find this server.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The place in words.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The sockets, to accept from; once.
    pub(crate) fn take_sockets(&mut self) -> Vec<Socket> {
        std::mem::take(&mut self.sockets)
    }
}
