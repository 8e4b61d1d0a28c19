//! [`Target`]: the generic device of a namespace, opened and identified.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::NAME;
use super::passthrough::{self, Memory};
use crate::driver::Opener;
use crate::error::Error;
use crate::nvme::command::Command;
use crate::nvme::disk::Ask;
use crate::nvme::identify::Answer;
use crate::nvme::spec::ANSWER_BYTES;
use crate::nvme::status::Status;
use crate::opened::{Advice, Opened};
use crate::property::Settings;
use crate::sys::nvme;
use crate::sysfs::{self, BlockAttributes};

/// The open device.
pub(super) struct Target {
    file: OwnedFd,
    /// What messages call it.
    pub(super) name: String,
    /// The path, if one was given.
    pub(super) path: Option<String>,
    pub(super) read_only: bool,
    /// Number of the namespace.
    pub(super) namespace: u32,
    /// The file of sysfs that is there as long as the device.
    uevent: PathBuf,
    /// The block device of the same namespace, as `nvme0n1`.
    block: Option<String>,
    opener: Arc<dyn Opener>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Target {
    /// Opens what `path` or `fd` names, as `read-only` says.
    ///
    /// # Errors
    /// Wrong combinations of properties; everything `open(2)` refuses; things that are no generic device.
    pub(super) fn open(settings: &Settings, opener: &Arc<dyn Opener>) -> Result<Target, Error> {
        let advice = Advice {
            driver: NAME,
            example: "path=/dev/ng0n1",
            missing: "'ls /dev/ng*' shows the generic devices of namespaces; Linux has them since 5.13",
        };
        let opened = Opened::new(advice, settings, &**opener)?;
        let file = File::from(opened.fd);
        let facts =
            file.metadata().map_err(|cause| Error::system(format!("ask what {} is", opened.name), &cause))?;
        if !facts.file_type().is_char_device() {
            return Err(wrong_kind(&opened.name, facts.file_type()));
        }
        let namespace = nvme::namespace(file.as_fd()).map_err(|cause| {
            let name = &opened.name;
            match cause.raw_os_error() {
                Some(libc::ENOTTY | libc::EINVAL) => Error::device(format!("{name} is no NVMe namespace"))
                    .hint("give the generic device of a namespace, /dev/ngXnY"),
                _ => Error::system(format!("ask {name} for its number"), &cause),
            }
        })?;
        let (major, minor) = (libc::major(facts.rdev()), libc::minor(facts.rdev()));
        let uevent = PathBuf::from(format!("/sys/dev/char/{major}:{minor}/uevent"));
        let block = sysfs::read(&uevent, &**opener).and_then(|text| block_name(&text));
        Ok(Target {
            file: file.into(),
            name: opened.name,
            path: opened.path,
            read_only: opened.read_only,
            namespace,
            uevent,
            block,
            opener: opener.clone(),
        })
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn number(&self) -> i64 {
        self.file.as_raw_fd().into()
    }

    /// Whether the device is still there.
    pub(super) fn is_there(&self) -> bool {
        sysfs::read(&self.uevent, &*self.opener).is_some()
    }

    /// A number of the block layer's queue for the namespace.
    pub(super) fn queue_number(&self, name: &str) -> Option<u64> {
        BlockAttributes::of_disk(self.block.as_ref()?, &*self.opener).queue_number(name)
    }

    /// The size as the kernel knows it now, if it serves the namespace as a block device too.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        /// The unit of the attribute, whatever the length of blocks.
        const SECTOR_BYTES: u64 = 512;
        let block = BlockAttributes::of_disk(self.block.as_ref()?, &*self.opener);
        block.number("size")?.checked_mul(SECTOR_BYTES)
    }
}

/// Commands of administration through one target.
pub(super) struct Admin<'a>(pub(super) &'a Target);

impl Ask for Admin<'_> {
    fn ask(&mut self, what: &str, command: &Command) -> Result<Box<Answer>, Error> {
        let Admin(Target { name, .. }) = self;
        let mut answer = Box::new([0; ANSWER_BYTES]);
        let words = passthrough::words(command, Memory::default());
        let status = nvme::administer(self.0.file(), &words, &mut answer[..]).map_err(|cause| {
            let error = Error::system(format!("have {name} {what}"), &cause);
            match cause.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => error.hint(
                    "before Linux 6.2, and for some commands since, commands to NVMe devices need the capability \
                     CAP_SYS_ADMIN",
                ),
                _ => error,
            }
        })?;
        match Status::from_passthrough(status) {
            status if status.is_success() => Ok(answer),
            status => Err(Error::device(format!("{name} does not {what}: {status}"))),
        }
    }
}

/// The name of the block device that belongs to a generic device, by the latter's `uevent`.
fn block_name(uevent: &str) -> Option<String> {
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let numbers = name.strip_prefix("ng")?;
    (!numbers.contains('/')).then(|| format!("nvme{numbers}"))
}

fn wrong_kind(name: &str, kind: std::fs::FileType) -> Error {
    let (what, hint) = if kind.is_block_device() {
        ("a block device", "give the generic device beside it, /dev/ngXnY, or use the driver io_uring")
    } else if kind.is_file() {
        ("a regular file", "the driver io_uring serves files")
    } else {
        ("no device", "give the generic device of a namespace, /dev/ngXnY")
    };
    Error::device(format!("{name} is {what}; driver '{NAME}' serves generic devices of NVMe namespaces"))
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generic_device_has_a_block_device_beside_it() {
        let name = |text| block_name(text);
        assert_eq!(name("MAJOR=242\nMINOR=0\nDEVNAME=ng0n1\n").as_deref(), Some("nvme0n1"));
        assert_eq!(name("DEVNAME=nvme0\n"), None);
        assert_eq!(name("DEVNAME=ng/../x\n"), None);
        assert_eq!(name(""), None);
    }
}
