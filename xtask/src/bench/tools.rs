//! Where the programs of the comparison are, and their versions.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::server::warn;
use crate::bed::Bed;

/// The programs of the comparison.
#[derive(Debug)]
pub(crate) struct Tools {
    gateway: PathBuf,
    bed: Bed,
}

impl Tools {
    /// Builds the gateway with the release profile, unless `gateway` names another release build or it is not
    /// `wanted`.
    ///
    /// # Errors
    /// It does not build, or the one named lies in a folder of debug builds.
    pub(crate) fn new(gateway: Option<&Path>, wanted: bool) -> anyhow::Result<Self> {
        let named = gateway.is_some();
        let gateway = match gateway {
            Some(path) => path.to_path_buf(),
            None => std::env::current_exe().context("path of this program")?.with_file_name("gateway"),
        };
        if wanted && !named {
            build_gateway()?;
        }
        let debug = gateway.components().any(|part| part.as_os_str() == "debug");
        ensure!(!debug, "{} is a debug build; only release builds are measured", gateway.display());
        Ok(Self { gateway, bed: Bed::locate()? })
    }

    /// Path of `program`: of the gateway as built, of others in the test bed, else in `PATH`.
    ///
    /// # Errors
    /// It is nowhere.
    pub(crate) fn find(&self, program: &str) -> anyhow::Result<PathBuf> {
        if program == "gateway" {
            ensure!(self.gateway.is_file(), "{} does not exist", self.gateway.display());
            return Ok(self.gateway.clone());
        }
        self.bed.tool(program).or_else(|error| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path)
                .map(|folder| folder.join(program))
                .find(|path| path.is_file())
                .ok_or(error)
        })
    }

    /// First line of what `program --version` prints; says so when the program is not the test bed's.
    ///
    /// # Errors
    /// It is missing or cannot be run.
    pub(crate) fn version(&self, program: &str) -> anyhow::Result<String> {
        let path = self.find(program)?;
        if program != "gateway" && !path.starts_with(self.bed.root()) {
            warn(format_args!(
                "{} is the host's, not the test bed's (`cargo xtask setup` makes one)",
                path.display()
            ));
        }
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .with_context(|| format!("running {}", path.display()))?;
        if !output.status.success() {
            bail!("{} --version: {}", path.display(), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().into())
    }
}

/// Builds `gateway` next to this program, which is a release build itself.
fn build_gateway() -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--release", "--package", "gateway"]).status();
    let status = status.context("running cargo")?;
    ensure!(status.success(), "the gateway does not build: {status}");
    Ok(())
}
