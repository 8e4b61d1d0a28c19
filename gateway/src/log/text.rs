//! Text in the log: nothing that a client, a file or a device says can begin a line, colour one or hide in it.
//!
//! Texts with a length that others choose are shown by [`Shown`] where they are logged, which also cuts them. Whatever
//! comes to be a line is looked through once more by [`OneLine`], so that a place that forgot can do no harm.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, Write};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// Characters of the longest text that is shown whole.
const SHOWN_CHARS_MAX: usize = 128;

/// Bytes of the longest line of text; the rest is cut off. The longest that is meant tells places of many exports.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Text from elsewhere: in quotes, with escapes for what cannot be seen, and not more of it than anybody would read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_CHARS_MAX) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}… ({} bytes)", &self.0[..end], self.0.len()),
        }
    }
}

/// How what cannot be shown is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// As Rust does.
    Text,
    /// As JSON does (RFC 8259, section 7). Such characters are nowhere but in strings there.
    Json,
}

/// Whether a character does something to a terminal or to the order of what is read, instead of being seen.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// The text with escapes, on one line.
pub(super) fn on_one_line(text: &str, escapes: Escapes) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing to a `String` cannot fail.
        let _ = match escapes {
            _ if !is_active(c) => line.write_char(c),
            Escapes::Text => write!(line, "{}", c.escape_default()),
            Escapes::Json => write!(line, "\\u{:04x}", u32::from(c)),
        };
    }
    line.into()
}

/// The beginning of the text, at most so many bytes.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    &text[..(0..=bytes_max.min(text.len())).rev().find(fits).unwrap_or(0)]
}

/// The text with escapes, on as many lines as it has: for what is printed and not logged.
pub(crate) fn harmless(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(|line| on_one_line(line, Escapes::Text)).collect();
    lines.join("\n")
}

/// Makes each event one line.
#[derive(Debug)]
pub(super) struct OneLine<M> {
    pub(super) inner: M,
    pub(super) escapes: Escapes,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Line<M::Writer> {
        Line { writer: self.inner.make_writer(), escapes: self.escapes }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<M::Writer> {
        Line { writer: self.inner.make_writer_for(metadata), escapes: self.escapes }
    }
}

/// One event: tracing-subscriber writes each by one call, with a line feed behind it.
#[derive(Debug)]
pub(super) struct Line<W> {
    writer: W,
    escapes: Escapes,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let line = on_one_line(text, self.escapes);
        // Half an object would be none.
        let bytes_max = if self.escapes == Escapes::Text { LINE_BYTES_MAX } else { line.len() };
        let line = format!("{}\n", cut(&line, bytes_max));
        self.writer.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_is_quoted_escaped_and_cut() {
        assert_eq!(Shown("a \"b\"").to_string(), r#""a \"b\"""#);
        assert_eq!(Shown("\n\x1b[31m\u{202e}").to_string(), r#""\n\u{1b}[31m\u{202e}""#);
        let long = Shown(&"ü".repeat(4000)).to_string();
        assert_eq!(long, format!("\"{}\"… (8000 bytes)", "ü".repeat(SHOWN_CHARS_MAX)));
    }

    #[test]
    fn a_line_has_no_active_character_and_all_others() {
        let text = "ä\t\r\n\x1b[0m\u{9b}31m\u{7f}\u{2028}\u{202e}\u{1f600}";
        let line = on_one_line(text, Escapes::Text);
        assert_eq!(line, "ä\\t\\r\\n\\u{1b}[0m\\u{9b}31m\\u{7f}\\u{2028}\\u{202e}\u{1f600}");
        let line = on_one_line(text, Escapes::Json);
        assert!(!line.contains(is_active), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&format!("\"{line}\"")).unwrap(), text);
    }

    #[test]
    fn printed_text_keeps_its_lines() {
        assert_eq!(harmless("a\nb\x1b[1m\n"), "a\nb\\u{1b}[1m\n");
    }

    #[test]
    fn a_line_ends() {
        let mut line = Line { writer: Vec::new(), escapes: Escapes::Text };
        line.write_all("ü".repeat(LINE_BYTES_MAX).as_bytes()).unwrap();
        assert_eq!(line.writer.len(), LINE_BYTES_MAX + 1);
        assert!(line.writer.ends_with("ü\n".as_bytes()));
    }
}
