//! Words for a shell.

use std::borrow::Cow;

/// `text` as one word of a POSIX shell: unchanged if it has no special character, else in single quotes.
///
/// URIs with parameters contain `?` and `&`.
pub fn shell_quote(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', "'\\''")))
}
