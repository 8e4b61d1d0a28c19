//! `guest/` in the test bed: the unpacked kernel and the part of the first file system that stays the same.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use super::{kernel, modules, tools};
use crate::bed::{Bed, Kernel};
use crate::sh;

/// To be raised when the way of making the files changes: older ones are then made anew.
const RECIPE: u32 = 1;
/// Links of a Debian system.
const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("etc/mtab", "/proc/mounts"),
];
/// Folders that the first program mounts on, or that programs expect.
const FOLDERS: &[&str] =
    &["artefacts", "dev", "mnt", "proc", "run", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib64", "var/tmp"];

/// What every guest begins with.
pub(super) struct Base {
    /// The kernel as an ELF file.
    pub(super) kernel: PathBuf,
    /// An archive with busybox, tools and modules, without `/init`.
    pub(super) archive: PathBuf,
}

/// Makes the files unless those of the same recipe, packages and kernel are there.
///
/// # Errors
/// The bed lacks something, or the file system says no.
pub(super) fn ensure(bed: &Bed) -> Result<Base> {
    let kernel = bed.kernel()?;
    let folder = bed.root().join("guest");
    let base = Base { kernel: folder.join("vmlinux"), archive: folder.join("base.cpio") };
    let stamp = folder.join("stamp");
    let inputs = inputs(bed, &kernel)?;
    if fs::read_to_string(&stamp).is_ok_and(|text| text == inputs) {
        return Ok(base);
    }
    eprint!("guest: kernel and tools … ");
    let start = Instant::now();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Another run may be doing the same, or be starting its guest: files appear whole.
    let scratch = tempfile::tempdir_in(&folder).context("cannot make a scratch folder in the bed")?;
    let new = Base { kernel: scratch.path().join("vmlinux"), archive: scratch.path().join("base.cpio") };
    kernel::unpack(bed, &kernel.image, &new.kernel)?;
    write_archive(bed, &kernel, &new.archive)?;
    for (new, path) in [(&new.kernel, &base.kernel), (&new.archive, &base.archive)] {
        fs::rename(new, path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    fs::write(&stamp, inputs).with_context(|| format!("cannot write {}", stamp.display()))?;
    eprintln!("{:.1} s", start.elapsed().as_secs_f64());
    Ok(base)
}

/// What the files are made of, as a text that changes when one of the inputs does.
fn inputs(bed: &Bed, kernel: &Kernel) -> Result<String> {
    // dpkg writes it anew when any package comes, goes or changes.
    let status = bed.system_file("var/lib/dpkg/status");
    let facts = fs::metadata(&status).with_context(|| format!("cannot read {}", status.display()))?;
    let changed = facts.modified().context("time of a file")?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let lists = [tools::PROGRAMS, tools::FILES, modules::LOADED, modules::CARRIED].map(|list| list.join(" "));
    Ok(format!(
        "{RECIPE}\n{}\n{} {}\n{}\n",
        kernel.release,
        facts.len(),
        changed.as_nanos(),
        lists.join("\n")
    ))
}

fn write_archive(bed: &Bed, kernel: &Kernel, path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    let files = tools::collect(bed)?;
    write_system(&mut archive).context("cannot write the archive")?;
    write_busybox(&mut archive, bed, |path| files.contains(path))?;
    for file in &files {
        let source = bed.system_file(file);
        let contents = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        archive.program(file, &contents).context("cannot write the archive")?;
    }
    write_modules(&mut archive, &modules::collect(bed, kernel)?).context("cannot write the archive")?;
    archive.finish().context("cannot write the archive")?;
    Ok(())
}

/// The frame of a system.
fn write_system(archive: &mut Archive<impl Write>) -> std::io::Result<()> {
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    for (link, target) in LINKS {
        archive.link(link, target)?;
    }
    archive.file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")?;
    archive.file("etc/group", b"root:x:0:\n")?;
    archive.file("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
}

/// busybox, and a link for each program in it of which there is none in full.
fn write_busybox(
    archive: &mut Archive<impl Write>,
    bed: &Bed,
    is_there: impl Fn(&str) -> bool,
) -> Result<()> {
    let busybox = bed.system_file("usr/bin/busybox");
    let contents = fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    archive.program("usr/bin/busybox", &contents).context("cannot write the archive")?;
    for program in sh::capture(Command::new(&busybox).arg("--list"))?.lines() {
        let link = format!("usr/bin/{program}");
        if program != "busybox" && !is_there(&link) && !is_there(&format!("usr/sbin/{program}")) {
            archive.link(&link, "busybox").context("cannot write the archive")?;
        }
    }
    Ok(())
}

/// `/modules/NAME.ko`, and `/modules/order` with the names of those to be loaded.
fn write_modules(archive: &mut Archive<impl Write>, modules: &modules::Modules) -> std::io::Result<()> {
    for module in modules.loaded.iter().chain(&modules.carried) {
        archive.file(&format!("modules/{}.ko", module.name), &module.contents)?;
    }
    let order: String = modules.loaded.iter().map(|module| format!("{}\n", module.name)).collect();
    archive.file("modules/order", order.as_bytes())
}
