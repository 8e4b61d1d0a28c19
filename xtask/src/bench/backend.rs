//! vhost-user back-ends for the servers of the comparison.
//!
//! Each run has a back-end of its own, started before the server and ended after it: such a socket serves one
//! connection at a time, so servers cannot share one, and two that wait side by side would not cost the same. For the
//! same reason nobody connects to it to see whether it listens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use super::cpu::CpuClock;
use super::interrupt;
use super::server::{stop, tied_to_us};
use super::tools::Tools;

/// The program of our own back-end.
pub(crate) const OWN: &str = "vhost-user-back-end";

const START: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Queues that a back-end offers: one thread serves them all, and each server takes as many as it likes.
const QUEUES: usize = 2;

/// A back-end program with its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Backend {
    /// qemu-storage-daemon that exports its null disk from an I/O thread.
    QemuNull,
    /// Our own back-end for tests with a null disk, which costs a small part of that.
    OwnNull,
}

/// A running back-end.
#[derive(Debug)]
pub(crate) struct BackendProcess {
    child: Child,
    log: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
    /// Its CPU time.
    pub clock: CpuClock,
}

impl Backend {
    /// Name of the program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::QemuNull => "qemu-storage-daemon",
            Self::OwnNull => OWN,
        }
    }

    /// Name of the disk in descriptions.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::QemuNull => "null-co of qemu-storage-daemon over vhost-user",
            Self::OwnNull => "null disk of our back-end over vhost-user",
        }
    }

    /// Arguments that make the program serve a disk of this size at `socket`, and `ready` a file with something in it
    /// as soon as it listens.
    fn arguments(self, size_bytes: u64, socket: &Path, ready: &Path) -> Vec<String> {
        let socket = socket.display();
        match self {
            Self::QemuNull => vec![
                "--object".into(),
                "iothread,id=io0".into(),
                "--blockdev".into(),
                // What is read is not even written: the cheapest disk that it has.
                format!("driver=null-co,node-name=disk,size={size_bytes},read-zeroes=off"),
                "--export".into(),
                format!(
                    "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={socket},\
                     writable=on,num-queues={QUEUES},iothread=io0"
                ),
                // Written when all exports are there.
                "--pidfile".into(),
                ready.display().to_string(),
            ],
            Self::OwnNull => vec![
                "--socket".into(),
                socket.to_string(),
                "--null".into(),
                size_bytes.to_string(),
                "--queues".into(),
                QUEUES.to_string(),
            ],
        }
    }
}

impl BackendProcess {
    /// Starts a back-end for the server called `name`; its socket and log are made in `folder`.
    ///
    /// # Errors
    /// The program is missing, ends, or does not listen in time.
    pub(crate) fn start(
        backend: Backend,
        tools: &Tools,
        size_bytes: u64,
        folder: &Path,
        name: &str,
    ) -> anyhow::Result<Self> {
        let program = tools.find(backend.program())?;
        let file = |what: &str| folder.join(format!("{name}.{what}"));
        let (socket, ready, log) = (file("vhost"), file("vhost-ready"), file("vhost-log"));
        remove(&ready)?;
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let stdout = match backend {
            Backend::QemuNull => output.try_clone()?,
            // It says when it listens.
            Backend::OwnNull => {
                File::create(&ready).with_context(|| format!("creating {}", ready.display()))?
            }
        };
        let child = tied_to_us(&program)
            .args(backend.arguments(size_bytes, &socket, &ready))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let clock = CpuClock::of(child.id())?;
        let mut process = Self { child, log, socket, clock };
        process.wait_for(&ready).with_context(|| format!("starting the back-end {}", backend.program()))?;
        Ok(process)
    }

    fn wait_for(&mut self, ready: &Path) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        while !has_content(ready) {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it ended with {status}: {}", said.trim());
            }
            if Instant::now() > end {
                bail!("it does not listen after {START:?}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for BackendProcess {
    fn drop(&mut self) {
        stop(&mut self.child);
        // Most have removed it already.
        let _ = fs::remove_file(&self.socket);
    }
}

/// Whether a program has written into this file.
pub(crate) fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// Removes a file that an earlier run may have left.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_back_end_is_told_its_socket_and_size() {
        for backend in [Backend::QemuNull, Backend::OwnNull] {
            let line =
                backend.arguments(1 << 30, Path::new("/run/s.vhost"), Path::new("/run/ready")).join(" ");
            assert!(line.contains("/run/s.vhost") && line.contains("1073741824"), "{backend:?}: {line}");
        }
    }
}
