//! [`Vduse`]: vDPA disks in user space, of any size.
//!
//! A disk takes a program behind it (qemu-storage-daemon) and a device in the kernel (vdpa(8)). Both are kept as long
//! as the same kind of disk is asked for; then only the file below is emptied.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use drivers::Started;
use drivers::testing::{Fixture, Setup};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Name of the device.
const NAME: &str = "conformance";
/// How long the daemon and the kernel may take for their parts.
const PATIENCE: Duration = Duration::from_secs(20);

/// Disks of the driver `virtio-blk-vhost-vdpa`.
pub(crate) struct Vduse {
    /// Properties beside the path.
    words: Vec<String>,
    /// Where the file below the disk lies.
    folder: tempfile::TempDir,
    present: Mutex<Option<Disk>>,
}

impl Vduse {
    /// Disks that are opened with these properties.
    ///
    /// # Errors
    /// There is no place for files.
    pub(crate) fn new(words: Vec<String>) -> Result<Vduse> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        Ok(Vduse { words, folder, present: Mutex::new(None) })
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn try_start(&self, setup: Setup) -> Result<Arc<dyn Started>> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = Kind::of(setup);
        if present.as_ref().is_some_and(|disk| disk.kind != kind) {
            *present = None;
        }
        // Nobody has the disk open, so nobody sees it empty.
        let image = self.image();
        File::create(&image).and_then(|file| file.set_len(kind.capacity_bytes)).context("the disk's file")?;
        let disk = match &mut *present {
            Some(disk) => disk,
            none => none.insert(Disk::make(kind, &image)?),
        };
        let path = format!("path={}", disk.node.display());
        let words: Vec<String> =
            ["virtio-blk-vhost-vdpa".into(), path].into_iter().chain(self.words.clone()).collect();
        crate::start(&words, setup.workers)
    }
}

impl Fixture for Vduse {
    fn name(&self) -> String {
        ["virtio-blk-vhost-vdpa over VDUSE"]
            .into_iter()
            .chain(self.words.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn start(&self, setup: Setup) -> Arc<dyn Started> {
        self.try_start(setup).unwrap_or_else(|error| panic!("{}: {error:#}", self.name()))
    }

    fn capacity_unit_bytes(&self) -> u64 {
        512
    }

    fn allocated_bytes(&self) -> Option<u64> {
        Some(fs::metadata(self.image()).ok()?.blocks() * 512)
    }

    fn tells_size(&self) -> bool {
        true
    }
}

/// What the daemon has to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    capacity_bytes: u64,
    queues: usize,
    read_only: bool,
}

impl Kind {
    fn of(setup: Setup) -> Kind {
        Kind { capacity_bytes: setup.capacity_bytes, queues: setup.workers, read_only: setup.read_only }
    }
}

/// A device with the program behind it. It goes with this value: first the device, which does not go without the
/// program.
struct Disk {
    kind: Kind,
    daemon: Child,
    /// `/dev/vhost-vdpa-N`.
    node: PathBuf,
}

impl Disk {
    fn make(kind: Kind, image: &Path) -> Result<Disk> {
        let writable = if kind.read_only { "off" } else { "on" };
        let daemon = Command::new("qemu-storage-daemon")
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=disk,filename={},discard=unmap", image.display()))
            .arg("--export")
            .arg(format!(
                "type=vduse-blk,id={NAME},node-name=disk,name={NAME},writable={writable},num-queues={}",
                kind.queues
            ))
            .spawn()
            .context("cannot start qemu-storage-daemon")?;
        let mut disk = Disk { kind, daemon, node: PathBuf::new() };
        disk.wait("the daemon has made its device", || Path::new("/dev/vduse").join(NAME).exists())?;
        let add = vdpa(&["dev", "add", "name", NAME, "mgmtdev", "vduse"])?;
        ensure!(add, "vdpa cannot add the device");
        disk.wait("the device has a node", || node().is_some())?;
        disk.node = node().context("the device lost its node")?;
        Ok(disk)
    }

    /// Waits until something holds, as long as the daemon lives.
    fn wait(&mut self, what: &str, holds: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        while !holds() {
            if let Some(status) = self.daemon.try_wait().context("cannot wait for qemu-storage-daemon")? {
                bail!("qemu-storage-daemon ended with {status}");
            }
            ensure!(start.elapsed() < PATIENCE, "waited in vain until {what}");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What fails here makes the next disk fail, which is told.
        let _ = vdpa(&["dev", "del", NAME]);
        let _ = i32::try_from(self.daemon.id()).map(|id| kill(Pid::from_raw(id), Signal::SIGTERM));
        let _ = self.daemon.wait();
    }
}

/// Runs vdpa(8); whether it succeeded.
fn vdpa(arguments: &[&str]) -> Result<bool> {
    let status = Command::new("vdpa").args(arguments).status().context("cannot start vdpa")?;
    Ok(status.success())
}

/// The node of the device, when it has one.
fn node() -> Option<PathBuf> {
    let folder = fs::read_dir(Path::new("/sys/bus/vdpa/devices").join(NAME)).ok()?;
    let mut names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let name = names.find(|name| name.starts_with("vhost-vdpa-"))?;
    Some(Path::new("/dev").join(name)).filter(|node| node.exists())
}
