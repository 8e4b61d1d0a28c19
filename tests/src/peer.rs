//! Servers of other projects, from the test bed.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bed::tool;
use crate::server::Server;

/// A running server of another project on a private Unix socket; see [`Server`] for what can be done with it.
#[derive(Debug)]
pub struct Peer(Server);

impl Peer {
    /// nbdkit with this plugin and its parameters.
    ///
    /// # Errors
    /// The test bed has no nbdkit.
    ///
    /// # Panics
    /// It does not start; what it said is shown.
    pub fn nbdkit(words: &[&str]) -> Result<Peer> {
        let folder = Server::folder();
        let socket = folder.path().join("socket");
        let mut command = Command::new(tool("nbdkit")?);
        command.args(["--foreground", "--unix"]).arg(&socket).args(words);
        Ok(Peer(Server::start_unix(command, folder, &socket)))
    }

    /// qemu-nbd on this raw image.
    ///
    /// # Errors
    /// The test bed has no qemu-nbd.
    ///
    /// # Panics
    /// It does not start; what it said is shown.
    pub fn qemu_nbd(image: &Path, words: &[&str]) -> Result<Peer> {
        let folder = Server::folder();
        let socket = folder.path().join("socket");
        let mut command = Command::new(tool("qemu-nbd")?);
        command
            .args(["--format=raw", "--persistent", "--shared=64", "--discard=unmap", "--socket"])
            .arg(&socket);
        command.args(words).arg(image);
        Ok(Peer(Server::start_unix(command, folder, &socket)))
    }
}

impl Deref for Peer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}
