//! [`Server`]: a back-end on a socket.

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::device::{Device, Leave};
use super::kind::Kind;
use super::store::Store;
use super::wire;

/// A back-end that listens. It serves one connection at a time, each with a device of its own on the same store.
pub struct Server {
    kind: Kind,
    store: Store,
    listener: Listener,
    /// Where faults of the conversation are made: the socket that front-ends know, and the path of the other one.
    outside: Option<(UnixListener, PathBuf)>,
}

impl Server {
    /// Listens on a socket at `path`, which replaces what is there.
    ///
    /// # Errors
    /// What the system answered.
    pub fn bind(path: &Path, kind: Kind, store: Store) -> io::Result<Server> {
        if !kind.fault.is_on_the_wire() {
            return Ok(Server { kind, store, listener: listen(path)?, outside: None });
        }
        let mut inside = path.as_os_str().to_owned();
        inside.push(".inside");
        let inside = PathBuf::from(inside);
        // One that nobody holds any more.
        let _ = fs::remove_file(path);
        let outside = Some((UnixListener::bind(path)?, inside.clone()));
        Ok(Server { kind, store, listener: listen(&inside)?, outside })
    }

    /// Waits for a connection and serves it to its end, whoever brings that about.
    ///
    /// # Errors
    /// What the system answered. A front-end that breaks the protocol is only the end of its connection.
    pub fn serve_one(&mut self) -> io::Result<()> {
        let leave = Leave::default();
        let device = Device::new(self.kind, self.store.clone(), leave.clone())?;
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let mut daemon = VhostUserDaemon::new("back-end".into(), Arc::new(Mutex::new(device)), memory)
            .map_err(|error| io::Error::other(error.to_string()))?;
        if let Some((outside, inside)) = &self.outside {
            let (front, _) = outside.accept()?;
            wire::relay(front, UnixStream::connect(inside)?, self.kind.fault)?;
        }
        daemon.start(&mut self.listener).map_err(|error| io::Error::other(error.to_string()))?;
        *leave.lock().unwrap_or_else(PoisonError::into_inner) = daemon.shutdown_handle();
        // A front-end that leaves is the usual end; one that breaks the protocol is another.
        let _ = daemon.wait();
        for handler in daemon.get_epoll_handlers() {
            handler.send_exit_event();
        }
        Ok(())
    }
}

fn listen(path: &Path) -> io::Result<Listener> {
    Listener::new(path, true).map_err(|error| io::Error::other(error.to_string()))
}
