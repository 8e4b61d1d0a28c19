//! perf(1): records stacks of a process, and tells them.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::{Folder, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::stacks::Stacks;
use crate::bed::host;
use crate::bench::server::tied_to_us;
use crate::sh;

/// Samples a second of each thread. Not a round number: what happens by the clock would be seen always or never.
const FREQUENCY_HZ: u32 = 997;

/// How long it may take until perf records.
const START: Duration = Duration::from_secs(10);

/// How long it may take to write down what it has.
const STOP: Duration = Duration::from_secs(60);

/// Decides who may watch what (Documentation/admin-guide/sysctl/kernel.rst).
const SETTING: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Path of perf, which belongs to the kernel that runs and not to the test bed.
///
/// # Errors
/// It is missing and cannot be installed.
pub(super) fn program() -> anyhow::Result<PathBuf> {
    if !sh::in_path("perf") {
        host::install(&["linux-perf"], "stacks are recorded by perf")?;
    }
    Ok("perf".into())
}

/// A process that is watched.
#[derive(Debug)]
pub(super) struct Recording {
    perf: Child,
    log: PathBuf,
}

impl Recording {
    /// Watches a process from now on, all of its threads.
    ///
    /// # Errors
    /// The kernel forbids it; the message says by which setting.
    pub(super) fn start(perf: &Path, pid: u32, data: &Path) -> anyhow::Result<Recording> {
        let log = data.with_extension("log");
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let perf = tied_to_us(perf)
            .args(["record", "--call-graph", "fp", "--freq", &FREQUENCY_HZ.to_string()])
            .args(["--pid", &pid.to_string()])
            .arg("--output")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("starting perf")?;
        let mut recording = Recording { perf, log };
        let end = Instant::now() + START;
        // It makes the file, and then begins at once.
        while !data.exists() {
            if let Some(status) = recording.perf.try_wait()? {
                bail!("perf ended with {status}: {}", recording.reason());
            }
            ensure!(Instant::now() < end, "perf does not begin after {START:?}: {}", recording.reason());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(recording)
    }

    /// Stops watching; what was seen is in the file.
    ///
    /// # Errors
    /// perf failed.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.perf.id())?), Signal::SIGINT).context("stopping perf")?;
        let end = Instant::now() + STOP;
        loop {
            if let Some(status) = self.perf.try_wait()? {
                // Interrupted is how it ends when it was told to.
                let fine =
                    status.success() || std::os::unix::process::ExitStatusExt::signal(&status) == Some(2);
                ensure!(fine, "perf ended with {status}: {}", self.reason());
                return Ok(());
            }
            ensure!(Instant::now() < end, "perf does not end after {STOP:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What perf said, and the setting that forbids it if one does.
    fn reason(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let setting = fs::read_to_string(SETTING).unwrap_or_default();
        explain(&said, setting.trim(), nix::unistd::geteuid().is_root())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}

/// Why perf failed, from what it said and the setting.
fn explain(said: &str, setting: &str, is_root: bool) -> String {
    let advice = match setting {
        "" => "this kernel has no perf events (CONFIG_PERF_EVENTS), or they are hidden from here",
        _ if is_root => "if it speaks of permissions, a sandbox or the capability CAP_PERFMON is in the way",
        _ => "run it as root, or allow it: sysctl kernel.perf_event_paranoid=1",
    };
    let shown = if setting.is_empty() { "missing" } else { setting };
    format!("{}\nkernel.perf_event_paranoid is {shown}: {advice}", said.trim())
}

/// The stacks of a file, each with the name of its thread in front.
///
/// # Errors
/// perf cannot read it.
pub(super) fn stacks(perf: &Path, data: &Path) -> anyhow::Result<Stacks> {
    // Functions that were inlined are looked up one by one by another program, which takes minutes.
    let mut script = Command::new(perf)
        .args(["script", "--no-inline", "--force", "--input"])
        .arg(data)
        // Without periods: each sample counts as one.
        .args(["--fields", "comm,pid,tid,time,event,ip,sym,dso"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting perf script")?;
    let told = script.stdout.take().context("the output of perf script")?;
    let folded = fold(BufReader::new(told)).context("reading the output of perf script")?;
    let status = script.wait()?;
    ensure!(status.success(), "perf script ended with {status}");
    Ok(Stacks::new(folded))
}

fn fold(told: impl io::BufRead) -> anyhow::Result<String> {
    let mut options = Options::default();
    options.annotate_kernel = true;
    let mut folded = Vec::new();
    Folder::from(options).collapse(told, &mut folded)?;
    Ok(String::from_utf8(folded)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_tells_becomes_stacks() {
        let told = "worker-0  10/11  1.000000: cpu-clock:\n\
                    \t ffff entry ([kernel.kallsyms])\n\
                    \t 5555 gateway::worker::serve (/x/gateway)\n\
                    \t 5556 thread_start (/x/gateway)\n\n";
        assert_eq!(
            fold(told.as_bytes()).unwrap(),
            "worker-0;thread_start;gateway::worker::serve;entry_[k] 1\n"
        );
    }

    #[test]
    fn a_failure_names_the_setting() {
        let reason = explain("No permission\n", "3", false);
        assert!(
            reason.starts_with("No permission\n") && reason.contains("sysctl kernel.perf_event_paranoid=1")
        );
        assert!(explain("", "3", true).contains("CAP_PERFMON"));
        assert!(explain("", "", true).contains("CONFIG_PERF_EVENTS"));
    }
}
