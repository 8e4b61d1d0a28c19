//! [`Server`]: any NBD server as a child process with a private folder.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long anything that must happen may take, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `ready` says so; the bound is there to end a test that hangs.
///
/// # Panics
/// It does not happen within a minute.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "waited {} s in vain: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where a server can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listens {
    Unix(PathBuf),
    Tcp(u16),
}

/// A running server. Dropping it kills it, and fails the test if it crashed or panicked before.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
    listens: Listens,
    /// Exit status, once it was waited for.
    ended: Option<ExitStatus>,
}

impl Server {
    /// A private folder for a server and its files.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn folder() -> TempDir {
        tempfile::Builder::new().prefix("gateway-test-").tempdir().expect("a private folder can be made")
    }

    /// Starts a server that will listen on the Unix socket `socket` in `folder`, and waits until it does.
    ///
    /// # Panics
    /// It cannot be started, ends, or does not listen; what it said is shown.
    #[must_use]
    pub fn start_unix(command: Command, folder: TempDir, socket: &Path) -> Server {
        Self::start(command, folder, Listens::Unix(socket.to_owned()))
    }

    /// Starts a server that will listen on this TCP port of the loopback address, and waits until it does.
    ///
    /// # Panics
    /// As [`Server::start_unix`].
    #[must_use]
    pub fn start_tcp(command: Command, folder: TempDir, port: u16) -> Server {
        Self::start(command, folder, Listens::Tcp(port))
    }

    fn start(mut command: Command, folder: TempDir, listens: Listens) -> Server {
        let file = |name: &str| File::create(folder.path().join(name)).expect("the folder is ours");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut server = Server { child, folder, listens, ended: None };
        wait_until("the server listens", || {
            if let Some(status) = server.child.try_wait().expect("the child is ours") {
                server.ended = Some(status);
                panic!("{command:?} ended with {status} before it listened:\n{}", server.stderr());
            }
            server.can_connect()
        });
        server
    }

    fn can_connect(&self) -> bool {
        match &self.listens {
            Listens::Unix(path) => UnixStream::connect(path).is_ok(),
            Listens::Tcp(port) => TcpStream::connect(("127.0.0.1", *port)).is_ok(),
        }
    }

    /// Its URI, default export.
    #[must_use]
    pub fn uri(&self) -> String {
        self.uri_of("")
    }

    /// The URI of one export, whose name needs no escaping.
    #[must_use]
    pub fn uri_of(&self, export: &str) -> String {
        match &self.listens {
            Listens::Unix(path) => format!("nbd+unix:///{export}?socket={}", path.display()),
            Listens::Tcp(port) => format!("nbd://127.0.0.1:{port}/{export}"),
        }
    }

    /// Its Unix socket.
    ///
    /// # Panics
    /// It listens elsewhere.
    #[must_use]
    pub fn socket(&self) -> &Path {
        match &self.listens {
            Listens::Unix(path) => path,
            Listens::Tcp(port) => panic!("the server listens on TCP port {port}"),
        }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The private folder, for images and the like; gone with the server.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.text("stdout")
    }

    /// What it said so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.text("stderr")
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("the child is ours");
        }
        self.ended.is_none()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.is_running(), "the server ended by itself: {:?}\n{}", self.ended, self.stderr());
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"));
        kill(pid, signal).expect("the child is ours and not waited for");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_until("the server ends", || !self.is_running());
        self.ended.expect("it ended")
    }

    /// Ends it with SIGTERM; a good server then ends with 0.
    ///
    /// # Panics
    /// It ended before, does not end, ends with an error, or panicked.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "the server ended with {status} on SIGTERM:\n{}", self.stderr());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended_alone = self.ended.is_none() && !self.is_running();
        if self.ended.is_none() {
            // Both fail only if it is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let said = self.stderr();
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", worth_reading(&said));
            return;
        }
        assert!(!ended_alone, "the server ended during the test: {:?}\n{said}", self.ended);
        assert!(!said.contains("panicked at"), "the server panicked during the test:\n{said}");
    }
}

/// What came first and last, and all about a panic: a server may say much about a hostile client.
fn worth_reading(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    if lines.len() <= 60 {
        return said.to_owned();
    }
    let panic = lines.iter().position(|line| line.contains("panicked at")).unwrap_or(lines.len() - 40);
    let (head, rest) = (&lines[..10], &lines[panic.max(10)..]);
    let shown = rest.len().min(60);
    format!("{}\n[…]\n{}", head.join("\n"), rest[..shown].join("\n"))
}
