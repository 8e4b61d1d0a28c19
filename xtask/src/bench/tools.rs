//! Where the programs of the comparison are, and their versions.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::server::warn;
use super::{backend, part};
use crate::bed::Bed;

/// Programs of our own besides the gateway, for measurements only.
const OWN: [&str; 2] = [backend::OWN, part::PROGRAM];

/// The programs of the comparison.
#[derive(Debug)]
pub(crate) struct Tools {
    gateway: PathBuf,
    /// Folder of the other programs of our own.
    folder: PathBuf,
    bed: Bed,
}

impl Tools {
    /// Builds the `wanted` programs of our own with the release profile; the gateway not if `gateway` names another
    /// release build.
    ///
    /// # Errors
    /// One of them does not build, or the gateway named lies in a folder of debug builds.
    pub(crate) fn new(gateway: Option<&Path>, wanted: &[&str]) -> anyhow::Result<Self> {
        let named = gateway.is_some();
        let own = std::env::current_exe().context("path of this program")?;
        let gateway = gateway.map_or_else(|| own.with_file_name("gateway"), Path::to_path_buf);
        if wanted.contains(&"gateway") && !named {
            build(&["--package", "gateway"])?;
        }
        for program in OWN.into_iter().filter(|program| wanted.contains(program)) {
            build(&["--package", "tests", "--features", "back-end", "--bin", program])?;
        }
        let debug = gateway.components().any(|part| part.as_os_str() == "debug");
        ensure!(!debug, "{} is a debug build; only release builds are measured", gateway.display());
        let folder = own.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { gateway, folder, bed: Bed::locate()? })
    }

    /// Path of a program of our own.
    fn own(&self, program: &str) -> Option<PathBuf> {
        match program {
            "gateway" => Some(self.gateway.clone()),
            _ => OWN.contains(&program).then(|| self.folder.join(program)),
        }
    }

    /// Path of `program`: of our own as built, of others in the test bed, else in `PATH`.
    ///
    /// # Errors
    /// It is nowhere.
    pub(crate) fn find(&self, program: &str) -> anyhow::Result<PathBuf> {
        if let Some(path) = self.own(program) {
            ensure!(path.is_file(), "{} does not exist", path.display());
            return Ok(path);
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
        if self.own(program).is_none() && !path.starts_with(self.bed.root()) {
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

/// Builds a program of the workspace next to this one, which is a release build itself.
fn build(choice: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--release"]).args(choice).status();
    let status = status.context("running cargo")?;
    ensure!(status.success(), "`cargo build --release {}` ended with {status}", choice.join(" "));
    Ok(())
}
