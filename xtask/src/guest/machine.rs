//! The emulated machine: processors, disks behind an IOMMU, and ports to the host.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::base::Base;
use super::report::Report;
use crate::bed::{Bed, DEBIAN};
use crate::{boot, sh};

/// A PCI device of the machine, with an IOMMU group of its own unless it says otherwise.
pub(super) struct Device {
    /// Name and serial number.
    pub(super) name: &'static str,
    /// Images behind it, which are files `NAME.img` of the folder of the run.
    images: &'static [&'static str],
    /// Arguments for QEMU's `-device`. `lib.sh` knows the addresses.
    arguments: &'static [&'static str],
    /// A byte in a block of the images that cannot be read.
    damage: Option<u64>,
}

/// The disks that scenarios may use.
///
/// `iommu_platform=on` puts a virtio device behind the IOMMU, `disable-legacy=on` makes it a pure virtio 1 device. The
/// second NVMe controller has what differs from QEMU's defaults: short transfers, few queues, two namespaces.
pub(super) const DEVICES: &[Device] = &[
    Device {
        name: "nvme-512",
        images: &["nvme-512"],
        arguments: &["nvme,serial=nvme-512,drive=nvme-512,addr=0x10"],
        damage: None,
    },
    Device {
        name: "nvme-4096",
        images: &["nvme-4096", "nvme-4096-second"],
        arguments: &[
            "nvme,id=nvme-4096,serial=nvme-4096,addr=0x11,mdts=5,max_ioqpairs=4",
            "nvme-ns,bus=nvme-4096,drive=nvme-4096,nsid=1,logical_block_size=4096,physical_block_size=4096",
            "nvme-ns,bus=nvme-4096,drive=nvme-4096-second,nsid=2",
        ],
        damage: None,
    },
    Device {
        name: "virtio-split",
        images: &["virtio-split"],
        arguments: &[
            "virtio-blk-pci,serial=virtio-split,drive=virtio-split,addr=0x12,disable-legacy=on,iommu_platform=on",
        ],
        damage: None,
    },
    Device {
        name: "virtio-packed",
        images: &["virtio-packed"],
        arguments: &[
            "virtio-blk-pci,serial=virtio-packed,drive=virtio-packed,addr=0x13,disable-legacy=on,iommu_platform=on,\
             packed=on,num-queues=4",
        ],
        damage: None,
    },
    Device {
        name: "nvme-damaged",
        images: &["nvme-damaged"],
        arguments: &["nvme,serial=nvme-damaged,drive=nvme-damaged,addr=0x16"],
        damage: Some(20 << 20),
    },
    // One whose image is looked at.
    Device {
        name: "nvme-holes",
        images: &["nvme-holes"],
        arguments: &["nvme,serial=nvme-holes,drive=nvme-holes,addr=0x17"],
        damage: None,
    },
    // What a driver has to refuse: a disk of before virtio 1 that shares its group with a device that is no disk, and
    // a disk that goes around the IOMMU.
    Device {
        name: "virtio-odd",
        images: &["virtio-legacy", "virtio-bypass"],
        arguments: &[
            "virtio-blk-pci,serial=virtio-odd,drive=virtio-legacy,addr=0x14.0x0,multifunction=on,disable-modern=on,\
             disable-legacy=off",
            "virtio-rng-pci,addr=0x14.0x1,disable-legacy=on,iommu_platform=on",
            "virtio-blk-pci,serial=virtio-bypass,drive=virtio-bypass,addr=0x15,disable-legacy=on",
        ],
        damage: None,
    },
];

/// A disk with a fresh Debian system, besides [`DEVICES`]. What a scenario writes to it is thrown away.
pub(super) const SYSTEM: &str = "debian";
/// Its place in the machine, which `lib.sh` knows.
const SYSTEM_DEVICE: &str =
    "virtio-blk-pci,serial=debian,drive=debian,addr=0x18,disable-legacy=on,iommu_platform=on";
/// Length of each image. They are sparse.
const IMAGE_BYTES: u64 = 64 << 20;
/// Memory of the machine. All files of the guest lie in it.
const MEMORY: &str = "1G";
/// The IOMMU is on; what only protects against attackers of the host is off.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 intel_iommu=on mitigations=off nokaslr";
/// Time without a word of the guest after which it is thought to stand still. It says something every ten seconds, and
/// takes seconds to boot.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// All processors in one thread of the emulator. With a thread for each, QEMU 10.0 ends with a failed assertion
/// (`iotlb_to_section`) or loses a timer, often within a minute, where drivers map, unmap and reset devices on one
/// processor while another uses them.
pub(super) const ONE_THREAD: &str = "tcg,thread=single";
/// A thread for each processor: where speed is measured or compared, and devices stay as they are.
pub(super) const THREADS: &str = "tcg,thread=multi";
/// How often the machine is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Files of one run.
pub(super) struct Files<'a> {
    /// Where everything else is.
    pub(super) folder: &'a Path,
}

impl Files<'_> {
    /// The first file system.
    pub(super) fn archive(&self) -> PathBuf {
        self.folder.join("initrd.cpio")
    }

    /// What the kernel printed.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.join("console")
    }

    /// What the emulator complained of; it tells of each error that a damaged disk makes.
    pub(super) fn complaints(&self) -> PathBuf {
        self.folder.join("emulator")
    }

    /// What the guest's first program reports.
    pub(super) fn report(&self) -> PathBuf {
        self.folder.join("report")
    }

    /// Files that scenarios left, as archives one behind the other.
    pub(super) fn artefacts(&self) -> PathBuf {
        self.folder.join("artefacts.tar")
    }

    /// Prints what the kernel and the emulator said last.
    pub(super) fn print_last_words(&self) {
        for (what, file) in
            [("the console of the guest", self.console()), ("the emulator", self.complaints())]
        {
            let text = fs::read(file).unwrap_or_default();
            eprintln!("== {what}\n{}", String::from_utf8_lossy(&text).trim_end());
        }
    }

    /// Disks of the machine.
    pub(super) fn images(&self) -> impl Iterator<Item = PathBuf> {
        DEVICES.iter().flat_map(|device| device.images).map(|image| self.image(image))
    }

    /// A disk of the machine.
    pub(super) fn image(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("img")
    }
}

/// A machine that runs. It ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How the run of a machine ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The guest said that it was done.
    Done,
    /// The emulator ended before.
    Emulator(ExitStatus),
    /// Nothing came from the guest for [`SILENCE_MAX`], not even that a scenario took too long.
    Silent,
    /// The time for everything was over.
    Late,
}

impl Ending {
    /// Whether the emulator failed, and not what ran in its guest: it ended by a signal, as for a failed assertion, or
    /// lost an interrupt that the guest waits for.
    pub(super) fn is_of_emulator(&self) -> bool {
        match self {
            Ending::Emulator(status) => status.signal().is_some(),
            Ending::Silent => true,
            Ending::Done | Ending::Late => false,
        }
    }
}

impl Display for Ending {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Done => write!(f, "the guest was done"),
            Ending::Emulator(status) => {
                write!(f, "the emulator ended with {status} before the guest was done")
            }
            Ending::Silent => write!(f, "the guest stood still for {} s", SILENCE_MAX.as_secs()),
            Ending::Late => write!(f, "the guest did not end in time"),
        }
    }
}

/// Boots the guest and follows its report until it says that it is done, ends, or the time is over.
///
/// `notice` is called after each part of the report.
///
/// # Errors
/// The emulator cannot be started, or a file cannot be made or read.
pub(super) fn run(
    bed: &Bed,
    base: &Base,
    files: &Files<'_>,
    accelerator: &str,
    deadline: Instant,
    report: &mut Report,
    mut notice: impl FnMut(&mut Report),
) -> Result<Ending> {
    make_images(files)?;
    let mut command = emulator(bed, base, files, accelerator)?;
    command.arg("-serial").arg(format!("file:{}", files.console().display()));
    let complaints = make(&files.complaints())?;
    // What another machine wrote must not be taken for this one's.
    make(&files.report())?;
    let mut heard = Instant::now();
    let mut machine = Running(spawn(command.stdin(Stdio::null()).stderr(complaints))?);
    let mut read = 0;
    loop {
        let ended = machine.0.try_wait().context("cannot wait for the emulator")?;
        let text = rest(&files.report(), read).context("cannot read the report")?;
        read += u64::try_from(text.len()).context("a long report")?;
        report.add(&text);
        notice(report);
        let now = Instant::now();
        if !text.is_empty() {
            heard = now;
        }
        // What the guest does after its last line proves nothing: it is not waited for.
        match ended {
            _ if report.is_complete() => return Ok(Ending::Done),
            Some(status) => return Ok(Ending::Emulator(status)),
            None if now >= deadline => return Ok(Ending::Late),
            None if now - heard >= SILENCE_MAX => return Ok(Ending::Silent),
            None => thread::sleep(POLL),
        }
    }
}

/// Boots the guest with its console on this terminal, until it ends.
///
/// # Errors
/// As [`run`].
pub(super) fn shell(bed: &Bed, base: &Base, files: &Files<'_>) -> Result<()> {
    make_images(files)?;
    let mut command = emulator(bed, base, files, ONE_THREAD)?;
    command.args(["-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"]);
    let status = spawn(&mut command)?.wait().context("cannot wait for the emulator")?;
    ensure!(status.success(), "the emulator ended with {status}");
    Ok(())
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot start `{}`", sh::display(command)))
}

/// Empty disks of a run.
fn make_images(files: &Files<'_>) -> Result<()> {
    for image in files.images() {
        make(&image)?.set_len(IMAGE_BYTES).with_context(|| format!("cannot make {}", image.display()))?;
    }
    Ok(())
}

/// An empty file.
fn make(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot make {}", path.display()))
}

/// A file from an offset on.
fn rest(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// The emulator's command line, without the console.
fn emulator(bed: &Bed, base: &Base, files: &Files<'_>, accelerator: &str) -> Result<Command> {
    let folder = files.folder.to_str().context("the target folder has a name that is not text")?;
    ensure!(!folder.contains(','), "{folder} has a comma, which QEMU takes for the end of a value");
    let program = bed.tool("qemu-system-x86_64")?;
    // The machine must not outlive this program, whatever ends it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(&program);
    command
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-machine", "q35", "-cpu", boot::cpu_model(&boot::version(&program)?)])
        .args(["-accel", accelerator])
        .args(["-smp", &boot::cpus().to_string(), "-m", MEMORY])
        .args(["-device", "intel-iommu,intremap=on"])
        .arg("-kernel")
        .arg(&base.kernel)
        .arg("-initrd")
        .arg(files.archive())
        .args(["-append", KERNEL_ARGUMENTS])
        .args(["-device", "virtio-serial-pci"]);
    for (port, path) in [("report", files.report()), ("artefacts", files.artefacts())] {
        command
            .arg("-chardev")
            .arg(format!("file,id={port},path={}", path.display()))
            .arg("-device")
            .arg(format!("virtserialport,chardev={port},name={port}"));
    }
    for device in DEVICES {
        for image in device.images {
            command.args(["-drive", &drive(image, &files.image(image), device.damage)]);
        }
        command.args(device.arguments.iter().flat_map(|argument| ["-device", argument]));
    }
    let system = bed.image(DEBIAN)?;
    let system = format!("if=none,id={SYSTEM},format=raw,snapshot=on,file={}", system.display());
    command.args(["-drive", &system, "-device", SYSTEM_DEVICE]);
    Ok(command)
}

/// The value of QEMU's `-drive` for an image.
fn drive(image: &str, file: &Path, damage: Option<u64>) -> String {
    let file = file.display();
    let Some(byte) = damage else {
        return format!("if=none,id={image},format=raw,file={file},cache=unsafe,discard=unmap");
    };
    // Reads of a sector fail, whoever asks and however often (QEMU, docs/devel/blkdebug.rst).
    format!(
        "if=none,id={image},driver=blkdebug,image.driver=raw,image.file.driver=file,image.file.filename={file},\
         inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5,inject-error.0.sector={}",
        byte / 512
    )
}

/// Removes what only the run itself needs.
pub(super) fn remove_large(files: &Files<'_>) {
    for path in files.images().chain([files.archive(), files.archive().with_extension("stripped")]) {
        // What is not there needs no removing.
        let _ = fs::remove_file(path);
    }
    let _ = fs::remove_dir_all(files.archive().with_extension("dist"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(rest(&path, 4).unwrap(), b"two\n");
        assert!(rest(&path, 8).unwrap().is_empty());
    }

    #[test]
    fn an_emulator_fails_by_itself_or_because_of_its_guest() {
        let aborted = Ending::Emulator(ExitStatus::from_raw(6));
        assert!(aborted.is_of_emulator(), "{aborted}");
        assert!(Ending::Silent.is_of_emulator());
        // A guest whose kernel panics reboots, which ends the emulator with a status.
        let ended = Ending::Emulator(ExitStatus::from_raw(0));
        assert!(!ended.is_of_emulator() && !Ending::Late.is_of_emulator() && !Ending::Done.is_of_emulator());
    }

    #[test]
    fn a_machine_ends_with_its_value() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = child.id();
        drop(Running(child));
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn each_device_has_a_serial_number_like_its_name() {
        for device in DEVICES {
            assert!(device.arguments[0].contains(&format!("serial={},", device.name)), "{}", device.name);
            // The longest that a virtio block device can tell (Virtio 1.3, section 5.2.6).
            assert!(device.name.len() <= 20);
        }
    }
}
