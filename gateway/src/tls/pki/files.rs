//! [`Files`]: what is to be written, all or nothing as far as can be seen before.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use drivers::Error;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    Public,
    Secret,
}

/// Files that are not there yet.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(PathBuf, Vec<u8>, Secrecy)>);

impl Files {
    /// A file of this name, in the folder to be made.
    pub(super) fn add(&mut self, name: &str, content: &[u8], secrecy: Secrecy) {
        self.0.push((name.into(), content.to_vec(), secrecy));
    }

    /// Writes them all. Nothing is written if one of them is there already.
    ///
    /// # Errors
    /// One is there, or the system said no.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        if let Some(path) = self.0.iter().map(|(name, ..)| folder.join(name)).find(|path| path.exists()) {
            return Err(Error::device(format!("'{}' is there already", path.display()))
                .hint("choose a folder that does not exist"));
        }
        for (name, content, secrecy) in &self.0 {
            let path = folder.join(name);
            write(&path, content, *secrecy)
                .map_err(|cause| Error::system(format!("write '{}'", path.display()), &cause))?;
        }
        Ok(())
    }
}

fn write(path: &Path, content: &[u8], secrecy: Secrecy) -> std::io::Result<()> {
    let mode = if secrecy == Secrecy::Secret { 0o600 } else { 0o644 };
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)
}
