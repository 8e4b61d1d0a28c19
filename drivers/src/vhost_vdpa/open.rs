//! From properties to an open device node.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;

use crate::driver::{OpenMode, Opener};
use crate::error::Error;
use crate::property::Settings;
use crate::sys::file;

/// What to look for.
pub(super) const NAMES: &str = "vhost-vdpa devices are called /dev/vhost-vdpa-N";

/// An open device node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) file: File,
    /// What messages call it.
    pub(super) name: String,
    pub(super) path: String,
}

impl Node {
    /// Opens what the properties name.
    ///
    /// # Errors
    /// Nothing is named, two things are, or it cannot be opened or is no character device.
    pub(super) fn open(settings: &Settings, opener: &dyn Opener) -> Result<Node, Error> {
        let node = match (settings.path("path"), settings.int("fd")) {
            (Some(path), None) => {
                let name = format!("'{}'", path.display());
                let mode = OpenMode { write: true, direct: false };
                let file = opener.open(path, mode).map_err(|cause| open_failed(&name, &cause))?;
                Node { file: file.into(), name, path: path.display().to_string() }
            }
            (None, Some(fd)) => {
                let name = format!("descriptor {fd}");
                let use_failed = |cause| Error::system(format!("use {name}"), &cause);
                let file = duplicate(fd).map_err(|cause| {
                    use_failed(cause)
                        .hint("the program that starts this one must open the device and leave it open")
                })?;
                let flags = file::status_flags(file.as_fd()).map_err(use_failed)?;
                if flags & libc::O_ACCMODE != libc::O_RDWR {
                    return Err(Error::device(format!("{name} is not open for reading and writing"))
                        .hint(format!("in a shell: {fd}<>/dev/vhost-vdpa-0")));
                }
                Node { file: file.into(), name, path: String::new() }
            }
            (Some(_), Some(_)) => {
                return Err(Error::usage("driver 'virtio-blk-vhost-vdpa' got both 'path' and 'fd'")
                    .hint("give one of them"));
            }
            (None, None) => {
                return Err(Error::usage("driver 'virtio-blk-vhost-vdpa' needs the property 'path' or 'fd'")
                    .hint("for example: virtio-blk-vhost-vdpa path=/dev/vhost-vdpa-0"));
            }
        };
        let is_device = node.file.metadata().is_ok_and(|metadata| metadata.file_type().is_char_device());
        match is_device {
            true => Ok(node),
            false => Err(Error::device(format!("{} is no character device", node.name)).hint(NAMES)),
        }
    }
}

fn duplicate(fd: i64) -> io::Result<OwnedFd> {
    i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF)).and_then(file::duplicate)
}

fn open_failed(name: &str, cause: &io::Error) -> Error {
    let error = Error::system(format!("open {name}"), cause);
    match cause.raw_os_error() {
        Some(libc::ENOENT) => {
            error.hint("load the kernel module vhost_vdpa, and bind the vDPA device to it: vdpa dev show")
        }
        Some(libc::EACCES | libc::EPERM) => {
            error.hint("the device node's permissions do not allow it: it must be readable and writable")
        }
        Some(libc::EBUSY) => error.hint("another program has it open; such a device has one user at a time"),
        Some(libc::EIO) => {
            error.hint("what is behind it does not answer: make the device anew, vdpa dev del and add")
        }
        Some(libc::EISDIR) => error.hint(NAMES),
        Some(libc::ENODEV | libc::ENXIO) => error.hint("it is no device, or the device behind it is gone"),
        _ => error,
    }
}
