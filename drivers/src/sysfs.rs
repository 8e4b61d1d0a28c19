//! [`BlockAttributes`]: what sysfs says about a block device, or about the device under a file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::driver::{OpenMode, Opener};

/// The attributes below `/sys/dev/block/MAJOR:MINOR` (`Documentation/ABI/stable/sysfs-block` of the kernel).
///
/// A partition has no `queue` folder of its own: its disk's, one level up, holds for it.
pub(crate) struct BlockAttributes<'a> {
    folder: PathBuf,
    opener: &'a dyn Opener,
}

impl<'a> BlockAttributes<'a> {
    /// The attributes of device number `device` (`st_rdev` of a block device, `st_dev` of a file).
    pub(crate) fn of(device: u64, opener: &'a dyn Opener) -> BlockAttributes<'a> {
        let (major, minor) = (libc::major(device), libc::minor(device));
        BlockAttributes { folder: PathBuf::from(format!("/sys/dev/block/{major}:{minor}")), opener }
    }

    /// The attributes of the disk of this name, as `nvme0n1`.
    pub(crate) fn of_disk(name: &str, opener: &'a dyn Opener) -> BlockAttributes<'a> {
        BlockAttributes { folder: Path::new("/sys/block").join(name), opener }
    }

    /// An attribute of the request queue; `None` when it is missing, as on file systems without a device.
    pub(crate) fn queue(&self, name: &str) -> Option<String> {
        read(&self.folder.join("queue").join(name), self.opener)
            .or_else(|| read(&self.folder.join("../queue").join(name), self.opener))
    }

    /// A number of the request queue.
    pub(crate) fn queue_number(&self, name: &str) -> Option<u64> {
        self.queue(name)?.parse().ok()
    }

    /// A number of the device or partition itself.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        read(&self.folder.join(name), self.opener)?.parse().ok()
    }
}

/// An attribute as text, without blanks around it; `None`: there is none.
pub(crate) fn read(path: &Path, opener: &dyn Opener) -> Option<String> {
    let mode = OpenMode { write: false, direct: false };
    let mut text = String::new();
    File::from(opener.open(path, mode).ok()?).take(4096).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers for one path and remembers what was asked.
    struct OnePath(&'static str, Mutex<Vec<PathBuf>>);

    impl Opener for OnePath {
        fn open(&self, path: &Path, _mode: OpenMode) -> std::io::Result<std::os::fd::OwnedFd> {
            self.1.lock().unwrap().push(path.into());
            if path != Path::new(self.0) {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            let mut file = tempfile::tempfile()?;
            std::io::Write::write_all(&mut file, b"4096\n")?;
            std::io::Seek::rewind(&mut file)?;
            Ok(file.into())
        }

        fn connect(&self, _path: &Path) -> std::io::Result<std::os::unix::net::UnixStream> {
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn a_partition_has_the_queue_of_its_disk() {
        let opener = OnePath("/sys/dev/block/8:1/../queue/logical_block_size", Mutex::default());
        let attributes = BlockAttributes::of(libc::makedev(8, 1), &opener);
        assert_eq!(attributes.queue_number("logical_block_size"), Some(4096));
        assert_eq!(attributes.queue_number("fua"), None);
        assert_eq!(opener.1.lock().unwrap().len(), 4);
    }
}
