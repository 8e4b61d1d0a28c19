//! What is inside the bootable image: the initial RAM disk and the files of the root partition.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::write_program;
use crate::bed::{Bed, Kernel};
use crate::sh;

/// Length of the file that no compression or hole shortens.
const RANDOM_BYTES: usize = 32 << 20;
/// Length of the file that is nearly all hole, and where its few bytes are.
const SPARSE_BYTES: u64 = 64 << 20;
const SPARSE_MARKS: &[u64] = &[0, 4095, 1 << 20, (32 << 20) + 511, SPARSE_BYTES - 5];
/// Number of small files.
const SMALL_FILES: u32 = 500;

/// Fills `root` with what becomes the root partition.
pub(super) fn make_root(bed: &Bed, kernel: &Kernel, root: &Path) -> Result<()> {
    make_folders(root, &["bin", "sbin", "etc", "var/log", "proc", "sys", "dev", "usr/lib/modules", "data"])?;
    install_busybox(bed, &root.join("bin"))?;
    write_program(&root.join("sbin/init"), include_str!("init.sh"))?;
    // Thousands of real files of all sizes, already compressed.
    let modules = root.join("usr/lib/modules").join(&kernel.release);
    sh::capture(Command::new("cp").arg("-r").arg(&kernel.modules).arg(&modules))?;
    make_data(&root.join("data")).context("cannot make the files of the image")?;
    write_checksums(root)
}

/// Files of made-up contents, the same in each image.
fn make_data(folder: &Path) -> std::io::Result<()> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    fs::write(folder.join("random"), random.bytes(RANDOM_BYTES))?;
    let mut sparse = File::create(folder.join("sparse"))?;
    sparse.set_len(SPARSE_BYTES)?;
    for &offset in SPARSE_MARKS {
        sparse.seek(SeekFrom::Start(offset))?;
        sparse.write_all(b"mark\n")?;
    }
    for number in 0..SMALL_FILES {
        let len = usize::try_from(random.next() % 9000).expect("below 9000");
        let name = format!("{}/file-{number}", number % 7);
        let path = folder.join("small").join(name);
        fs::create_dir_all(path.parent().expect("it has a folder"))?;
        fs::write(path, random.bytes(len))?;
    }
    symlink("random", folder.join("link"))
}

/// `etc/contents.sha256`: one line for each regular file, as sha256sum(1) reads them.
fn write_checksums(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    list_files(root, Path::new(""), &mut files).with_context(|| format!("in {}", root.display()))?;
    files.sort();
    let sums = sh::capture(Command::new("sha256sum").arg("--").args(&files).current_dir(root))?;
    ensure!(sums.lines().count() == files.len(), "sha256sum left files out");
    fs::write(root.join("etc/contents.sha256"), sums).context("cannot write the checksums")
}

/// Adds every regular file below `root`/`folder`, relative to `root`.
fn list_files(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list_files(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// Makes the initial RAM disk: busybox, the disk's driver, a script. Returns the archive.
pub(super) fn make_initrd(bed: &Bed, kernel: &Kernel, scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join("initramfs");
    make_folders(&folder, &["bin", "proc", "sys", "dev", "root"])?;
    let busybox = bed.system_file("usr/bin/busybox");
    fs::copy(&busybox, folder.join("bin/busybox"))
        .with_context(|| format!("cannot copy {}", busybox.display()))?;
    write_program(&folder.join("init"), include_str!("initramfs.sh"))?;
    // The kernel unpacks modules by itself only when a program that knows how loads them.
    let module = kernel.modules.join("kernel/drivers/block/virtio_blk.ko.xz");
    let loadable = File::create(folder.join("virtio_blk.ko")).context("cannot write the disk's driver")?;
    let status = Command::new(bed.tool("xz")?)
        .args(["--decompress", "--stdout"])
        .arg(&module)
        .stdout(loadable)
        .status()
        .context("cannot start xz")?;
    ensure!(status.success(), "xz cannot unpack {}", module.display());

    let mut names = Vec::new();
    list_all(&folder, Path::new("."), &mut names).context("cannot list the RAM disk")?;
    pack(bed, &folder, &names, &scratch.join("initrd.img"))
}

/// Packs files of a folder as a "newc" archive (Linux, driver-api/early-userspace/buffer-format).
fn pack(bed: &Bed, folder: &Path, names: &[PathBuf], archive: &Path) -> Result<PathBuf> {
    let mut list = String::new();
    for name in names {
        // Writing to a `String` cannot fail.
        let _ = writeln!(list, "{}", name.display());
    }
    let list_path = archive.with_extension("list");
    fs::write(&list_path, list).context("cannot write the list of the RAM disk")?;
    let status = Command::new(bed.tool("cpio")?)
        .args(["--quiet", "--create", "--format=newc", "--owner=0:0", "--file"])
        .arg(archive)
        .current_dir(folder)
        .stdin(File::open(&list_path).context("cannot read the list of the RAM disk")?)
        .status()
        .context("cannot start cpio")?;
    ensure!(status.success(), "cpio cannot pack {}", folder.display());
    Ok(archive.to_owned())
}

/// Adds every entry below `root`/`folder`, folders before what they contain.
fn list_all(root: &Path, folder: &Path, names: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(root.join(folder))?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        names.push(path.clone());
        if entry.file_type()?.is_dir() {
            list_all(root, &path, names)?;
        }
    }
    Ok(())
}

/// busybox, and a link for each program that it contains.
fn install_busybox(bed: &Bed, folder: &Path) -> Result<()> {
    let source = bed.system_file("usr/bin/busybox");
    fs::copy(&source, folder.join("busybox")).with_context(|| format!("cannot copy {}", source.display()))?;
    for applet in sh::capture(Command::new(&source).arg("--list"))?.lines().filter(|&name| name != "busybox")
    {
        symlink("busybox", folder.join(applet)).with_context(|| format!("cannot link {applet}"))?;
    }
    Ok(())
}

/// Makes folders below `root`, and what is above them.
fn make_folders(root: &Path, folders: &[&str]) -> Result<()> {
    for folder in folders {
        let path = root.join(folder);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

/// A generator of numbers that look random and are always the same (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_name_every_file_and_no_link() {
        let root = tempfile::tempdir().unwrap();
        make_folders(root.path(), &["etc", "a/b"]).unwrap();
        fs::write(root.path().join("a/b/one"), "1").unwrap();
        fs::write(root.path().join("two"), "2").unwrap();
        symlink("two", root.path().join("three")).unwrap();
        write_checksums(root.path()).unwrap();
        let text = fs::read_to_string(root.path().join("etc/contents.sha256")).unwrap();
        let names: Vec<&str> = text.lines().map(|line| line.split_once("  ").unwrap().1).collect();
        assert_eq!(names, ["a/b/one", "two"]);
    }

    #[test]
    fn the_random_file_is_the_same_each_time() {
        assert_eq!(Random(7).bytes(1000), Random(7).bytes(1000));
        assert_ne!(Random(7).bytes(1000), Random(8).bytes(1000));
    }
}
