//! Rust text without its comments and literals, line by line, so that rules see only code.

use std::iter::Peekable;
use std::str::Chars;

/// The text with each comment, string and character literal blanked; the lines keep their numbers.
pub(super) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut previous = ' ';
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('/', Some('/')) => while chars.next_if(|&c| c != '\n').is_some() {},
            ('/', Some('*')) => skip_block_comment(&mut chars, &mut out),
            ('"', _) => skip_string(&mut chars, &mut out),
            ('r', Some('"' | '#')) if !is_word(previous) || previous == 'b' => {
                skip_raw_string(&mut chars, &mut out);
            }
            ('\'', _) => skip_character(&mut chars, &mut out),
            _ => out.push(c),
        }
        previous = c;
    }
    out
}

/// Whether the word stands alone somewhere in the text.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Whether a character can be part of a name.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Skips to the end of a block comment, which may have others inside.
fn skip_block_comment(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut depth = 1;
    chars.next();
    while depth > 0 {
        match (chars.next(), chars.peek()) {
            (Some('*'), Some('/')) => {
                chars.next();
                depth -= 1;
            }
            (Some('/'), Some('*')) => {
                chars.next();
                depth += 1;
            }
            (Some('\n'), _) => out.push('\n'),
            (Some(_), _) => {}
            (None, _) => return,
        }
    }
}

/// Skips to the end of a string; its first quote is gone.
fn skip_string(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(c) = chars.next() {
        match c {
            '"' => return,
            '\n' => out.push('\n'),
            '\\' if chars.next() == Some('\n') => out.push('\n'),
            _ => {}
        }
    }
}

/// Skips a raw string, or keeps the `r#` of a raw identifier; the `r` is gone.
fn skip_raw_string(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut hashes = 0;
    while chars.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    if chars.next_if_eq(&'"').is_none() {
        return;
    }
    let mut seen = None;
    for c in chars.by_ref() {
        seen = match (c, seen) {
            ('"', _) => Some(0),
            ('#', Some(count)) => Some(count + 1),
            ('\n', _) => {
                out.push('\n');
                None
            }
            _ => None,
        };
        if seen == Some(hashes) {
            return;
        }
    }
}

/// Skips a character literal, or keeps a lifetime; the quote is gone.
fn skip_character(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    match chars.next() {
        Some('\\') => {
            chars.next();
            for c in chars.by_ref() {
                if c == '\'' {
                    return;
                }
            }
        }
        // One character and a quote; anything else is a lifetime, whose name is harmless.
        Some(c) if chars.next_if_eq(&'\'').is_none() => out.push(c),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        for text in [
            "// unsafe",
            "/* unsafe /* unsafe */ unsafe */",
            "\"unsafe\"",
            "\"\\\"unsafe\"",
            "r\"unsafe\"",
            "r#\"\" unsafe \"#",
            "br##\"\"# unsafe\"##",
            "'\"' // unsafe \"",
        ] {
            assert!(!has_word(&code(text), "unsafe"), "{text}");
        }
    }

    #[test]
    fn code_around_comments_and_literals_is_kept() {
        for text in [
            "unsafe {}",
            "'a'; unsafe {}",
            "fn f<'a>(x: &'a str) { unsafe {} }",
            "\"\\\\\"; unsafe {}",
            "r#\"\"\"#; unsafe {}",
            "/* */ unsafe",
            "'\\''; unsafe {}",
            "'\"'; unsafe {} // \"",
            "r#type; unsafe {}",
        ] {
            assert!(has_word(&code(text), "unsafe"), "{text}");
        }
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = "/* a\nb */ \"c\nd \\\n e\"\nr\"f\ng\"\nend";
        let code = code(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(code.lines().last(), Some("end"));
    }

    #[test]
    fn a_part_of_a_name_is_no_word() {
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(has_word("(unsafe)", "unsafe"));
    }
}
