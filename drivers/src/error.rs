//! The two kinds of error: [`Error`] for the control plane, [`Errno`] for the data plane.

use std::fmt;

/// Why one request failed: a Linux error number. Small and `Copy`, so that the data plane neither allocates nor
/// formats; a front-end maps it to its own protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// Input/output error: the answer for everything a device did wrong.
    pub const IO: Errno = Errno(libc::EIO);
    /// The request itself is wrong (outside the limits, misaligned).
    pub const INVALID: Errno = Errno(libc::EINVAL);
    /// The device cannot do this.
    pub const NOT_SUPPORTED: Errno = Errno(libc::EOPNOTSUPP);
    /// The device is full.
    pub const NO_SPACE: Errno = Errno(libc::ENOSPC);
    /// The device was opened for reading only.
    pub const READ_ONLY: Errno = Errno(libc::EROFS);

    /// From a positive error number; anything that is not one becomes `EIO`.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Errno {
        if raw > 0 && raw < 4096 { Errno(raw) } else { Errno::IO }
    }

    /// The positive Linux error number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({self})")
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&std::io::Error::from_raw_os_error(self.0), f)
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::IO, Errno::from_raw)
    }
}

/// What kind of control-plane failure this is, for callers that decide by it (exit code 2 for usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller's words are wrong: unknown driver or property, bad type, range or phase.
    Usage,
    /// The device, its path or the system said no.
    Device,
}

/// A failure of the control plane: what was tried on what, why it failed, and what to do about it.
#[derive(Debug)]
pub struct Error {
    /// Which kind, for control flow.
    pub kind: ErrorKind,
    /// What was tried, on what, and why it failed, in one line.
    pub message: String,
    /// What the user can do about it, when that is known.
    pub hint: Option<String>,
}

impl Error {
    /// The caller's words are wrong.
    pub fn usage(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Usage, message: message.into(), hint: None }
    }

    /// The device or the system said no.
    pub fn device(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Device, message: message.into(), hint: None }
    }

    /// A system call failed: `action` says what was tried on what ("open 'disk.img'").
    pub fn system(action: impl fmt::Display, cause: &std::io::Error) -> Error {
        Error::device(format!("cannot {action}: {cause}"))
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
