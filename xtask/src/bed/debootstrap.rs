//! `tree/`: a Debian 13 tree with the packages of the bed, made by debootstrap.
//!
//! Packages come from the archive that the host's apt is set to, else from debootstrap's own default, and
//! never without a checked signature.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::host;
use super::packages::PACKAGES;
use crate::sh;

/// Code name of Debian 13.
const SUITE: &str = "trixie";
/// Keys that sign Debian's archive; this is where the package debian-archive-keyring puts them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where debootstrap keeps what it knows about each release.
const SCRIPTS: &str = "/usr/share/debootstrap/scripts";
/// To be raised when the way of making the tree changes: an older tree is then made anew.
const RECIPE: u32 = 1;

/// Makes the tree unless one of the same recipe and packages is there. Returns its folder.
///
/// # Errors
/// debootstrap cannot be had, is not run as root, or fails; the packages cannot be installed.
pub(crate) fn ensure(bed: &Path) -> Result<PathBuf> {
    let tree = bed.join("tree");
    let stamp = bed.join("tree.stamp");
    let recipe = format!("{RECIPE} {SUITE} {}\n", PACKAGES.join(" "));
    if fs::read_to_string(&stamp).is_ok_and(|text| text == recipe) && tree.is_dir() {
        return Ok(tree);
    }
    let new = bed.join("tree.new");
    remove(&stamp, &tree)?;
    remove(&stamp, &new)?;
    make(bed, &new, PACKAGES, "the test bed is a Debian tree")?;
    fs::rename(&new, &tree).with_context(|| format!("cannot make {}", tree.display()))?;
    fs::write(&stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(tree)
}

/// Makes a tree with these packages in a folder that is not there yet. `reason` is part of messages.
///
/// # Errors
/// As [`ensure`].
pub(super) fn make(bed: &Path, tree: &Path, packages: &[&str], reason: &str) -> Result<()> {
    check_host(reason)?;
    bootstrap(bed, tree)?;
    install(bed, tree, packages)
}

/// Removes a tree, the stamp first, so that half a tree never counts as a whole one.
fn remove(stamp: &Path, tree: &Path) -> Result<()> {
    for result in [fs::remove_file(stamp), fs::remove_dir_all(tree)] {
        match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", tree.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sees to it that the host can make a tree.
fn check_host(reason: &str) -> Result<()> {
    let missing: Vec<&str> = [
        (sh::in_path("debootstrap"), "debootstrap"),
        (Path::new(KEYRING).exists(), "debian-archive-keyring"),
        (sh::in_path("gpgv"), "gpgv"),
    ]
    .into_iter()
    .filter_map(|(present, package)| (!present).then_some(package))
    .collect();
    host::install(&missing, reason)?;
    if !nix::unistd::geteuid().is_root() {
        bail!("{reason}, and debootstrap works for root only: run `sudo -E cargo xtask setup` once");
    }
    Ok(())
}

/// The smallest tree that has apt.
fn bootstrap(bed: &Path, tree: &Path) -> Result<()> {
    // What debootstrap mounts below the tree ends with this namespace, even when debootstrap is killed.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "debootstrap"]);
    command.args(["--variant=minbase", "--force-check-gpg"]).arg(format!("--keyring={KEYRING}"));
    command.arg(SUITE).arg(tree);
    let mirror = mirror();
    // A debootstrap older than the release has no script of its name; all since 2011 are the same one.
    let script = Path::new(SCRIPTS).join("sid");
    let knows = Path::new(SCRIPTS).join(SUITE).exists();
    match (&mirror, knows) {
        (Some(mirror), true) => command.arg(mirror),
        (Some(mirror), false) => command.arg(mirror).arg(script),
        // With an empty mirror debootstrap takes its default.
        (None, true) => &mut command,
        (None, false) => command.arg("").arg(script),
    };
    sh::logged("Debian base system", &bed.join("log/debootstrap.log"), &mut command)
}

/// The bed's packages, installed by the tree's apt with the host's network settings.
fn install(bed: &Path, tree: &Path, packages: &[&str]) -> Result<()> {
    let settings = tree.join("etc/apt/apt.conf.d/90host");
    fs::write(&settings, network_settings()?)
        .with_context(|| format!("cannot write {}", settings.display()))?;
    // The tree stands in for the host's /etc, so it must know the machine's names.
    let hosts = fs::read_to_string("/etc/hosts")
        .unwrap_or_else(|_| "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".into());
    fs::write(tree.join("etc/hosts"), hosts).context("cannot write etc/hosts of the tree")?;
    // Packages of the tree must not start services (Debian policy, section 9.3.3).
    let policy = tree.join("usr/sbin/policy-rc.d");
    fs::write(&policy, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d of the tree")?;
    make_executable(&policy)?;

    let log = bed.join("log");
    sh::logged("package lists", &log.join("apt-update.log"), &mut inside(tree, "apt-get -q update"))?;
    let line = format!(
        "apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io install {}",
        packages.join(" ")
    );
    sh::logged("packages", &log.join("apt-install.log"), &mut inside(tree, &line))
}

/// A command line to be run by the tree's shell, with mounts that end with it.
pub(crate) fn inside(tree: &Path, line: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--", "/bin/sh", "-ec"])
        .arg(
            "mount -t proc proc \"$0/proc\"; mount -t sysfs sysfs \"$0/sys\"; mount --rbind /dev \"$0/dev\"\n\
             exec chroot \"$0\" /bin/sh -ec \"$1\"",
        )
        .arg(tree)
        .arg(line)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// The archive of Debian that the host's apt uses, if it has one that debootstrap can use too.
fn mirror() -> Option<String> {
    let format = "$(ORIGIN)\t$(LABEL)\t$(COMPONENT)\t$(REPO_URI)";
    let targets = sh::capture(Command::new("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))
    .ok()?;
    find_mirror(&targets)
}

/// First line of `apt-get indextargets` that is Debian's main archive (not its security archive).
fn find_mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut fields = line.split('\t');
        let wanted = ["Debian", "Debian", "main"];
        if !wanted.iter().all(|name| fields.next() == Some(name)) {
            return None;
        }
        let uri = fields.next()?;
        ["http://", "https://", "file:/"].iter().any(|scheme| uri.starts_with(scheme)).then(|| uri.to_owned())
    })
}

/// The host's proxies and rules on the age of lists, as a file for apt.
fn network_settings() -> Result<String> {
    if !sh::in_path("apt-config") {
        return Ok(String::new());
    }
    let dump = sh::capture(Command::new("apt-config").arg("dump"))?;
    let mut text = String::from("// From the host's apt.\n");
    let wanted = ["Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Max-ValidTime"];
    for line in dump.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{line}");
    }
    Ok(text)
}

/// Sets the mode of a file to 0755.
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot change the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_taken_and_not_the_security_archive() {
        let targets = "Debian\tDebian-Security\tmain\thttp://a.example/security/\n\
                       Other\tDebian\tmain\thttp://b.example/\n\
                       Debian\tDebian\tmain\tcdrom://x/\n\
                       Debian\tDebian\tmain\thttp://c.example/debian/\n";
        assert_eq!(find_mirror(targets).as_deref(), Some("http://c.example/debian/"));
        assert_eq!(find_mirror(""), None);
    }
}
