//! Other people's programs in the guest, with the libraries that they need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::bed::{Bed, FOLDERS};
use crate::sh;

/// Programs for scenarios, beside busybox.
///
/// No package of the bed is there for dmsetup: librbd, which QEMU's block modules need, brings it.
pub(super) const PROGRAMS: &[&str] = &[
    "cmp",
    "dmsetup",
    "e2fsck",
    "fio",
    "mkfs.ext4",
    "nbd-client",
    "nbdcopy",
    "nbdinfo",
    "nbdkit",
    "qemu-img",
    "qemu-io",
    "qemu-nbd",
    "qemu-storage-daemon",
    "setpriv",
    "vdpa",
];

/// Libraries that programs load by themselves, and what else they look for.
pub(super) const FILES: &[&str] = &[
    "etc/mke2fs.conf",
    "usr/lib/x86_64-linux-gnu/nbdkit/filters/nbdkit-blocksize-filter.so",
    "usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-blkio-plugin.so",
    "usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-file-plugin.so",
    "usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-memory-plugin.so",
    "usr/lib/x86_64-linux-gnu/qemu/block-blkio.so",
];

/// Paths without the first slash of all that scenarios need, in the system of the bed and in the guest alike.
///
/// # Errors
/// The bed lacks a program, or `ldd` cannot say what one needs.
pub(super) fn collect(bed: &Bed) -> Result<BTreeSet<String>> {
    let mut files: BTreeSet<String> = FILES.iter().map(|&file| file.to_owned()).collect();
    for program in PROGRAMS {
        files.insert(find(bed, program)?);
    }
    let with_libraries = files.iter().filter(|file| !file.starts_with("etc/"));
    let mut ldd = Command::new(bed.tool("ldd")?);
    ldd.args(with_libraries.map(|file| format!("/{file}")));
    for library in libraries(&sh::capture(&mut ldd)?)? {
        files.insert(merged(&library));
    }
    Ok(files)
}

/// The libraries of a program of this machine, the loader among them.
///
/// # Errors
/// The machine has no `ldd`, or one of the libraries is missing.
pub(super) fn libraries_here(program: &Path) -> Result<Vec<PathBuf>> {
    let output = sh::capture(Command::new("ldd").arg(program))?;
    Ok(libraries(&output)?.into_iter().map(PathBuf::from).collect())
}

/// Path of a program in the system of the bed.
fn find(bed: &Bed, program: &str) -> Result<String> {
    FOLDERS
        .iter()
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| bed.system_file(path).exists())
        .with_context(|| format!("the test bed has no {program}: run `cargo xtask setup`"))
}

/// The libraries that ldd(1) names for one or more programs, each once.
fn libraries(ldd: &str) -> Result<BTreeSet<String>> {
    let mut libraries = BTreeSet::new();
    for line in ldd.lines().map(str::trim) {
        if line.ends_with("not found") {
            bail!("a library is missing: {line}");
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        if let Some((path, _)) = path.split_once(" (0x")
            && path.starts_with('/')
        {
            libraries.insert(path.to_owned());
        }
    }
    Ok(libraries)
}

/// The same path where `/bin`, `/sbin`, `/lib` and `/lib64` are links into `/usr`, as in Debian since release 12.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let below_usr = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|folder| path.starts_with(folder));
    if below_usr { format!("usr/{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LDD: &str = "/usr/bin/one:\n\
        \tlinux-vdso.so.1 (0x00007ffd2b1f5000)\n\
        \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f1)\n\
        \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n\
        /usr/bin/two:\n\
        \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f3)\n\
        \tstatically linked\n";

    #[test]
    fn libraries_of_all_programs_are_named_once() {
        let libraries = libraries(LDD).unwrap();
        let list: Vec<&str> = libraries.iter().map(String::as_str).collect();
        assert_eq!(list, ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn a_missing_library_is_an_error() {
        let error = libraries("\tlibblkio.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libblkio"), "{error}");
    }

    #[test]
    fn a_path_may_go_through_a_link_into_usr() {
        assert_eq!(merged("/lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(merged("/usr/lib/a.so"), "usr/lib/a.so");
        assert_eq!(merged("/opt/lib/a.so"), "opt/lib/a.so");
    }
}
