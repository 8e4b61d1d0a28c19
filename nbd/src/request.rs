//! Requests as they stand on the wire: the header, before anybody asked whether it makes sense.
//!
//! Source: doc/proto.md, section "Request message"; for the extended form the branch extension-ext-header, section
//! "Extended request message". Whether a request is legal is decided by [`validate`](crate::validate()) alone.

use crate::wire::{EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC};

/// Names one request in flight on one connection; the server returns it unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Cookie(pub u64);

/// Layout of requests on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum HeaderFormat {
    /// 28 bytes, 32-bit lengths.
    #[default]
    Compact,
    /// 32 bytes, 64-bit lengths; after EXTENDED_HEADERS.
    Extended,
}

/// A request does not start with the magic of its format: the stream is out of step and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("request starts with {found:#010x} instead of {expected:#010x}; the stream is out of step")]
pub struct BadMagic {
    /// The first four bytes.
    pub found: u32,
    /// What they should have been.
    pub expected: u32,
}

/// A request header, decoded and not yet validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Command flags, including unknown ones; see [`CommandFlags`](crate::wire::CommandFlags).
    pub flags: u16,
    /// Command, see [`cmd`](crate::wire::cmd).
    pub kind: u16,
    /// Returned in each reply to this request.
    pub cookie: Cookie,
    /// First byte of the export that is meant.
    pub offset: u64,
    /// Bytes of the export that are meant, or bytes of payload, as command, flags and format say.
    pub len: u64,
}

impl HeaderFormat {
    /// Length of a request header in bytes.
    #[expect(clippy::len_without_is_empty, reason = "the length of a layout, never zero")]
    pub const fn len(self) -> usize {
        match self {
            HeaderFormat::Compact => 28,
            HeaderFormat::Extended => 32,
        }
    }

    /// What a request header starts with.
    pub const fn magic(self) -> u32 {
        match self {
            HeaderFormat::Compact => REQUEST_MAGIC,
            HeaderFormat::Extended => EXTENDED_REQUEST_MAGIC,
        }
    }
}

/// The integer field of `N` bytes at `at`.
#[inline(always)]
fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("a range of N bytes is an array of N bytes")
}

impl RequestHeader {
    /// Decodes the header at the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// The magic is wrong: the connection must be closed.
    ///
    /// # Panics
    /// `bytes` is shorter than `format.len()`; the caller waits for that many bytes.
    #[inline]
    pub fn decode(format: HeaderFormat, bytes: &[u8]) -> Result<RequestHeader, BadMagic> {
        let header = &bytes[..format.len()];
        let found = u32::from_be_bytes(field(header, 0));
        let expected = format.magic();
        if found != expected {
            return Err(BadMagic { found, expected });
        }
        let len = match format {
            HeaderFormat::Compact => u64::from(u32::from_be_bytes(field(header, 24))),
            HeaderFormat::Extended => u64::from_be_bytes(field(header, 24)),
        };
        Ok(RequestHeader {
            flags: u16::from_be_bytes(field(header, 4)),
            kind: u16::from_be_bytes(field(header, 6)),
            cookie: Cookie(u64::from_be_bytes(field(header, 8))),
            offset: u64::from_be_bytes(field(header, 16)),
            len,
        })
    }

    /// Appends the header to `out`.
    ///
    /// # Panics
    /// `format` is compact and `len` does not fit into 32 bits; the client's encoder refuses that before.
    pub fn encode(&self, format: HeaderFormat, out: &mut Vec<u8>) {
        out.extend_from_slice(&format.magic().to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&self.cookie.0.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        match format {
            HeaderFormat::Compact => {
                let len = u32::try_from(self.len).expect("compact requests have 32-bit lengths");
                out.extend_from_slice(&len.to_be_bytes());
            }
            HeaderFormat::Extended => out.extend_from_slice(&self.len.to_be_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn compact_layout_is_that_of_the_specification() {
        let header = RequestHeader {
            flags: 0x0102,
            kind: 0x0304,
            cookie: Cookie(0x1112_1314_1516_1718),
            offset: 0x2122_2324_2526_2728,
            len: 0x3132_3334,
        };
        let mut bytes = Vec::new();
        header.encode(HeaderFormat::Compact, &mut bytes);
        let expected = [
            0x25, 0x60, 0x95, 0x13, 1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x21, 0x22,
            0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x31, 0x32, 0x33, 0x34,
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_magic_of_the_other_format_is_refused() {
        for (format, other) in [
            (HeaderFormat::Compact, EXTENDED_REQUEST_MAGIC),
            (HeaderFormat::Extended, REQUEST_MAGIC),
            (HeaderFormat::Compact, 0x1256_0953),
        ] {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&other.to_be_bytes());
            let bad = RequestHeader::decode(format, &bytes).unwrap_err();
            assert_eq!(bad, BadMagic { found: other, expected: format.magic() });
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            flags: u16, kind: u16, cookie: u64, offset: u64, len: u64, extended: bool, tail: Vec<u8>,
        ) {
            let format = if extended { HeaderFormat::Extended } else { HeaderFormat::Compact };
            let len = if extended { len } else { len & u64::from(u32::MAX) };
            let header = RequestHeader { flags, kind, cookie: Cookie(cookie), offset, len };
            let mut bytes = Vec::new();
            header.encode(format, &mut bytes);
            prop_assert_eq!(bytes.len(), format.len());
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(RequestHeader::decode(format, &bytes), Ok(header));
        }
    }
}
