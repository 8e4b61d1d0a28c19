//! The programs of this repository that run in the guest, built if need be.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{dist, repo, sh};

/// Programs of the crate `tests` that scenarios ask for, besides the gateway that all of them have.
pub(super) const ON_DEMAND: &[&str] = &["device-conformance"];
/// The gateway as a Debian package, which scenarios that ask for it find in `/host`.
pub(super) const PACKAGE: &str = "gateway.deb";
/// The feature that they need. It has a target folder of its own, as in `tests/src/binary.rs`: what it brings would
/// otherwise come into the gateway.
const FEATURE: &str = "back-end";

/// The gateway in the profile of this program, or as it is shipped. `GATEWAY_TESTS_BINARY` names another one.
///
/// # Errors
/// It cannot be built.
pub(super) fn gateway(shipped: bool) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GATEWAY_TESTS_BINARY") {
        return Ok(path.into());
    }
    // With the whole workspace, as `cargo xtask test` builds it, or cargo would build the crates once more with other
    // features.
    let mut cargo = repo::cargo()?;
    cargo.args(["build", "--quiet", "--workspace", "--bins", "--locked"]);
    let own = std::env::current_exe().context("where this program lies is unknown")?;
    let profile = own.parent().context("this program is in no target folder")?;
    if !shipped && profile.ends_with("debug") {
        sh::run(&mut cargo)?;
        return Ok(own.with_file_name("gateway"));
    }
    sh::run(cargo.arg("--release"))?;
    Ok(profile.with_file_name("release").join("gateway"))
}

/// One of the others, in the profile of this program.
///
/// # Errors
/// It cannot be built.
pub(super) fn on_demand(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this program lies is unknown")?;
    let profile = own.parent().context("this program is in no target folder")?;
    let target = profile.parent().context("this program is in no target folder")?.join(FEATURE);
    let folder = profile.file_name().context("this program is in no target folder")?;
    let mut cargo = repo::cargo()?;
    cargo.args(["build", "--quiet", "--package", "tests", "--features", FEATURE, "--bin", name, "--locked"]);
    // The folder of the profile `dev` is called otherwise than the profile.
    cargo.arg("--profile").arg(if folder == "debug" { "dev".as_ref() } else { folder });
    cargo.arg("--target-dir").arg(&target);
    sh::run(&mut cargo)?;
    Ok(target.join(folder).join(name))
}

/// The gateway as a Debian package.
///
/// # Errors
/// It cannot be built or packed.
pub(super) fn package(gateway: &Path, out: &Path) -> Result<PathBuf> {
    Ok(dist::make(gateway, out)?.deb)
}
