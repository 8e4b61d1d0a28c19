//! [`Address`]: where the back-end is.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::Opener;
use crate::error::Error;
use crate::property::Settings;
use crate::sys::file;

/// How long to go on asking a back-end that has too many clients waiting, at the start.
const BUSY_PATIENCE: Duration = Duration::from_secs(2);

/// Where the back-end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket it listens on.
    Path(PathBuf),
    /// A socket that is connected to it already.
    Descriptor(i64),
}

impl Address {
    /// The one that the properties name.
    ///
    /// # Errors
    /// None is named, or two are.
    pub(super) fn of(settings: &Settings) -> Result<Address, Error> {
        match (settings.path("path"), settings.int("fd")) {
            (Some(path), None) => Ok(Address::Path(path.to_owned())),
            (None, Some(fd)) => Ok(Address::Descriptor(fd)),
            (Some(_), Some(_)) => {
                Err(Error::usage("driver 'virtio-blk-vhost-user' got both 'path' and 'fd'")
                    .hint("give one of them"))
            }
            (None, None) => {
                Err(Error::usage("driver 'virtio-blk-vhost-user' needs the property 'path' or 'fd'")
                    .hint("for example: virtio-blk-vhost-user path=sock"))
            }
        }
    }

    /// What messages call the back-end.
    pub(super) fn name(&self) -> String {
        match self {
            Address::Path(path) => format!("the vhost-user back-end at '{}'", path.display()),
            Address::Descriptor(fd) => format!("the vhost-user back-end on descriptor {fd}"),
        }
    }

    /// The path, if it has one.
    pub(super) fn path(&self) -> String {
        match self {
            Address::Path(path) => path.display().to_string(),
            Address::Descriptor(_) => String::new(),
        }
    }

    /// Whether another back-end can take the place of one that is gone.
    pub(super) fn can_come_back(&self) -> bool {
        matches!(self, Address::Path(_))
    }

    /// Connects, without waiting for anybody.
    ///
    /// # Errors
    /// Nobody is there, or somebody with too much to do.
    pub(super) fn connect(&self, opener: &dyn Opener) -> Result<UnixStream, Error> {
        self.try_connect(opener).map_err(|cause| self.failed(&cause))
    }

    /// Connects, and asks a back-end that is busy again for a while.
    ///
    /// # Errors
    /// As for [`Address::connect`].
    pub(super) fn connect_patiently(&self, opener: &dyn Opener) -> Result<UnixStream, Error> {
        let start = Instant::now();
        loop {
            match self.try_connect(opener) {
                Err(cause)
                    if cause.kind() == io::ErrorKind::WouldBlock && start.elapsed() < BUSY_PATIENCE =>
                {
                    thread::sleep(Duration::from_millis(20));
                }
                result => return result.map_err(|cause| self.failed(&cause)),
            }
        }
    }

    fn try_connect(&self, opener: &dyn Opener) -> io::Result<UnixStream> {
        match self {
            Address::Path(path) => opener.connect(path),
            Address::Descriptor(fd) => {
                let fd = i32::try_from(*fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
                file::duplicate(fd).map(UnixStream::from)
            }
        }
    }

    fn failed(&self, cause: &io::Error) -> Error {
        match self {
            Address::Path(_) => connect_failed(&self.name(), cause),
            Address::Descriptor(_) => Error::system(format!("use {}", self.name()), cause)
                .hint("the program that starts this one must connect the socket and leave it open"),
        }
    }
}

fn connect_failed(name: &str, cause: &io::Error) -> Error {
    let error = Error::system(format!("connect to {name}"), cause);
    match cause.raw_os_error() {
        Some(libc::ENOENT) => error.hint("start the back-end first, and check the path"),
        Some(libc::ECONNREFUSED) => {
            error.hint("it is no listening socket, or nobody listens any more: start the back-end again")
        }
        Some(libc::EACCES) => error.hint("the socket's permissions do not allow it"),
        Some(libc::EAGAIN) => error.hint("it is busy: other clients of it are waiting to be served"),
        _ => error,
    }
}
