//! Archives that the kernel unpacks into its first file system (Linux, driver-api/early-userspace/buffer-format).
//!
//! The format is "newc": a header of hexadecimal digits, a name and contents, each padded to four bytes. An archive
//! that is padded at its end may be followed by another, which adds to it and replaces files of the same name.

use std::collections::BTreeSet;
use std::io::{self, Write};

/// Everything in an archive begins at a multiple of this.
const ALIGNMENT_BYTES: usize = 4;
/// Types of a file, as in `st_mode`.
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive that is being written. Folders above a file need not be named.
pub(super) struct Archive<W> {
    out: W,
    /// Number of the next file: none is a second name of another.
    inode: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, inode: 1, folders: BTreeSet::new() }
    }

    /// Adds a folder and those above it. Paths have no first slash.
    ///
    /// # Errors
    /// As the writer's.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        if self.folders.contains(path) {
            return Ok(());
        }
        self.folder_above(path)?;
        self.folders.insert(path.to_owned());
        self.entry(path, FOLDER | 0o755, &[])
    }

    /// Adds a regular file that everyone may read.
    ///
    /// # Errors
    /// As the writer's; also when the contents are longer than the format can say.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) -> io::Result<()> {
        self.folder_above(path)?;
        self.entry(path, REGULAR | 0o644, contents)
    }

    /// Adds a regular file that everyone may run.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub(super) fn program(&mut self, path: &str, contents: &[u8]) -> io::Result<()> {
        self.folder_above(path)?;
        self.entry(path, REGULAR | 0o755, contents)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As the writer's.
    pub(super) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.folder_above(path)?;
        self.entry(path, LINK | 0o777, target.as_bytes())
    }

    /// Writes the end, after which another archive may follow.
    ///
    /// # Errors
    /// As the writer's.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn folder_above(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((above, _)) => self.folder(above),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} is too long"));
        let length = u32::try_from(contents.len()).map_err(too_long)?;
        // It counts the byte that ends the name.
        let name_length = u32::try_from(path.len() + 1).map_err(too_long)?;
        // inode, mode, user, group, links, time, length, device (2), device of a node (2), length of name, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        self.inode += 1;
        let mut head = String::from("070701");
        for field in fields {
            head.push_str(&format!("{field:08x}"));
        }
        head.push_str(path);
        head.push('\0');
        self.padded(head.as_bytes())?;
        self.padded(contents)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let rest = bytes.len().next_multiple_of(ALIGNMENT_BYTES) - bytes.len();
        self.out.write_all(&[0; ALIGNMENT_BYTES][..rest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, modes and contents, read as the kernel does: past zero bytes to the next header, past trailers.
    fn read(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == 0 {
                at += 1;
                continue;
            }
            assert_eq!(at % 4, 0, "a header must be aligned");
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |index: usize| {
                let start = at + 6 + 8 * index;
                u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
            };
            let (mode, length, name_length) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[at + 110..at + 110 + name_length - 1].to_vec()).unwrap();
            let start = (at + 110 + name_length).next_multiple_of(4);
            at = (start + length).next_multiple_of(4);
            if name != "TRAILER!!!" {
                entries.push((name, mode, bytes[start..start + length].to_vec()));
            }
        }
        entries
    }

    #[test]
    fn folders_come_once_and_before_what_they_contain() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a/b/one", b"1").unwrap();
        archive.file("a/b/two", b"22").unwrap();
        archive.link("a/three", "b/one").unwrap();
        let entries = read(&archive.finish().unwrap());
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/b/two", "a/three"]);
        assert_eq!(entries[0].1, 0o040_755);
        assert_eq!((entries[3].1, entries[3].2.as_slice()), (0o100_644, &b"22"[..]));
        assert_eq!((entries[4].1, entries[4].2.as_slice()), (0o120_777, &b"b/one"[..]));
    }

    #[test]
    fn an_archive_may_follow_another() {
        for length in 0..5 {
            let mut first = Archive::new(Vec::new());
            first.file("first", &vec![7; length]).unwrap();
            let mut second = Archive::new(first.finish().unwrap());
            second.program("second", b"#!").unwrap();
            let bytes = second.finish().unwrap();
            assert_eq!(bytes.len() % 4, 0);
            let entries = read(&bytes);
            assert_eq!(entries[0], ("first".into(), 0o100_644, vec![7; length]));
            assert_eq!(entries[1], ("second".into(), 0o100_755, b"#!".to_vec()));
        }
    }
}
