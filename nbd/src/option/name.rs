//! Strings of the protocol.

use crate::wire::STRING_BYTES_MAX;

/// Why a name may not be used (doc/proto.md, section "Values", on strings).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Longer than 4096 bytes.
    #[error("name is longer than 4096 bytes")]
    TooLong,
    /// A NUL inside.
    #[error("name contains NUL")]
    Nul,
    /// Not UTF-8.
    #[error("name is not UTF-8")]
    NotUtf8,
}

/// The string in `bytes`, checked.
///
/// # Errors
/// It is too long, not UTF-8, or contains NUL.
pub fn parse_name(bytes: &[u8]) -> Result<&str, BadName> {
    if bytes.len() > STRING_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    let name = std::str::from_utf8(bytes).map_err(|_| BadName::NotUtf8)?;
    check_name(name)?;
    Ok(name)
}

/// Checks a name that is to be sent.
///
/// # Errors
/// It is too long or contains NUL.
pub fn check_name(name: &str) -> Result<(), BadName> {
    if name.len() > STRING_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    if name.contains('\0') {
        return Err(BadName::Nul);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_up_to_4096_bytes_are_taken() {
        for len in [0, 1, 255, 4096] {
            assert_eq!(parse_name(&vec![b'x'; len]).unwrap().len(), len);
        }
        assert_eq!(parse_name(&vec![b'x'; 4097]), Err(BadName::TooLong));
        assert_eq!(check_name(&"x".repeat(4097)), Err(BadName::TooLong));
    }

    #[test]
    fn nul_and_invalid_utf8_are_refused() {
        assert_eq!(parse_name(b"a\0b"), Err(BadName::Nul));
        assert_eq!(parse_name(b"a\xffb"), Err(BadName::NotUtf8));
        assert_eq!(parse_name(b"\xc3"), Err(BadName::NotUtf8));
        assert_eq!(parse_name("/ü\n".as_bytes()), Ok("/ü\n"));
    }
}
