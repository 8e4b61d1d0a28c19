//! Percent coding (RFC 3986, section 2.1).

use super::BadUri;

/// The bytes that `text` stands for. A plus sign is a plus sign.
///
/// # Errors
/// A percent sign is not followed by two hexadecimal digits.
pub fn decode(text: &str) -> Result<Vec<u8>, BadUri> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(BadUri::PercentCoding);
        };
        bytes.push((high << 4 | low) as u8);
        rest = &tail[2..];
    }
    Ok(bytes)
}

/// `bytes` as text that may stand in any part of a URI and, but for the percent sign, needs no care anywhere.
///
/// Letters, digits and `-._~` stay (RFC 3986, section 2.3), and those of `keep`.
pub fn encode(bytes: &[u8], keep: &str) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        let stays = byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || keep.as_bytes().contains(byte);
        if stays && byte.is_ascii() {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
