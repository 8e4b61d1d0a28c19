//! [`Gateway`]: our server, started for one test.

use std::ffi::{OsStr, OsString};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binary;
use crate::server::Server;

/// A running gateway on a private Unix socket; see [`Server`] for what can be done with it.
#[derive(Debug)]
pub struct Gateway(Server);

/// How a gateway is to be started.
#[derive(Debug)]
pub struct GatewayBuilder {
    binary: PathBuf,
    folder: TempDir,
    workers: usize,
    environment: Vec<(OsString, OsString)>,
    /// Program and arguments that become the gateway by exec.
    wrapper: Vec<OsString>,
}

impl Gateway {
    /// Starts a gateway with two workers: driver name first, then its properties.
    ///
    /// # Panics
    /// It does not start; what it said is shown.
    #[must_use]
    pub fn start(driver: &[&str]) -> Gateway {
        Gateway::builder().start(driver)
    }

    /// To start it otherwise.
    #[must_use]
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder {
            binary: binary::gateway().to_owned(),
            folder: Server::folder(),
            workers: 2,
            environment: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// The program, for tests of its command line.
    #[must_use]
    pub fn program() -> &'static Path {
        binary::gateway()
    }

    /// See [`Server::stop`].
    ///
    /// # Panics
    /// As that says.
    pub fn stop(self) {
        self.0.stop();
    }
}

impl GatewayBuilder {
    /// A path in the private folder, for an image that shall be there before the start.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Number of worker threads.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> GatewayBuilder {
        self.workers = workers;
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> GatewayBuilder {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Another program than the one under test, for planted defects.
    #[must_use]
    pub fn binary(mut self, binary: &Path) -> GatewayBuilder {
        binary.clone_into(&mut self.binary);
        self
    }

    /// A command that becomes the gateway by exec, such as `prlimit --nofile=64:64`.
    #[must_use]
    pub fn wrapped_in<S: AsRef<OsStr>>(mut self, command: &[S]) -> GatewayBuilder {
        self.wrapper = command.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Starts it: driver name first, then its properties.
    ///
    /// # Panics
    /// It does not start; what it said is shown.
    #[must_use]
    pub fn start<S: AsRef<OsStr>>(self, driver: &[S]) -> Gateway {
        let socket = self.path("socket");
        let mut words = self.wrapper.clone();
        words.push(self.binary.clone().into());
        words.extend(serving_arguments(&socket, self.workers, driver));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment);
        Gateway(Server::start_unix(command, self.folder, &socket))
    }
}

/// The command line that serves a driver on a Unix socket.
fn serving_arguments<S: AsRef<OsStr>>(socket: &Path, workers: usize, driver: &[S]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        vec!["-U".into(), socket.into(), "--workers".into(), workers.to_string().into()];
    arguments.extend(driver.iter().map(|word| word.as_ref().to_owned()));
    arguments
}

impl Deref for Gateway {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}
