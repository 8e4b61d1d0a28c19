//! [`Opened`]: a descriptor, and how it came to be. Whether it is good for a disk is judged by the driver.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::driver::{OpenMode, Opener};
use crate::error::Error;
use crate::property::Settings;
use crate::sys::file;

/// What `path` or `fd` gave.
pub(crate) struct Opened {
    pub(crate) fd: OwnedFd,
    /// What messages call it: a quoted path, or a descriptor's number.
    pub(crate) name: String,
    /// The path, if one was given.
    pub(crate) path: Option<String>,
    pub(crate) direct: bool,
    pub(crate) read_only: bool,
}

/// What messages tell besides the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advice {
    /// The driver.
    pub(crate) driver: &'static str,
    /// What one of its words may be.
    pub(crate) example: &'static str,
    /// What to do when there is nothing of that name.
    pub(crate) missing: &'static str,
}

impl Opened {
    /// Opens what the properties `path` or `fd` name, as `direct` and `read-only` say.
    ///
    /// # Errors
    /// Wrong combinations of properties, and everything `open(2)` refuses.
    pub(crate) fn new(advice: Advice, settings: &Settings, opener: &dyn Opener) -> Result<Opened, Error> {
        let Advice { driver, example, .. } = advice;
        match (settings.path("path"), settings.int("fd")) {
            (Some(path), None) => Opened::from_path(path, advice, settings, opener),
            (None, Some(fd)) => Opened::from_fd(fd, settings),
            (Some(_), Some(_)) => {
                Err(Error::usage(format!("driver '{driver}' got both 'path' and 'fd'"))
                    .hint("give one of them"))
            }
            (None, None) => Err(Error::usage(format!("driver '{driver}' needs the property 'path' or 'fd'"))
                .hint(format!("for example: {driver} {example}"))),
        }
    }

    fn from_path(
        path: &Path,
        advice: Advice,
        settings: &Settings,
        opener: &dyn Opener,
    ) -> Result<Opened, Error> {
        let name = format!("'{}'", path.display());
        let direct = settings.bool("direct").unwrap_or(false);
        let wanted = settings.bool("read-only");
        let mut mode = OpenMode { write: wanted != Some(true), direct };
        let mut result = opener.open(path, mode);
        if let Err(cause) = &result
            && wanted.is_none()
            && write_was_refused(cause)
        {
            let reason = cause.to_string();
            mode.write = false;
            result = opener.open(path, mode);
            if result.is_ok() {
                tracing::info!("{name} is served read-only: it cannot be opened for writing: {reason}");
            }
        }
        let fd = result.map_err(|cause| open_failed(&name, advice, mode, &cause))?;
        // Older kernels answer EAGAIN on rings to what they cannot do at once, if the file says O_NONBLOCK.
        file::make_blocking(fd.as_fd())
            .map_err(|cause| Error::system(format!("set the flags of {name}"), &cause))?;
        Ok(Opened { fd, path: Some(path.display().to_string()), name, direct, read_only: !mode.write })
    }

    fn from_fd(number: i64, settings: &Settings) -> Result<Opened, Error> {
        let name = format!("descriptor {number}");
        let fd = i32::try_from(number)
            .map_err(|_| io::Error::from_raw_os_error(libc::EBADF))
            .and_then(file::duplicate)
            .map_err(|cause| {
                Error::system(format!("use {name}"), &cause)
                    .hint("the program that starts this one must open it and leave it open")
            })?;
        let flags = file::status_flags(fd.as_fd())
            .map_err(|cause| Error::system(format!("ask for the flags of {name}"), &cause))?;
        let (access, direct) = (flags & libc::O_ACCMODE, flags & libc::O_DIRECT != 0);
        if flags & libc::O_PATH != 0 || access == libc::O_WRONLY {
            return Err(Error::device(format!("{name} is not open for reading"))
                .hint("open it for reading and writing"));
        }
        if settings.bool("direct").is_some_and(|wanted| wanted != direct) {
            let was = if direct { "with" } else { "without" };
            return Err(Error::usage(format!(
                "{name} was opened {was} O_DIRECT, and 'direct' cannot change that"
            ))
            .hint("leave out 'direct', or open the descriptor the other way"));
        }
        let opened_read_only = access == libc::O_RDONLY;
        if opened_read_only && settings.bool("read-only") == Some(false) {
            return Err(Error::device(format!(
                "{name} is open for reading only, but read-only=false was given"
            ))
            .hint("open it for writing, or leave out read-only=false"));
        }
        let read_only = opened_read_only || settings.bool("read-only") == Some(true);
        Ok(Opened { fd, name, path: None, direct, read_only })
    }
}

/// Whether opening failed because of the wish to write, so that reading may still be possible.
fn write_was_refused(cause: &io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::ETXTBSY))
}

fn open_failed(name: &str, advice: Advice, mode: OpenMode, cause: &io::Error) -> Error {
    let purpose = if mode.write { "reading and writing" } else { "reading" };
    let error = Error::system(format!("open {name} for {purpose}"), cause);
    match cause.raw_os_error() {
        Some(libc::ENOENT) => error.hint(advice.missing),
        Some(libc::EISDIR) => error.hint("give an image file or a block device inside it"),
        Some(libc::ENXIO) => {
            error.hint("it is a socket or a device that is gone; give an image file or a block device")
        }
        Some(libc::EINVAL) if mode.direct => {
            error.hint("the file system may not support O_DIRECT; leave out direct=true")
        }
        Some(libc::EACCES | libc::EPERM) if mode.write => {
            error.hint("check the permissions, or leave out read-only=false")
        }
        Some(libc::EROFS | libc::ETXTBSY) if mode.write => error.hint("leave out read-only=false"),
        Some(libc::EACCES | libc::EPERM) => {
            error.hint("check the permissions of the file and of the folders above it")
        }
        _ => error,
    }
}
