//! [`Limits`]: the facts about a disk, read once, validated once, and then only copied.

use crate::error::{Errno, Error};

/// How a device writes zeroes without being sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroesLimits {
    /// Longest single request in bytes; 0 means no limit.
    pub max_bytes: u64,
    /// Offset and length of a request are multiples of this.
    pub alignment_bytes: u32,
    /// A request that may unmap (no `NO_UNMAP` flag) is faster than writing zeroes.
    pub fast_unmap: bool,
    /// A request with the `NO_UNMAP` flag is faster than writing zeroes.
    pub fast_no_unmap: bool,
}

/// How a device discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscardLimits {
    /// Longest single request in bytes; 0 means no limit.
    pub max_bytes: u64,
    /// Offset and length of a request are multiples of this.
    pub alignment_bytes: u32,
}

/// The facts about a disk. All sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the disk; need not be a multiple of the alignment.
    pub capacity_bytes: u64,
    /// Writes, zeroes and discards are refused.
    pub read_only: bool,
    /// The capacity may grow while the disk is open.
    pub can_grow: bool,
    /// Offset and length of a read or write are multiples of this power of two (the tail of an unaligned capacity
    /// is exempt: a request may end at the capacity).
    pub request_alignment_bytes: u32,
    /// Addresses of payload memory are multiples of this power of two, at most 4096.
    pub buffer_alignment_bytes: u32,
    /// Requests are fastest on multiples of this power of two.
    pub optimal_io_alignment_bytes: u32,
    /// Requests are fastest at this length; 0 when unknown.
    pub optimal_io_bytes: u32,
    /// Longest single read or write; never 0, a multiple of the request alignment.
    pub max_transfer_bytes: u32,
    /// Discard, when the device can.
    pub discard: Option<DiscardLimits>,
    /// Write zeroes, when the device can.
    pub write_zeroes: Option<ZeroesLimits>,
    /// The FUA flag of a write is honoured by the device itself (a front-end flushes after the write otherwise).
    pub fua: bool,
    /// Completed writes may still be lost by a power failure until a flush.
    pub flush_needed: bool,
    /// Block status requests give true answers.
    pub block_status: bool,
    /// Seeks cost time.
    pub rotational: bool,
    /// Reads and writes usually finish at once by the `*_now` methods, so a front-end takes payloads as they come
    /// instead of waiting until they are complete.
    pub immediate: bool,
}

impl Limits {
    /// Checks what every later computation relies on: powers of two, non-zero bounds, no arithmetic overflow.
    ///
    /// # Errors
    /// When the device reported something that no disk can mean; the message names the fact.
    pub fn validate(self) -> Result<Limits, Error> {
        let bad = |what: &str, value: u64| {
            Err(Error::device(format!("the device reports an impossible {what} of {value}")))
        };
        if !self.request_alignment_bytes.is_power_of_two() || self.request_alignment_bytes > 1 << 20 {
            return bad("request alignment", self.request_alignment_bytes.into());
        }
        if !self.buffer_alignment_bytes.is_power_of_two() || self.buffer_alignment_bytes > 4096 {
            return bad("buffer alignment", self.buffer_alignment_bytes.into());
        }
        if self.max_transfer_bytes == 0
            || !self.max_transfer_bytes.is_multiple_of(self.request_alignment_bytes)
        {
            return bad("maximum transfer", self.max_transfer_bytes.into());
        }
        if self.capacity_bytes > i64::MAX as u64 {
            return bad("capacity", self.capacity_bytes);
        }
        for alignment in
            [self.discard.map(|d| d.alignment_bytes), self.write_zeroes.map(|z| z.alignment_bytes)]
                .into_iter()
                .flatten()
        {
            if alignment == 0 {
                return bad("discard or write zeroes alignment", 0);
            }
        }
        Ok(self)
    }

    /// Whether `offset..offset + len` lies inside the disk.
    #[must_use]
    pub fn contains(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.capacity_bytes)
    }

    /// Checks a read or write of `len` bytes: inside the disk, aligned (a transfer may end at an unaligned capacity),
    /// not longer than the maximum.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn check_transfer(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.check_range(offset, len, self.max_transfer_bytes.into(), self.request_alignment_bytes.into())
    }

    /// Checks a discard.
    ///
    /// # Errors
    /// `EROFS` on a read-only disk, `EOPNOTSUPP` where the device cannot, else `EINVAL`.
    pub fn check_discard(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.check_writable()?;
        let discard = self.discard.ok_or(Errno::NOT_SUPPORTED)?;
        self.check_range(offset, len, discard.max_bytes, discard.alignment_bytes.into())
    }

    /// Checks a write-zeroes request.
    ///
    /// # Errors
    /// `EROFS` on a read-only disk, `EOPNOTSUPP` where the device cannot, else `EINVAL`.
    pub fn check_write_zeroes(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.check_writable()?;
        let zeroes = self.write_zeroes.ok_or(Errno::NOT_SUPPORTED)?;
        self.check_range(offset, len, zeroes.max_bytes, zeroes.alignment_bytes.into())
    }

    /// Checks that writes are allowed.
    ///
    /// # Errors
    /// `EROFS` on a read-only disk.
    pub fn check_writable(&self) -> Result<(), Errno> {
        if self.read_only && !planted!("read-only-not-enforced") { Err(Errno::READ_ONLY) } else { Ok(()) }
    }

    fn check_range(&self, offset: u64, len: u64, max: u64, alignment: u64) -> Result<(), Errno> {
        let at_end = offset.checked_add(len) == Some(self.capacity_bytes);
        let aligned = offset.is_multiple_of(alignment) && (at_end || len.is_multiple_of(alignment));
        if aligned && self.contains(offset, len) && (max == 0 || len <= max) {
            Ok(())
        } else {
            Err(Errno::INVALID)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            capacity_bytes: 10_000,
            read_only: false,
            can_grow: false,
            request_alignment_bytes: 512,
            buffer_alignment_bytes: 512,
            optimal_io_alignment_bytes: 4096,
            optimal_io_bytes: 0,
            max_transfer_bytes: 4096,
            discard: Some(DiscardLimits { max_bytes: 0, alignment_bytes: 4096 }),
            write_zeroes: None,
            fua: false,
            flush_needed: true,
            block_status: false,
            rotational: false,
            immediate: false,
        }
    }

    #[test]
    fn a_transfer_is_aligned_inside_and_short_enough() {
        assert_eq!(limits().check_transfer(512, 4096), Ok(()));
        assert_eq!(limits().check_transfer(9728, 272), Ok(()), "the tail is exempt");
        for (offset, len) in
            [(1, 512), (0, 511), (0, 4608), (9728, 512), (u64::MAX, 1), (u64::MAX - 511, 512), (9729, 271)]
        {
            assert_eq!(limits().check_transfer(offset, len), Err(Errno::INVALID), "{offset} {len}");
        }
    }

    #[test]
    fn what_the_device_cannot_do_is_told_from_what_is_wrong() {
        assert_eq!(limits().check_write_zeroes(0, 512), Err(Errno::NOT_SUPPORTED));
        assert_eq!(limits().check_discard(0, 512), Err(Errno::INVALID));
        assert_eq!(limits().check_discard(0, 8192), Ok(()));
        let read_only = Limits { read_only: true, ..limits() };
        assert_eq!(read_only.check_discard(0, 512), Err(Errno::READ_ONLY));
    }

    #[test]
    fn impossible_facts_are_refused_by_name() {
        let text = Limits { request_alignment_bytes: 3, ..limits() }.validate().unwrap_err().to_string();
        assert!(text.contains("request alignment of 3"), "{text}");
        assert!(Limits { max_transfer_bytes: 0, ..limits() }.validate().is_err());
        assert!(Limits { max_transfer_bytes: 700, ..limits() }.validate().is_err());
        assert!(Limits { capacity_bytes: u64::MAX, ..limits() }.validate().is_err());
        assert!(limits().validate().is_ok());
    }
}
