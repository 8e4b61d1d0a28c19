//! What dpkg wants to know of the tree (deb-control(5)), and the file that it installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Moment, NAME, VERSION, depends, tree};
use crate::bed::Bed;
use crate::{repo, sh};

/// Who answers for the package, unless `DEBFULLNAME` and `DEBEMAIL` name somebody, as for Debian's own tools.
const MAINTAINER: (&str, &str) = ("The gateway authors", "gateway@example.org");
/// What makes the user of the units, whichever of these a machine has.
const SYSUSERS: &str = "systemd | systemd-standalone-sysusers | systemd-sysusers";
/// Scripts of `packaging/debian` that dpkg runs.
const SCRIPTS: &[&str] = &["postinst", "postrm", "prerm"];

/// Adds `DEBIAN/` to the tree and packs both.
pub(super) fn make(binary: &Path, tree: &Path, out: &Path, moment: &Moment) -> Result<PathBuf> {
    let sources = repo::root()?.join("packaging/debian");
    let description =
        fs::read_to_string(sources.join("description")).context("cannot read the description")?;
    let depends = depends::of(binary)?;
    let architecture = architecture(std::env::consts::ARCH)?;
    let (sums, kibibytes) = contents(tree)?;
    let maintainer = maintainer();
    let folder = tree.join("DEBIAN");
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let control = format!(
        "Package: {NAME}\nVersion: {VERSION}\nArchitecture: {architecture}\nMaintainer: {maintainer}\n\
         Installed-Size: {kibibytes}\nDepends: {depends}, {SYSUSERS}\nSection: net\nPriority: optional\n\
         Description: {description}"
    );
    write(&folder.join("control"), &control)?;
    write(&folder.join("md5sums"), &sums)?;
    for script in SCRIPTS {
        fs::copy(sources.join(script), folder.join(script))
            .with_context(|| format!("cannot copy {script}"))?;
    }
    tree::set_modes(&folder)?;
    let deb = out.join(format!("{NAME}_{VERSION}_{architecture}.deb"));
    let mut dpkg = Command::new(dpkg_deb()?);
    // Anything may install what is packed by xz; zstd is newer than some.
    dpkg.args(["--root-owner-group", "-Zxz", "--build"]).arg(tree).arg(&deb);
    sh::capture(dpkg.env("SOURCE_DATE_EPOCH", &moment.epoch))?;
    Ok(deb)
}

/// Who answers for the package.
pub(super) fn maintainer() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let name = variable("DEBFULLNAME").unwrap_or_else(|| MAINTAINER.0.to_owned());
    let address = variable("DEBEMAIL").unwrap_or_else(|| MAINTAINER.1.to_owned());
    format!("{name} <{address}>")
}

/// That of this machine, or of the test bed where it is no Debian.
fn dpkg_deb() -> Result<PathBuf> {
    const TOOL: &str = "dpkg-deb";
    if sh::in_path(TOOL) { Ok(TOOL.into()) } else { Bed::locate()?.tool(TOOL) }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Check sums of all files, and how much room they take.
fn contents(tree: &Path) -> Result<(String, u64)> {
    let files = tree::files(tree)?;
    let inside = files.iter().map(|path| path.strip_prefix(tree).unwrap_or(path));
    let sums = sh::capture(Command::new("md5sum").args(inside).current_dir(tree))?;
    let mut kibibytes = 0;
    for file in &files {
        let facts = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?;
        kibibytes += facts.len().div_ceil(1024);
    }
    Ok((sums, kibibytes))
}

/// What Debian calls a processor.
fn architecture(arch: &str) -> Result<&'static str> {
    Ok(match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        other => bail!("what Debian calls {other} is not known here"),
    })
}
