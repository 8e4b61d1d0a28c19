//! `cargo xtask guest`: scenarios that need a kernel of their own, in a guest under software emulation.
//!
//! Block drivers work on devices and kernel interfaces that few machines offer to a test: NVMe and virtio disks behind
//! an IOMMU, VFIO, vDPA, the kernel's own NBD client. The guest has them all, everywhere, without KVM and without root.
//!
//! # What happens
//!
//! 1. `base.rs` makes, once, the unpacked kernel of the test bed and an archive with busybox, other people's tools
//!    and modules; `job.rs` puts the programs under test (`programs.rs`) and the scenarios behind it. The whole is the
//!    guest's only file system.
//! 2. `machine.rs` starts the emulator. The guest's first program (`init.sh`) runs the scenarios, in waves of such
//!    as can run at the same time (`scenario.rs`).
//! 3. The guest reports over a port of the machine (`report.rs`): output, ends, the kernel's log. A scenario has
//!    passed when the report says so; silence is failure. Over another port come the files that scenarios left.
//! 4. When the emulator itself fails, what has no result yet gets another boot (`boots.rs`).
//!
//! # A new scenario
//!
//! is a file `tests/guest/NAME.sh`; `scenario.rs` has its first lines, `tests/guest/lib.sh` what helps in the rest, and
//! `tests/guest/serving.sh` checks of a disk that is served.
//!
//! # What is left of a run
//!
//! `guest/` in the target folder: `console`, `emulator`, `report`, `artefacts/NAME/…`, and with `--keep` the disks as
//! `*.img`.

mod base;
mod boots;
mod cpio;
mod holes;
mod job;
mod kernel;
mod machine;
mod modules;
mod programs;
mod report;
mod scenario;
mod tools;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::bed::Bed;
use crate::repo;
use boots::Setup;
use machine::{Ending, Files};
use report::Report;
use scenario::Scenario;

/// Where the scenarios are, from the root of the workspace.
const SCENARIOS: &str = "tests/guest";

/// What `cargo xtask guest` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenarios to run; default: all that do not measure.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Lists the scenarios and ends.
    #[arg(long)]
    list: bool,
    /// Keeps the machine's disks, as images in the folder of the run.
    #[arg(long)]
    keep: bool,
    /// Opens a shell in the guest and runs nothing; `poweroff -f` ends it.
    #[arg(long)]
    shell: bool,
    /// Takes a program of this machine along, such as /usr/bin/strace; may be repeated.
    #[arg(long, value_name = "PROGRAM")]
    with: Vec<PathBuf>,
    /// Seconds after which the machine is switched off and what has no result counts as failed.
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT_SECONDS)]
    limit: u64,
}

/// Default of `--limit`. All scenarios together take a small part of it; a loaded machine may need more than that.
const LIMIT_SECONDS: u64 = 1500;

impl Args {
    /// All scenarios, with the usual limit.
    #[must_use]
    pub fn all() -> Self {
        Self {
            names: Vec::new(),
            list: false,
            keep: false,
            shell: false,
            with: Vec::new(),
            limit: LIMIT_SECONDS,
        }
    }
}

/// `cargo xtask guest`.
///
/// # Errors
/// The guest cannot be made or started, or a scenario failed; what it and the kernel said was printed.
pub fn run(args: &Args) -> Result<()> {
    let sources = repo::root()?.join(SCENARIOS);
    let all = scenario::all(&sources)?;
    if args.list {
        for scenario in &all {
            println!("{:24} {}", scenario.name, scenario.summary);
        }
        return Ok(());
    }
    let chosen = scenario::choose(all, &args.names)?;
    let bed = Bed::locate()?;
    bed.set_up()?;
    let base = base::ensure(&bed)?;
    let folder = RunFolder::make()?;
    let files = Files { folder: &folder.path };
    let setup = Setup { bed: &bed, base: &base, files: &files, sources: &sources, programs: &args.with };
    if args.shell {
        return boots::shell(&setup);
    }
    let start = Instant::now();
    let (report, ending) = boots::run(&setup, &chosen, Duration::from_secs(args.limit), print_news)?;
    let seconds = start.elapsed().as_secs_f64();
    let judged = judge(&report, &ending, &chosen, &files);
    if !args.keep {
        machine::remove_large(&files);
    }
    judged?;
    let boot = report.boot_seconds.unwrap_or_default();
    eprintln!("guest: {} scenarios in {seconds:.1} s, {boot:.1} s of them to boot", report.outcomes.len());
    Ok(())
}

/// Says how scenarios ended that were not spoken of yet.
fn print_news(report: &mut Report) {
    for name in std::mem::take(&mut report.news) {
        let outcome = report.outcome(&name);
        let (_, seconds) = outcome.end.unwrap_or((report::End::Stuck, 0.0));
        let word = if outcome.is_good() { "ok" } else { "FAILED" };
        eprintln!("{word:6} {name:24} {seconds:6.1} s");
    }
}

/// Prints all about the scenarios that failed, and what those found that measure.
///
/// # Errors
/// There are some, or the guest did not come to its end.
fn judge(report: &Report, ending: &Ending, wanted: &[Scenario], files: &Files<'_>) -> Result<()> {
    let mut failed = Vec::new();
    for scenario in wanted {
        let outcome = report.outcome(&scenario.name);
        if outcome.is_good() {
            outcome.output.iter().filter(|_| scenario.measures).for_each(|line| println!("{line}"));
            continue;
        }
        failed.push(scenario.name.as_str());
        eprintln!("== {}: {}", scenario.name, outcome.describe());
        outcome.output.iter().for_each(|line| eprintln!("{line}"));
        if !outcome.kernel.is_empty() {
            eprintln!("== {}: the kernel meanwhile", scenario.name);
            outcome.kernel.iter().for_each(|line| eprintln!("{line}"));
        }
    }
    let is_done = matches!(ending, Ending::Done);
    if !is_done {
        files.print_last_words();
        eprintln!("== {ending}");
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    ensure!(is_done, "{ending}");
    Ok(())
}

/// The folder of a run, which no other run uses meanwhile.
struct RunFolder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl RunFolder {
    /// Makes an empty one; waits for the end of another run.
    fn make() -> Result<Self> {
        let own = std::env::current_exe().context("where this program lies is unknown")?;
        let target = own.ancestors().nth(2).context("this program is in no target folder")?;
        let lock = target.join("guest.lock");
        let file = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .with_context(|| format!("cannot lock {}", lock.display()))?;
        let path = target.join("guest");
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn verdict(text: &str, ending: &Ending) -> Result<()> {
        let header = "# It works.\n# devices: none\n# limit: 4\n# beside: yes\n";
        let wanted = ["a", "b"].map(|name| Scenario::parse(name, header).unwrap());
        let mut report = Report::default();
        report.add(text.as_bytes());
        judge(&report, ending, &wanted, &Files { folder: Path::new("nowhere") })
    }

    #[test]
    fn every_scenario_must_say_that_it_went_well() {
        assert!(verdict("result a 0 1\nresult b 0 1\n", &Ending::Done).is_ok());
        for (text, ending, message) in [
            ("result a 0 1\n", Ending::Done, "failed: b"),
            ("result a 1 1\nresult b late 1\n", Ending::Done, "failed: a, b"),
            ("result a 0 1\nresult b 0 1\n", Ending::Late, "in time"),
        ] {
            let error = verdict(text, &ending).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn the_scenarios_of_this_repository_say_what_they_need() {
        let all = scenario::all(&repo::root().unwrap().join(SCENARIOS)).unwrap();
        assert!(all.iter().all(|scenario| scenario.limit_seconds < LIMIT_SECONDS));
    }
}
