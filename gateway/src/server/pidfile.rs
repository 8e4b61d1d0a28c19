//! [`PidFile`]: tells other programs which process this is, as soon as it serves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use drivers::Error;

/// A file with this process's id. Dropping this removes it, unless another process has written its own by now.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the id and a newline. A file that is there already is replaced. Whoever waits for the file never sees it
    /// half written.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn write(path: &Path) -> Result<PidFile, Error> {
        let failed = |cause: io::Error| {
            Error::system(format!("write pid file '{}'", path.display()), &cause)
                .hint("its folder must exist, and you must be allowed to write to it")
        };
        match fs::metadata(path) {
            // A pipe, a terminal or the like is written to and stays.
            Ok(facts) if !facts.is_file() => {
                fs::OpenOptions::new()
                    .write(true)
                    .open(path)
                    .and_then(|mut file| io::Write::write_all(&mut file, text().as_bytes()))
                    .map_err(failed)?;
            }
            _ => replace(path).map_err(failed)?,
        }
        Ok(PidFile { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let is_file = fs::metadata(&self.path).is_ok_and(|facts| facts.is_file());
        let ours = is_file && fs::read_to_string(&self.path).is_ok_and(|found| found == text());
        if ours && let Err(cause) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove pid file {}: {cause}", self.path.display());
        }
    }
}

fn text() -> String {
    format!("{}\n", std::process::id())
}

/// Puts the file there complete, by its new name.
fn replace(path: &Path) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    // A process with the same number may have left one behind.
    let _ = fs::remove_file(&new);
    // Fails on whatever is there, links included, so nobody can prepare the place.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&new)?;
    let result = io::Write::write_all(&mut file, text().as_bytes()).and_then(|()| fs::rename(&new, path));
    if result.is_err() {
        let _ = fs::remove_file(&new);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn the_file_has_the_id_and_goes_with_its_owner() {
        let folder = folder();
        let path = folder.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let folder = folder();
        let path = folder.path().join("pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let folder = folder();
        let path = folder.path().join("missing/pid");
        let text = PidFile::write(&path).unwrap_err().to_string();
        assert!(text.contains("missing/pid") && text.contains("must exist"), "{text}");
        assert!(PidFile::write(folder.path()).is_err(), "a folder is no file");
    }
}
