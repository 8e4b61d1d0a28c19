//! [`Holes`]: what must be no more than holes in a disk's image when the guest is done.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

const MEBIBYTE: i64 = 1 << 20;

/// Parts of an image that were discarded; all others have their room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holes {
    /// The image, which is called as its disk.
    pub(super) image: String,
    /// First and length, in MiB, ascending.
    ranges: Vec<(i64, i64)>,
}

impl Holes {
    /// Of the words `IMAGE FIRST+LENGTH…`.
    pub(super) fn parse(line: &str) -> Result<Holes> {
        let mut words = line.split_whitespace();
        let image = words.next().context("`holes` names a disk")?.to_owned();
        let range = |word: &str| -> Option<(i64, i64)> {
            let (first, length) = word.split_once('+')?;
            Some((first.parse().ok()?, length.parse().ok().filter(|length| *length > 0)?))
        };
        let ranges: Vec<_> = words
            .map(|word| range(word).with_context(|| format!("`{word}` is not FIRST+LENGTH in MiB")))
            .collect::<Result<_>>()?;
        ensure!(!ranges.is_empty(), "`holes` has a range at least");
        Ok(Holes { image, ranges })
    }

    /// # Errors
    /// A range has data, or something else was discarded too, or the image cannot be read.
    pub(super) fn check(&self, image: &Path) -> Result<()> {
        let file = File::open(image).with_context(|| format!("cannot open {}", image.display()))?;
        let facts = file.metadata().with_context(|| format!("cannot look at {}", image.display()))?;
        for &(first, length) in &self.ranges {
            let behind = (first + length) * MEBIBYTE;
            let data = next_data(&file, first * MEBIBYTE)?;
            ensure!(
                data.is_none_or(|data| data >= behind),
                "{length} MiB of the image {} at {first} MiB are no hole",
                self.image
            );
        }
        // Not by looking for holes: zeroes that keep their room are called holes too. What file systems need beside
        // the data is far less than a mebibyte.
        let holes = self.ranges.iter().map(|(_, length)| length).sum::<i64>();
        let data = i64::try_from(facts.len()).context("a long image")? / MEBIBYTE - holes;
        let used = i64::try_from(facts.blocks()).context("a large image")? * 512 / MEBIBYTE;
        ensure!(used == data, "the image {} has room for {used} MiB, not for {data} MiB", self.image);
        Ok(())
    }
}

/// The next data; `None`: there is none.
fn next_data(file: &File, from: i64) -> Result<Option<i64>> {
    match lseek(file, from, Whence::SeekData) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENXIO) => Ok(None),
        Err(cause) => Err(cause).context("cannot ask for holes"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_line_names_disk_and_ranges() {
        let holes = Holes::parse("disk 1+2 8+1").unwrap();
        assert_eq!((holes.image.as_str(), &holes.ranges[..]), ("disk", &[(1, 2), (8, 1)][..]));
        for line in ["", "disk", "disk 1", "disk 1+0", "disk x+1"] {
            assert!(Holes::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn holes_are_where_they_should_be_and_nowhere_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 << 20).unwrap();
        for mebibyte in [0, 2, 3] {
            file.as_file().write_all_at(&[1; 1 << 20], mebibyte << 20).unwrap();
        }
        let check = |line| Holes::parse(line).unwrap().check(file.path());
        check("disk 1+1").unwrap();
        for line in ["disk 1+2", "disk 0+1", "disk 2+1", "disk 1+1 3+1"] {
            assert!(check(line).is_err(), "{line}");
        }
    }
}
