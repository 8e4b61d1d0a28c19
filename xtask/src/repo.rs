//! The work tree of this repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::sh;

/// Folder of the workspace.
pub(crate) fn root() -> Result<PathBuf> {
    // Where this program was compiled; cargo compiles it anew when the folder moves.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(Path::to_owned).context("the crate xtask has no folder above it")
}

/// The cargo that runs this program, in the root of the workspace.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// A file of the repository with its text.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Contents.
    pub(crate) text: String,
}

impl File {
    /// A file that is only in memory, for tests of rules.
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether its name ends so, with the dot.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// Every text file that is in the repository or would be after `git add`.
pub(crate) fn files() -> Result<Vec<File>> {
    let root = root()?;
    let list = sh::capture(
        Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root),
    )?;
    let mut files = Vec::new();
    for path in list.split_terminator('\0') {
        // A file that was removed and not committed yet is still listed; one that is not UTF-8 is no text.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}
