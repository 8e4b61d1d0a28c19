//! Boots a disk under software emulation and reads the verdict from its serial console.
//!
//! The disk is a raw file or an NBD URI, attached as a virtio disk to a PC with a BIOS. No KVM: emulation runs
//! everywhere and is fast enough (`bootable.img` takes about six seconds).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::bed::Bed;
use crate::sh;

/// What `/sbin/init` of `bootable.img` prints last, when every file is as it was made.
pub const SUCCESS_LINE: &str = "bootable image: contents verified";
/// How often the emulator is looked at.
const POLL: Duration = Duration::from_millis(50);

/// What `cargo xtask boot` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Disk to boot: an NBD URI, or a raw image file; default: bootable.img of the test bed, unchanged.
    #[arg(value_name = "URI|FILE")]
    disk: Option<String>,
    /// Seconds after which the machine is switched off and the boot counts as failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// Line on the serial console that says the boot went well.
    #[arg(long, value_name = "TEXT", default_value = SUCCESS_LINE)]
    expect: String,
    /// Leaves the disk unchanged: what the machine writes is thrown away at its end.
    #[arg(long)]
    snapshot: bool,
}

/// What happens to that which the machine writes to its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It is kept.
    Kept,
    /// It is thrown away when the machine ends.
    ThrownAway,
}

/// A machine to be booted.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Raw image file or NBD URI.
    pub disk: String,
    /// Whether the disk is changed.
    pub writes: Writes,
    /// Line that must appear on the serial console.
    pub expect: String,
    /// Longest time for everything.
    pub timeout: Duration,
}

impl Machine {
    /// A machine that boots the bed's own kind of image and leaves it unchanged.
    #[must_use]
    pub fn trial(image: &Path) -> Self {
        Self {
            disk: image.display().to_string(),
            writes: Writes::ThrownAway,
            expect: SUCCESS_LINE.to_owned(),
            timeout: Duration::from_secs(120),
        }
    }
}

/// `cargo xtask boot`.
///
/// # Errors
/// As [`boot`]; also when no disk is given and the bed has no image.
pub fn run(args: Args) -> Result<()> {
    let bed = Bed::locate()?;
    // The bed's own image stays as it was made.
    let keep = args.disk.is_some() && !args.snapshot;
    let disk = match args.disk {
        Some(disk) => disk,
        None => bed.image(crate::image::BOOTABLE)?.display().to_string(),
    };
    let writes = if keep { Writes::Kept } else { Writes::ThrownAway };
    let timeout = Duration::from_secs(args.timeout);
    boot(&bed, &Machine { disk, writes, expect: args.expect, timeout })
}

/// Boots a machine, waits for its end, and prints its console.
///
/// # Errors
/// The emulator is missing or fails, the time is over, or the expected line did not come; the message has
/// the end of the console.
pub fn boot(bed: &Bed, machine: &Machine) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    let console = scratch.path().join("console");
    let mut command = emulator(bed, machine, &console)?;
    let start = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{}`", sh::display(&command)))?;
    let status = wait(child, start + machine.timeout)?;
    let text = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    judge(&machine.expect, status, &text)?;
    eprintln!("boot: {} in {:.1} s: {}", machine.disk, start.elapsed().as_secs_f64(), machine.expect);
    Ok(())
}

/// Whether the boot went well. `status` is `None` after the end of the time.
fn judge(expect: &str, status: Option<ExitStatus>, console: &str) -> Result<()> {
    // The console is a terminal: its lines end with CR LF, and boot loaders put escape sequences around them.
    let seen = console.lines().any(|line| line.trim_end().ends_with(expect));
    match status {
        Some(status) if status.success() && seen => Ok(()),
        Some(status) if status.success() => {
            bail!("the machine ended without `{expect}`; its console:\n{console}")
        }
        Some(status) => bail!("the emulator ended with {status}; the console:\n{console}"),
        None => bail!("the machine did not end in time; its console:\n{console}"),
    }
}

/// Waits for the end of the emulator, or ends it at the deadline and returns `None`.
fn wait(mut child: Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the emulator")? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().context("cannot end the emulator")?;
            child.wait().context("cannot wait for the emulator")?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// The emulator's command line.
fn emulator(bed: &Bed, machine: &Machine, console: &Path) -> Result<Command> {
    let program: PathBuf = bed.tool("qemu-system-x86_64")?;
    let version = version(&program)?;
    let cpus = cpus();
    let snapshot = match machine.writes {
        Writes::Kept => "off",
        Writes::ThrownAway => "on",
    };
    let mut command = Command::new(program);
    command
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-machine", "q35,accel=tcg", "-cpu", cpu_model(&version)])
        .args(["-smp", &cpus.to_string(), "-m", "512M"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-drive")
        // A comma ends a value unless it is doubled.
        .arg(format!("if=virtio,format=raw,snapshot={snapshot},file={}", machine.disk.replace(',', ",,")));
    Ok(command)
}

/// What the emulator says about its version.
pub(crate) fn version(program: &Path) -> Result<String> {
    sh::capture(Command::new(program).arg("--version"))
}

/// Virtual processors of a machine. More than real ones end in kernel errors while the guest patches its code.
pub(crate) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get).min(2)
}

/// The processor to emulate. QEMU 7.2 leaves wrong flags behind CMPXCHG16B, which breaks a guest now and then.
pub(crate) fn cpu_model(version: &str) -> &'static str {
    let major = version.split_once("version ").and_then(|(_, rest)| rest.split('.').next()?.parse().ok());
    if major.is_some_and(|major: u32| major < 8) { "max,-cx16" } else { "max" }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn only_old_emulators_lose_an_instruction() {
        assert_eq!(cpu_model("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7)"), "max,-cx16");
        assert_eq!(cpu_model("QEMU emulator version 10.0.2"), "max");
    }

    #[test]
    fn a_boot_is_good_only_with_its_line_and_a_clean_end() {
        let good = Some(ExitStatus::from_raw(0));
        assert!(judge("all well", good, "x\r\nimage: all well\r\n").is_ok());
        assert!(judge("all well", good, "image: all well not\r\n").is_err());
        assert!(judge("all well", good, "").is_err());
        assert!(judge("all well", Some(ExitStatus::from_raw(256)), "all well\n").is_err());
        assert!(judge("all well", None, "all well\n").is_err());
    }

    #[test]
    fn a_machine_that_does_not_end_is_ended() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(wait(child, Instant::now()).unwrap().is_none());
        let child = Command::new("true").spawn().unwrap();
        assert!(wait(child, Instant::now() + Duration::from_secs(60)).unwrap().unwrap().success());
    }
}
