//! [`Target`]: the file or block device behind the disk, opened, identified and measured.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use super::NAME;
use crate::driver::{OpenMode, Opener};
use crate::error::Error;
use crate::opened::{Advice, Opened};
use crate::property::Settings;
use crate::sys::{block, file};

/// What kind of thing was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Block,
}

/// The open file or device.
#[derive(Debug)]
pub(super) struct Target {
    file: OwnedFd,
    /// The same file without `O_DIRECT`, for the tail of a size that is no multiple of the block.
    buffered: Option<OwnedFd>,
    /// What messages call it.
    pub(super) name: String,
    /// The path, if one was given.
    pub(super) path: Option<String>,
    pub(super) kind: Kind,
    /// Device number: of the block device itself, or of the one the file lies on.
    pub(super) device: u64,
    pub(super) direct: bool,
    pub(super) read_only: bool,
}

impl Target {
    /// Opens what `path` or `fd` names, as `direct` and `read-only` say.
    ///
    /// # Errors
    /// Wrong combinations of properties; everything `open(2)` refuses; things that are no file or block device.
    pub(super) fn open(settings: &Settings, opener: &dyn Opener) -> Result<Target, Error> {
        let advice = Advice {
            driver: NAME,
            example: "path=disk.img",
            missing: "check the path; images are not created",
        };
        let opened = Opened::new(advice, settings, opener)?;
        let file = File::from(opened.fd);
        let facts =
            file.metadata().map_err(|cause| Error::system(format!("ask what {} is", opened.name), &cause))?;
        let (kind, device) = match facts.file_type() {
            kind if kind.is_file() => (Kind::Regular, facts.dev()),
            kind if kind.is_block_device() => (Kind::Block, facts.rdev()),
            kind => return Err(wrong_kind(&opened.name, kind)),
        };
        let mut target = Target {
            file: file.into(),
            buffered: None,
            name: opened.name,
            path: opened.path,
            kind,
            device,
            direct: opened.direct,
            read_only: opened.read_only,
        };
        target.find_out_read_only(settings)?;
        if target.direct {
            target.buffered = target.reopen_buffered(opener).ok();
        }
        Ok(target)
    }

    /// The descriptor of the disk.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The descriptor for what `O_DIRECT` cannot reach.
    pub(super) fn buffered(&self) -> Option<BorrowedFd<'_>> {
        self.buffered.as_ref().map(AsFd::as_fd)
    }

    /// The size as it is now, in bytes.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn size_bytes(&self) -> io::Result<u64> {
        file::size_bytes(self.file())
    }

    /// A block device may be open for writing and refuse every write.
    fn find_out_read_only(&mut self, settings: &Settings) -> Result<(), Error> {
        if self.kind != Kind::Block || self.read_only || !block::read_only(self.file()).unwrap_or(false) {
            return Ok(());
        }
        if settings.bool("read-only") == Some(false) {
            return Err(Error::device(format!(
                "{} is a read-only device, but read-only=false was given",
                self.name
            ))
            .hint("leave out read-only=false, or make it writable with: blockdev --setrw"));
        }
        tracing::info!("{} is served read-only: the device refuses writes", self.name);
        self.read_only = true;
        Ok(())
    }

    /// Opens the same file a second time, without `O_DIRECT`. The way through `/proc` works for descriptors and
    /// renamed files too.
    fn reopen_buffered(&self, opener: &dyn Opener) -> io::Result<OwnedFd> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        opener.open(&path, OpenMode { write: !self.read_only, direct: false })
    }
}

fn wrong_kind(name: &str, kind: std::fs::FileType) -> Error {
    let (what, hint) = if kind.is_dir() {
        ("a directory", "give an image file or a block device inside it")
    } else if kind.is_char_device() {
        ("a character device", "give the block device that belongs to it, or a driver made for it")
    } else if kind.is_socket() {
        ("a socket", "a vhost-user socket needs a virtio-blk-vhost-user driver")
    } else if kind.is_fifo() {
        ("a pipe", "give an image file or a block device")
    } else {
        ("neither a file nor a block device", "give an image file or a block device")
    };
    Error::device(format!("{name} is {what}; driver 'io_uring' serves regular files and block devices"))
        .hint(hint)
}
