//! Image files for tests, on a disk or in memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::binary;

/// Kind of file system that an image lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// That of the target folder, which is a disk on any sensible machine.
    Disk,
    /// `/dev/shm`, which is a tmpfs.
    Memory,
}

/// An image file of its own, gone when dropped.
#[derive(Debug)]
pub struct Image {
    folder: TempDir,
    path: PathBuf,
}

impl Image {
    /// A sparse image of this size in bytes.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn sparse(place: Place, len_bytes: u64) -> Image {
        let image = Self::place(place);
        let file = File::create(&image.path).expect("the folder is ours");
        file.set_len(len_bytes).expect("the file system takes sparse files of any size");
        image
    }

    /// An image with these contents.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn with(place: Place, contents: &[u8]) -> Image {
        let image = Self::place(place);
        std::fs::write(&image.path, contents).expect("there is space for the image");
        image
    }

    /// A copy of another image, with its holes.
    ///
    /// # Panics
    /// It cannot be copied.
    #[must_use]
    pub fn copy_of(place: Place, original: &Path) -> Image {
        let image = Self::place(place);
        let mut copy = std::process::Command::new("cp");
        copy.arg("--sparse=always").arg(original).arg(&image.path);
        let _ = crate::run(&mut copy).success();
        image
    }

    fn place(place: Place) -> Image {
        let parent = match place {
            Place::Disk => binary::scratch_folder(),
            Place::Memory => PathBuf::from("/dev/shm"),
        };
        let folder = tempfile::Builder::new()
            .prefix("gateway-test-")
            .tempdir_in(&parent)
            .unwrap_or_else(|error| panic!("no folder for an image in {}: {error}", parent.display()));
        let path = folder.path().join("image");
        Image { folder, path }
    }

    /// Path of the image.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another path in the same folder.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The property `path=…` for a driver.
    #[must_use]
    pub fn property(&self) -> String {
        format!("path={}", self.path.display())
    }
}
