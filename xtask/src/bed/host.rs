//! The host itself as test bed: Debian 13 or later has every tool in a version that will do.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use super::packages::PACKAGES;
use crate::sh;

/// First release of Debian whose tools are recent enough.
const DEBIAN_RELEASE_MIN: u32 = 13;

/// Whether the host is a Debian whose own packages will do.
pub(crate) fn serves() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| is_recent_debian(&text))
}

/// Reads `os-release` (systemd, os-release(5)). Debian's testing and unstable have no `VERSION_ID`.
fn is_recent_debian(os_release: &str) -> bool {
    let field = |name: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    };
    field("ID") == Some("debian")
        && field("VERSION_ID")
            .is_none_or(|version| version.parse().is_ok_and(|number: u32| number >= DEBIAN_RELEASE_MIN))
}

/// Installs those of the bed's packages that the host lacks.
///
/// # Errors
/// Some are missing and the user is not root; `apt-get` fails.
pub(crate) fn install_missing() -> Result<()> {
    let missing: Vec<&str> = PACKAGES.iter().copied().filter(|package| !is_installed(package)).collect();
    install(&missing, "the tests need tools of other projects")
}

/// Installs packages on the host, if there are any in the list.
///
/// # Errors
/// The user is not root, the host has no `apt-get`, or it fails. `reason` is part of the message.
pub(crate) fn install(packages: &[&str], reason: &str) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !sh::in_path("apt-get") {
        bail!("{reason}: install {list} with this system's package manager, then try again");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("{reason}: run `sudo apt-get install {list}`, then try again");
    }
    // The lists of a fresh machine are often empty; of an old one, out of date.
    sh::run(Command::new("apt-get").args(["-qq", "update"]))?;
    sh::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(packages),
    )
}

/// Whether dpkg has the package, configured.
fn is_installed(package: &str) -> bool {
    sh::capture(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_recent_from_13_on_and_without_a_number() {
        assert!(is_recent_debian("NAME=x\nVERSION_ID=\"13\"\nID=debian\n"));
        assert!(is_recent_debian("ID=debian\nVERSION_CODENAME=forky\n"));
        assert!(!is_recent_debian("ID=debian\nVERSION_ID=\"12\"\n"));
        assert!(!is_recent_debian("ID=ubuntu\nVERSION_ID=\"24.04\"\n"));
        assert!(!is_recent_debian(""));
    }
}
