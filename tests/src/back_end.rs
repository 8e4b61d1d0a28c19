//! [`BackEnd`]: our own vhost-user back-end as a process.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

use crate::binary;
use crate::server::Server;

/// A running `vhost-user-back-end` on a private socket.
#[derive(Debug)]
pub struct BackEnd(Server);

impl BackEnd {
    /// The program, for tests of its command line.
    ///
    /// # Panics
    /// It cannot be built.
    #[must_use]
    pub fn program() -> &'static Path {
        binary::back_end()
    }

    /// Starts one with these arguments besides the socket.
    ///
    /// # Panics
    /// It does not start; what it said is shown.
    #[must_use]
    pub fn start(arguments: &[&str]) -> BackEnd {
        let folder = Server::folder();
        let socket = folder.path().join("vhost");
        let mut command = Command::new(Self::program());
        command.arg("--socket").arg(&socket).args(arguments);
        // Who looks whether it listens is a connection too, but a short one.
        BackEnd(Server::start_unix(command, folder, &socket))
    }

    /// The property of the driver that names its socket.
    #[must_use]
    pub fn property(&self) -> String {
        format!("path={}", self.socket().display())
    }
}

impl Deref for BackEnd {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for BackEnd {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}
