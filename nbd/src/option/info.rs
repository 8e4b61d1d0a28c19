//! INFO and GO: what the client asks about an export, and the pieces of information that it gets.

use super::{Malformed, parse_name};
use crate::export::BlockSizes;
use crate::wire::{Reader, TransmissionFlags, info};

/// Data of `NBD_OPT_INFO` and `NBD_OPT_GO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoRequest<'a> {
    /// Name of the export; empty for the default one.
    pub name: &'a str,
    /// Types of information, in the client's order, unknown ones included.
    pub types: Vec<u16>,
}

impl<'a> InfoRequest<'a> {
    /// Longest data of this option in bytes: the longest name, and each of 65,535 types.
    pub const BYTES_MAX: u32 = 4 + 4096 + 2 + 2 * 65535;

    /// Decodes the whole data of the option.
    ///
    /// # Errors
    /// A length does not match, or the name is not allowed.
    pub fn decode(data: &'a [u8]) -> Result<InfoRequest<'a>, Malformed> {
        let mut reader = Reader::new(data);
        let name = reader.counted().ok_or(Malformed::Length)?;
        let count = reader.u16().ok_or(Malformed::Length)?;
        let (types, stray) = reader.rest().as_chunks::<2>();
        if types.len() != usize::from(count) || !stray.is_empty() {
            return Err(Malformed::Length);
        }
        let types = types.iter().map(|bytes| u16::from_be_bytes(*bytes)).collect();
        Ok(InfoRequest { name: parse_name(name)?, types })
    }

    /// Appends the data to `out`; at most 65,535 types are sent.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.name.len() as u32).to_be_bytes());
        out.extend_from_slice(self.name.as_bytes());
        let count = u16::try_from(self.types.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for kind in &self.types[..usize::from(count)] {
            out.extend_from_slice(&kind.to_be_bytes());
        }
    }
}

/// Data of one `NBD_REP_INFO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info<'a> {
    /// Size in bytes and transmission flags; always sent.
    Export {
        /// Size of the export.
        size_bytes: u64,
        /// What it can do; unknown bits are kept.
        flags: TransmissionFlags,
    },
    /// Canonical name.
    Name(&'a str),
    /// Text for humans.
    Description(&'a str),
    /// Size constraints.
    BlockSize(BlockSizes),
    /// A type that this crate does not know, to be ignored.
    Unknown(u16),
}

impl<'a> Info<'a> {
    /// Decodes the whole data of the reply.
    ///
    /// # Errors
    /// A known type has a wrong length, or a name or text is not allowed.
    pub fn decode(data: &'a [u8]) -> Result<Info<'a>, Malformed> {
        let mut reader = Reader::new(data);
        let kind = reader.u16().ok_or(Malformed::Length)?;
        let rest = reader.rest();
        match kind {
            info::EXPORT => Self::export(rest).ok_or(Malformed::Length),
            info::NAME => Ok(Info::Name(parse_name(rest)?)),
            info::DESCRIPTION => Ok(Info::Description(parse_name(rest)?)),
            info::BLOCK_SIZE => Self::block_size(rest).ok_or(Malformed::Length),
            unknown => Ok(Info::Unknown(unknown)),
        }
    }

    fn export(data: &[u8]) -> Option<Info<'a>> {
        let mut reader = Reader::new(data);
        let size_bytes = reader.u64()?;
        let flags = TransmissionFlags::from_bits_retain(reader.u16()?);
        reader.rest().is_empty().then_some(Info::Export { size_bytes, flags })
    }

    fn block_size(data: &[u8]) -> Option<Info<'a>> {
        let mut reader = Reader::new(data);
        let sizes = BlockSizes {
            minimum_bytes: reader.u32()?,
            preferred_bytes: reader.u32()?,
            maximum_payload_bytes: reader.u32()?,
        };
        reader.rest().is_empty().then_some(Info::BlockSize(sizes))
    }

    /// The data as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Info::Export { size_bytes, flags } => {
                out.extend_from_slice(&info::EXPORT.to_be_bytes());
                out.extend_from_slice(&size_bytes.to_be_bytes());
                out.extend_from_slice(&flags.bits().to_be_bytes());
            }
            Info::Name(name) => {
                out.extend_from_slice(&info::NAME.to_be_bytes());
                out.extend_from_slice(name.as_bytes());
            }
            Info::Description(text) => {
                out.extend_from_slice(&info::DESCRIPTION.to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Info::BlockSize(sizes) => {
                out.extend_from_slice(&info::BLOCK_SIZE.to_be_bytes());
                out.extend_from_slice(&sizes.minimum_bytes.to_be_bytes());
                out.extend_from_slice(&sizes.preferred_bytes.to_be_bytes());
                out.extend_from_slice(&sizes.maximum_payload_bytes.to_be_bytes());
            }
            Info::Unknown(kind) => out.extend_from_slice(&kind.to_be_bytes()),
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::option::BadName;
    use proptest::prelude::*;

    #[test]
    fn lengths_must_match_exactly() {
        let mut data = Vec::new();
        InfoRequest { name: "disk", types: vec![info::NAME, info::BLOCK_SIZE] }.encode(&mut data);
        assert_eq!(data, b"\0\0\0\x04disk\0\x02\0\x01\0\x03");
        for len in 0..data.len() {
            assert_eq!(InfoRequest::decode(&data[..len]), Err(Malformed::Length), "cut to {len}");
        }
        data.push(0);
        assert_eq!(InfoRequest::decode(&data), Err(Malformed::Length));
    }

    #[test]
    fn a_name_length_beyond_the_data_is_refused() {
        assert_eq!(InfoRequest::decode(b"\xff\xff\xff\xffdisk\0\0"), Err(Malformed::Length));
        assert_eq!(InfoRequest::decode(b"\0\0\0\x05disk\0\0"), Err(Malformed::Length));
    }

    #[test]
    fn bad_names_are_refused() {
        assert_eq!(InfoRequest::decode(b"\0\0\0\x03a\0b\0\0"), Err(Malformed::Name(BadName::Nul)));
        assert_eq!(InfoRequest::decode(b"\0\0\0\x01\xff\0\0"), Err(Malformed::Name(BadName::NotUtf8)));
    }

    #[test]
    fn known_infos_have_their_exact_length() {
        let export = Info::Export { size_bytes: 1, flags: TransmissionFlags::HAS_FLAGS }.encode();
        let sizes = Info::BlockSize(BlockSizes::DEFAULT).encode();
        assert_eq!((export.len(), sizes.len()), (12, 14));
        for mut data in [export, sizes] {
            assert!(Info::decode(&data[..data.len() - 1]).is_err());
            data.push(0);
            assert!(Info::decode(&data).is_err());
        }
    }

    proptest! {
        #[test]
        fn requests_come_back(name in "[^\0]{0,80}", types: Vec<u16>) {
            let request = InfoRequest { name: &name, types };
            let mut data = Vec::new();
            request.encode(&mut data);
            prop_assert_eq!(InfoRequest::decode(&data), Ok(request));
        }

        #[test]
        fn infos_come_back(size_bytes: u64, flags: u16, a: u32, b: u32, c: u32, text in "[^\0]{0,80}") {
            let sizes = BlockSizes { minimum_bytes: a, preferred_bytes: b, maximum_payload_bytes: c };
            let flags = TransmissionFlags::from_bits_retain(flags);
            let infos = [
                Info::Export { size_bytes, flags },
                Info::Name(&text),
                Info::Description(&text),
                Info::BlockSize(sizes),
            ];
            for info in infos {
                let data = info.encode();
                prop_assert_eq!(Info::decode(&data), Ok(info));
            }
        }

        #[test]
        fn any_bytes_are_survived(data: Vec<u8>) {
            let _ = InfoRequest::decode(&data);
            let _ = Info::decode(&data);
        }
    }
}
