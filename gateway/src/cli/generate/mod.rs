//! `gateway generate`: files of a package that are made of the tables of options and properties.

mod man;

use std::fs;
use std::path::Path;

use drivers::Error;

use super::args::{Generate, Generated};
use super::complete;

/// Writes the files; what is to be printed.
///
/// # Errors
/// The folder or a file cannot be made.
pub(super) fn write(wanted: &Generate) -> Result<String, Error> {
    fs::create_dir_all(&wanted.dir)
        .map_err(|cause| Error::system(format!("make the folder '{}'", wanted.dir.display()), &cause))?;
    let files: Vec<(String, String)> = match wanted.what {
        Generated::Man => man::pages(&wanted.date),
        Generated::Completions => {
            complete::SCRIPTS.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
        }
    };
    for (name, text) in &files {
        write_file(&wanted.dir.join(name), text)?;
    }
    Ok(String::new())
}

fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|cause| Error::system(format!("write '{}'", path.display()), &cause))
}
