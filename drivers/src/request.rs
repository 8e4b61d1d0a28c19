//! [`Request`] and [`Completion`]: what goes into a queue and what comes back, exactly once each.

use crate::error::Errno;
use crate::limits::Limits;
use crate::mem::Lease;

/// The caller's name for a request; a queue returns it unchanged and never interprets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// Modifiers of a request. A flag that an operation does not know is refused with `EINVAL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFlags {
    /// Write, write zeroes: complete only when the data is on stable storage. Only sent where [`Limits::fua`] is set.
    ///
    /// [`Limits::fua`]: crate::Limits::fua
    pub fua: bool,
    /// Write zeroes: the range stays provisioned.
    pub no_unmap: bool,
    /// Write zeroes: fail with `EOPNOTSUPP` instead of writing zeroes the slow way.
    pub fast: bool,
}

/// What a request asks for. Offsets and lengths are bytes, inside the capacity and within the limits.
#[derive(Debug)]
pub enum Operation {
    /// Fill the first `len` bytes of the lease.
    Read(Lease),
    /// Store the first `len` bytes of the lease.
    Write(Lease),
    /// Make every write that completed before this request was submitted, on any queue, durable.
    Flush,
    /// The range is no longer needed; it reads as anything until written.
    Discard,
    /// The range reads as zeroes.
    WriteZeroes,
    /// Which parts of the range are data, holes, zeroes. May answer for less than the range, never for none of it.
    BlockStatus,
}

/// One request, owned by the queue from `submit` to the completion.
#[derive(Debug)]
pub struct Request {
    /// The caller's name for it.
    pub id: RequestId,
    /// What to do, with the memory to do it on.
    pub operation: Operation,
    /// Modifiers.
    pub flags: RequestFlags,
    /// First byte on the disk; 0 for a flush.
    pub offset: u64,
    /// Length in bytes; 0 for a flush; at most the lease's length for reads and writes.
    pub len: u64,
}

impl Request {
    /// Checks everything that can be checked without the device. A queue calls this once, before it believes any
    /// number in the request.
    ///
    /// # Errors
    /// `EROFS`, `EOPNOTSUPP`, or `EINVAL` for whatever is wrong with the request itself.
    pub fn check(&self, limits: &Limits) -> Result<(), Errno> {
        let (offset, len) = (self.offset, self.len);
        let none = RequestFlags::default();
        let allowed = match self.operation {
            Operation::Write(_) => RequestFlags { no_unmap: false, fast: false, ..self.flags },
            Operation::WriteZeroes => self.flags,
            _ => none,
        };
        if self.flags != allowed || (self.flags.fua && !limits.fua) {
            return Err(Errno::INVALID);
        }
        match &self.operation {
            Operation::Read(lease) => {
                limits.check_transfer(offset, len)?;
                fits(lease, len, limits)
            }
            Operation::Write(lease) => {
                limits.check_writable()?;
                limits.check_transfer(offset, len)?;
                fits(lease, len, limits)
            }
            Operation::Flush => Ok(()),
            Operation::Discard => limits.check_discard(offset, len),
            Operation::WriteZeroes => limits.check_write_zeroes(offset, len),
            Operation::BlockStatus if !limits.block_status => Err(Errno::NOT_SUPPORTED),
            Operation::BlockStatus if len == 0 || !limits.contains(offset, len) => Err(Errno::INVALID),
            Operation::BlockStatus => Ok(()),
        }
    }

    /// The request and its memory apart, for a request that ends while the device may still write to the memory.
    #[must_use]
    pub(crate) fn without_lease(self) -> (Request, Option<Lease>) {
        let Request { id, flags, offset, len, operation } = self;
        (Request { id, flags, offset, len, operation: Operation::Flush }, operation.into_lease())
    }

    /// The request without its memory, which stays on loan for ever: whoever had it may still write there.
    #[must_use]
    pub(crate) fn abandon_lease(self) -> Request {
        let (request, lease) = self.without_lease();
        std::mem::forget(lease);
        request
    }

    /// Gives the request back to its owner.
    #[must_use]
    pub fn complete(self, result: Result<Outcome, Errno>) -> Completion {
        Completion { id: self.id, result, lease: self.operation.into_lease() }
    }
}

impl Operation {
    /// The lease of a read or a write.
    #[must_use]
    pub fn into_lease(self) -> Option<Lease> {
        match self {
            Operation::Read(lease) | Operation::Write(lease) => Some(lease),
            _ => None,
        }
    }
}

/// The lease is long enough, and lies where the device can take it (regions begin at a page, which satisfies every
/// alignment).
fn fits(lease: &Lease, len: u64, limits: &Limits) -> Result<(), Errno> {
    let aligned = lease.region_offset().is_multiple_of(limits.buffer_alignment_bytes as usize);
    if aligned && len <= lease.len() as u64 { Ok(()) } else { Err(Errno::INVALID) }
}

/// A stretch of the disk with one status. Extents of an answer follow each other without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, never 0.
    pub len: u64,
    /// Not allocated.
    pub hole: bool,
    /// Reads as zeroes.
    pub zero: bool,
}

/// What a request that succeeded gives besides success.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing more to say; a read filled its lease.
    Done,
    /// A read is answered by the driver's own memory at this range of its [`Store`]; the lease was not used.
    ///
    /// [`Store`]: crate::queue::Store
    View {
        /// First byte of the view, an offset on the disk.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A block status answer, starting at the request's offset; at least one extent.
    Extents(Vec<Extent>),
}

/// The end of one request: the device will not touch its memory again.
#[derive(Debug)]
pub struct Completion {
    /// The caller's name for the request.
    pub id: RequestId,
    /// How it ended.
    pub result: Result<Outcome, Errno>,
    /// The lease the request carried, if it carried one.
    pub lease: Option<Lease>,
}
