//! `images/bootable.img`: a disk image that boots by itself, made without root, loop devices or mounts.
//!
//! | sectors | is |
//! |---|---|
//! | 0 | boot code of syslinux for GPT disks, protective MBR |
//! | 1-2047 | GPT |
//! | 2048-133119 | partition `boot`: FAT16 with syslinux, kernel and initial RAM disk |
//! | 133120-817151 | partition `root`: ext4; modules of the kernel, files of many shapes, their checksums |
//! | 817152-819199 | second GPT |
//!
//! A machine with a BIOS boots it from a virtio disk: boot code, syslinux, kernel, RAM disk (`initramfs.sh`),
//! then `/sbin/init` of the root partition (`init.sh`), which verifies all files, appends to one of them if it
//! may, prints [`crate::boot::SUCCESS_LINE`] on the serial console and powers off. Contents, layout
//! and identifiers are the same in each image that is made of the same packages; times are not.

mod contents;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::bed::{Bed, Kernel};
use crate::{boot, sh};

/// Name of the image in the bed.
pub const BOOTABLE: &str = "bootable.img";
/// Size of a sector in every tool used here.
const SECTOR_BYTES: u64 = 512;
/// All of the disk.
const DISK_SECTORS: u64 = 819_200;
/// First sector of the partition `boot`, and its length.
const BOOT_SECTORS: (u64, u64) = (2048, 131_072);
/// First sector of the partition `root`, and its length.
const ROOT_SECTORS: (u64, u64) = (133_120, 684_032);
/// Boot code before the partition table of an MBR.
const BOOT_CODE_BYTES: usize = 440;
/// To be raised when the way of making the image changes: an older image is then made anew.
const RECIPE: u32 = 2;
/// Made-up identifiers, the same in each image.
const DISK_ID: &str = "6a1e7c52-3f0b-4d83-9b1e-0c5d2f9a7e11";
const BOOT_ID: &str = "1d4b9a70-7c3e-4b5f-a2d8-5e0f6c8b1a33";
const ROOT_ID: &str = "8c0f5b7e-54d1-4c1a-8f6d-2b9e3a7d4c22";

/// Makes the image unless one of the same recipe and kernel is there, and boots it once.
///
/// # Errors
/// A tool fails, or the image does not boot.
pub(crate) fn ensure(bed: &Bed, kernel: &Kernel) -> Result<()> {
    let image = bed.root().join("images").join(BOOTABLE);
    let stamp = bed.root().join("images/bootable.stamp");
    let recipe = format!("{RECIPE} {}\n", kernel.release);
    if image.exists() && fs::read_to_string(&stamp).is_ok_and(|text| text == recipe) {
        return Ok(());
    }
    eprintln!("setup: bootable image");
    let scratch = tempfile::tempdir_in(bed.root()).context("cannot make a scratch folder in the bed")?;
    let new = scratch.path().join(BOOTABLE);
    partition(bed, &new)?;
    root_partition(bed, kernel, scratch.path(), &new)?;
    boot_partition(bed, kernel, scratch.path(), &new)?;
    boot::boot(bed, &boot::Machine::trial(&new))?;
    fs::rename(&new, &image).with_context(|| format!("cannot make {}", image.display()))?;
    fs::write(&stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The sparse file, its partition table and boot code.
fn partition(bed: &Bed, image: &Path) -> Result<()> {
    let mut file = File::create(image).with_context(|| format!("cannot make {}", image.display()))?;
    file.set_len(DISK_SECTORS * SECTOR_BYTES).context("cannot extend the image")?;
    let script = format!(
        "label: gpt\nlabel-id: {DISK_ID}\n\
         start={}, size={}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=boot, uuid={BOOT_ID}, \
         attrs=LegacyBIOSBootable\n\
         start={}, size={}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=root, uuid={ROOT_ID}\n",
        BOOT_SECTORS.0, BOOT_SECTORS.1, ROOT_SECTORS.0, ROOT_SECTORS.1
    );
    let mut sfdisk = Command::new(bed.tool("sfdisk")?);
    sfdisk.arg("--quiet").arg(image).stdin(Stdio::piped());
    let mut child = sfdisk.spawn().context("cannot start sfdisk")?;
    child.stdin.take().expect("it is piped").write_all(script.as_bytes()).context("sfdisk's input")?;
    let status = child.wait().context("sfdisk")?;
    ensure!(status.success(), "sfdisk ended with {status}");

    let mut code = Vec::new();
    let source = bed.system_file("usr/lib/SYSLINUX/gptmbr.bin");
    File::open(&source)
        .and_then(|mut file| file.read_to_end(&mut code))
        .with_context(|| format!("cannot read {}", source.display()))?;
    ensure!(code.len() <= BOOT_CODE_BYTES, "{} is too long for a boot sector", source.display());
    file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&code)).context("cannot write the boot code")
}

/// The ext4 partition, filled from a folder.
fn root_partition(bed: &Bed, kernel: &Kernel, scratch: &Path, image: &Path) -> Result<()> {
    let root = scratch.join("root");
    contents::make_root(bed, kernel, &root)?;
    let (first, length) = ROOT_SECTORS;
    sh::capture(
        Command::new(bed.tool("mke2fs")?)
            .args(["-q", "-F", "-t", "ext4", "-L", "root", "-U", ROOT_ID, "-d"])
            .arg(&root)
            .arg("-E")
            .arg(format!("offset={},root_owner=0:0,hash_seed={ROOT_ID}", first * SECTOR_BYTES))
            .arg(image)
            .arg(format!("{}k", length * SECTOR_BYTES / 1024)),
    )?;
    Ok(())
}

/// The FAT partition, with syslinux installed.
fn boot_partition(bed: &Bed, kernel: &Kernel, scratch: &Path, image: &Path) -> Result<()> {
    let (first, length) = BOOT_SECTORS;
    sh::capture(
        Command::new(bed.tool("mkfs.fat")?)
            .args(["-F", "16", "-n", "BOOT", "-i", "b0070001", "-h", &first.to_string()])
            .args(["--offset", &first.to_string()])
            .arg(image)
            .arg((length * SECTOR_BYTES / 1024).to_string()),
    )?;
    let initrd = contents::make_initrd(bed, kernel, scratch)?;
    let config = scratch.join("syslinux.cfg");
    fs::write(&config, SYSLINUX_CONFIG).context("cannot write syslinux.cfg")?;
    let offset = first * SECTOR_BYTES;
    let mtools_image = format!("{}@@{offset}", image.display());
    for (source, name) in
        [(kernel.image.as_path(), "vmlinuz"), (&initrd, "initrd.img"), (&config, "syslinux.cfg")]
    {
        sh::capture(
            Command::new(bed.tool("mcopy")?)
                .args(["-i", &mtools_image])
                .arg(source)
                .arg(format!("::/{name}")),
        )?;
    }
    sh::capture(
        Command::new(bed.tool("syslinux")?).args(["--install", "--offset", &offset.to_string()]).arg(image),
    )?;
    Ok(())
}

/// `panic=-1` with QEMU's `-no-reboot` turns a panic into an end of the emulator.
const SYSLINUX_CONFIG: &str = "\
SERIAL 0 115200
DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL /vmlinuz
  INITRD /initrd.img
  APPEND console=ttyS0 quiet panic=-1
";

/// Writes a program text that may be started.
fn write_program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}
