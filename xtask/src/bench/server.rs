//! The servers that are compared: how each is started, waited for and stopped.
//!
//! A server outlives neither its value here (SIGTERM, then SIGKILL), nor this process, however it ends: setpriv(1)
//! asks the kernel to kill the server when its parent dies.

use std::fmt::Display;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::backend::{self, BackendProcess};
use super::interrupt;
use super::load::{self, Address, Target};
use super::observe::Observed;
use super::peers::{Disk, Kind};
use super::pki;
use super::tools::Tools;

const LOOPBACK: &str = "127.0.0.1";
const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// Kind of socket a server listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// Unix stream socket.
    Unix,
    /// TCP on 127.0.0.1.
    Tcp,
    /// TLS 1.3 over that, with certificates.
    Tls,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// Where it listens.
    pub target: Target,
    /// What it spends.
    pub observed: Observed,
    /// Ends after the server: fields go after what `drop` does.
    _backend: Option<BackendProcess>,
}

impl Server {
    /// Starts a server of `kind` that serves `disk`, which is behind `backend` if there is one; its socket and log are
    /// made in `folder`.
    ///
    /// # Errors
    /// The program is missing, ends, or does not answer in time; the message has the end of what it printed.
    pub(crate) fn start(
        kind: Kind,
        tools: &Tools,
        disk: &Disk,
        backend: Option<BackendProcess>,
        transport: Transport,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let program = tools.find(kind.program())?;
        let address = match transport {
            Transport::Unix => Address::Unix(folder.join(format!("{}.sock", kind.slug()))),
            Transport::Tcp => Address::Tcp(LOOPBACK.into(), free_port()?),
            Transport::Tls => Address::Tls(LOOPBACK.into(), free_port()?, pki::ensure(tools, folder)?),
        };
        let log = folder.join(format!("{}.log", kind.slug()));
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let ready = kind.ready_file(disk, &address);
        ready.as_deref().map_or(Ok(()), backend::remove)?;
        let child = tied_to_us(&program)
            .args(kind.arguments(disk, &address))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let observed = Observed::new(child.id(), backend.as_ref().map(|backend| backend.clock))?;
        let target = Target { address, export: String::new() };
        let mut server = Self { child, log, target, observed, _backend: backend };
        server.wait_until_it_serves(ready.as_deref()).with_context(|| format!("starting {kind}"))?;
        Ok(server)
    }

    fn wait_until_it_serves(&mut self, ready: Option<&Path>) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        loop {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}{}", self.last_words());
            }
            let answer = match ready {
                Some(file) if backend::has_content(file) => Ok(()),
                Some(file) => Err(anyhow::anyhow!("it does not write {}", file.display())),
                None => load::probe(&self.target),
            };
            let Err(error) = answer else { return Ok(()) };
            if Instant::now() > end {
                bail!("it does not serve after {START:?}: {error:#}{}", self.last_words());
            }
            thread::sleep(POLL);
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what the server printed, for messages.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        match &lines[lines.len().saturating_sub(3)..] {
            [] => String::new(),
            last => format!(" ({})", last.join(" / ")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.child);
        if let Address::Unix(path) = &self.target.address {
            // Most servers have removed it already.
            let _ = fs::remove_file(path);
        }
    }
}

/// A command that is killed when this thread ends, in a process group of its own, so that Ctrl-C leaves the
/// order of things to us.
pub(crate) fn tied_to_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).process_group(0);
    command
}

/// Ends a child: politely first, for sure at last.
pub(crate) fn stop(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // An error means that it has ended; `wait` below collects it.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let end = Instant::now() + STOP;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
        thread::sleep(POLL);
    }
    if matches!(child.try_wait(), Ok(None)) {
        warn(format_args!("process {} ignores SIGTERM for {STOP:?}; it is killed", child.id()));
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Prints a warning.
pub(crate) fn warn(text: impl Display) {
    eprintln!("bench: warning: {text}");
}

/// A TCP port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((LOOPBACK, 0)).context("looking for a free TCP port")?;
    Ok(listener.local_addr()?.port())
}
