//! What stands before the data of an option and of each reply to it.

use crate::wire::{
    IHAVEOPT, OPTION_HEADER_BYTES, OPTION_REPLY_HEADER_BYTES, OPTION_REPLY_MAGIC, Reader, rep,
};

/// Before the data of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// Number of the option, see [`opt`](crate::wire::opt).
    pub option: u32,
    /// Length of its data in bytes.
    pub len: u32,
}

impl OptionHeader {
    /// Decodes the header; `None` if its magic is wrong or `bytes` is too short.
    pub fn decode(bytes: &[u8]) -> Option<OptionHeader> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u64()?;
        let (option, len) = (reader.u32()?, reader.u32()?);
        (magic == IHAVEOPT).then_some(OptionHeader { option, len })
    }

    /// Appends the option with its data to `out`.
    ///
    /// # Panics
    /// `data` is longer than a 32-bit length.
    pub fn encode(option: u32, data: &[u8], out: &mut Vec<u8>) {
        let len = u32::try_from(data.len()).expect("option data is shorter than 4 GiB");
        out.reserve(OPTION_HEADER_BYTES + data.len());
        out.extend_from_slice(&IHAVEOPT.to_be_bytes());
        out.extend_from_slice(&option.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(data);
    }
}

/// Before the data of a reply to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReplyHeader {
    /// The option that this answers.
    pub option: u32,
    /// Type of the reply, see [`rep`].
    pub kind: u32,
    /// Length of its data in bytes.
    pub len: u32,
}

impl OptionReplyHeader {
    /// Whether the reply reports an error, known or not.
    pub const fn is_error(&self) -> bool {
        self.kind & rep::ERROR_BIT != 0
    }

    /// Decodes the header; `None` if its magic is wrong or `bytes` is too short.
    pub fn decode(bytes: &[u8]) -> Option<OptionReplyHeader> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u64()?;
        let (option, kind, len) = (reader.u32()?, reader.u32()?, reader.u32()?);
        (magic == OPTION_REPLY_MAGIC).then_some(OptionReplyHeader { option, kind, len })
    }

    /// Appends a reply with its data to `out`.
    ///
    /// # Panics
    /// `data` is longer than a 32-bit length.
    pub fn encode(option: u32, kind: u32, data: &[u8], out: &mut Vec<u8>) {
        let len = u32::try_from(data.len()).expect("reply data is shorter than 4 GiB");
        out.reserve(OPTION_REPLY_HEADER_BYTES + data.len());
        out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
        out.extend_from_slice(&option.to_be_bytes());
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layouts_are_those_of_the_specification() {
        let mut out = Vec::new();
        OptionHeader::encode(7, b"ab", &mut out);
        assert_eq!(out, b"IHAVEOPT\0\0\0\x07\0\0\0\x02ab");
        out.clear();
        OptionReplyHeader::encode(7, rep::ERR_UNSUP, b"no", &mut out);
        assert_eq!(out, b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\x80\0\0\x01\0\0\0\x02no");
    }

    #[test]
    fn a_wrong_magic_is_refused() {
        assert_eq!(OptionHeader::decode(b"IHAVEOPU\0\0\0\x07\0\0\0\0"), None);
        assert_eq!(OptionReplyHeader::decode(&[0; 20]), None);
    }

    proptest! {
        #[test]
        fn headers_come_back(option: u32, kind: u32, data: Vec<u8>) {
            let len = data.len() as u32;
            let mut out = Vec::new();
            OptionHeader::encode(option, &data, &mut out);
            prop_assert_eq!(OptionHeader::decode(&out), Some(OptionHeader { option, len }));
            out.clear();
            OptionReplyHeader::encode(option, kind, &data, &mut out);
            prop_assert_eq!(OptionReplyHeader::decode(&out), Some(OptionReplyHeader { option, kind, len }));
        }
    }
}
