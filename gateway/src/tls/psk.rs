//! Pre-shared keys: the file `keys.psk`, and which user a client says it is.
//!
//! The file is that of GnuTLS (psktool(1)): a line `USER:KEY` for each user, the key in hexadecimal digits. A user
//! that begins with `#` is in hexadecimal digits too.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use drivers::Error;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslContextBuilder, SslRef};

use super::certificates::{read, warn_if_exposed};
use crate::log::Shown;

/// Longest key that OpenSSL takes (openssl/ssl.h, `PSK_MAX_PSK_LEN`).
const KEY_BYTES_MAX: usize = 512;

/// Longest user that OpenSSL takes (`PSK_MAX_IDENTITY_LEN`).
const USER_BYTES_MAX: usize = 256;

/// Shorter keys can be guessed.
const KEY_BYTES_GOOD: usize = 16;

/// Keys of users.
#[derive(Default)]
pub(super) struct Keys(HashMap<Vec<u8>, Vec<u8>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys of {} users", self.0.len())
    }
}

/// A user that a client named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) user: String,
    /// There is such a user. Whether the client has the key is another question.
    pub(super) known: bool,
}

impl Keys {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or a line is wrong; the message says which.
    pub(super) fn load(path: &Path) -> Result<Keys, Error> {
        let bytes = read("the pre-shared keys", path)?;
        warn_if_exposed(path);
        Keys::parse(&bytes).map_err(|wrong| {
            let message = format!("line {} of '{}' is no key: {}", wrong.line, path.display(), wrong.what);
            Error::device(message)
                .hint("a line is USER:KEY, with the key in hexadecimal digits; see psktool(1)")
        })
    }

    fn parse(bytes: &[u8]) -> Result<Keys, WrongLine> {
        let mut keys = Keys::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let wrong = |what| WrongLine { line: index + 1, what };
            if let Some((user, key)) = parse_line(line).map_err(wrong)? {
                // As in GnuTLS the first line of a user counts.
                keys.0.entry(user).or_insert(key);
            }
        }
        if keys.0.is_empty() {
            return Err(WrongLine { line: 1, what: "the file has no user" });
        }
        Ok(keys)
    }

    /// Lets clients prove that they have one of the keys.
    pub(super) fn install(self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let index = index()?;
        builder.set_psk_server_callback(move |ssl, user, into| {
            let user = user.unwrap_or_default();
            let key = self.0.get(user);
            let seen = Seen { user: String::from_utf8_lossy(user).into_owned(), known: key.is_some() };
            ssl.set_ex_data(index, seen);
            let Some(room) = key.and_then(|key| into.get_mut(..key.len())) else { return Ok(0) };
            room.copy_from_slice(key.map_or(&[], Vec::as_slice));
            Ok(room.len())
        });
        Ok(())
    }
}

/// The user that a client named last.
pub(super) fn seen(ssl: &SslRef) -> Option<&Seen> {
    ssl.ex_data(index().ok()?)
}

/// Where a connection keeps it.
fn index() -> Result<Index<Ssl, Seen>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Seen>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let new = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| new))
}

/// What is wrong with the file.
#[derive(Debug, PartialEq, Eq)]
struct WrongLine {
    /// From 1.
    line: usize,
    what: &'static str,
}

/// A user and his key.
type Line = (Vec<u8>, Vec<u8>);

/// What is in a line; nothing in a comment.
fn parse_line(line: &[u8]) -> Result<Option<Line>, &'static str> {
    let colon = line.iter().rposition(|byte| *byte == b':');
    let (user, key) = match (line, colon) {
        ([b'#', ..], None) => return Ok(None),
        (_, None) => return Err("it has no ':'"),
        (line, Some(colon)) => (&line[..colon], &line[colon + 1..]),
    };
    let user = match user {
        [b'#', digits @ ..] => match from_hex(digits) {
            Some(user) => user,
            None => return Ok(None),
        },
        user => user.to_vec(),
    };
    let key = from_hex(key).ok_or("its key is not in pairs of hexadecimal digits")?;
    if user.is_empty() || user.len() > USER_BYTES_MAX {
        return Err("its user has no or more than 256 bytes");
    }
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err("its key has no or more than 512 bytes");
    }
    if key.len() < KEY_BYTES_GOOD {
        tracing::warn!(
            "the pre-shared key of {} is short enough to be guessed",
            Shown(&String::from_utf8_lossy(&user))
        );
    }
    Ok(Some((user, key)))
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_the_keys_of_their_first_lines() {
        let keys = Keys::parse(b"alice:00fFa0\n\n# a comment\n#626f62:01:02\nbob:0102\nalice:00\na:b:03\n");
        let keys = keys.unwrap().0;
        assert_eq!(keys[&b"alice"[..]], [0, 0xff, 0xa0]);
        assert_eq!(keys[&b"bob"[..]], [1, 2]);
        assert_eq!(keys[&b"a:b"[..]], [3]);
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let wrong = |text: &str| Keys::parse(text.as_bytes()).unwrap_err();
        assert_eq!(wrong("alice:00\nbob"), WrongLine { line: 2, what: "it has no ':'" });
        assert_eq!(wrong("alice:0").line, 1);
        assert!(wrong("\nalice:0g").what.contains("hexadecimal"));
        assert!(wrong(":00").what.contains("user"));
        assert!(wrong("alice:").what.contains("key"));
        assert!(wrong("# nobody\n").what.contains("no user"));
    }
}
