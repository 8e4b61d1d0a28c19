//! A line of a shell as words.

/// The words of a line that ends at the cursor: the last one is being typed, and is empty behind a blank.
///
/// Quotes and backslashes mean what they mean in a POSIX shell ("Quoting"); an open quote ends with the line. Variables
/// and the like stay as they are.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    // Whether the last word has begun; an empty one in quotes has, too.
    let mut begun = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_whitespace() && quote.is_none() {
            if begun {
                words.push(String::new());
            }
            begun = false;
            continue;
        }
        begun = true;
        let Some(word) = words.last_mut() else { continue };
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            ('\\', None) => word.extend(letters.next()),
            // Between double quotes only these can be escaped.
            ('\\', Some('"')) => {
                word.push(letters.next_if(|next| "$`\"\\".contains(*next)).unwrap_or('\\'));
            }
            _ => word.push(letter),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn blanks_separate() {
        assert_eq!(words("gateway  io_uring path=a"), ["gateway", "io_uring", "path=a"]);
        assert_eq!(words("gateway "), ["gateway", ""]);
        assert_eq!(words(""), [""]);
    }

    #[test]
    fn quotes_and_backslashes_keep_together() {
        assert_eq!(words(r#"g 'a b' "c \" d" e\ f"#), ["g", "a b", "c \" d", "e f"]);
        assert_eq!(words(r#"g path='a b/"#), ["g", "path=a b/"]);
        assert_eq!(words(r#"g '' x"#), ["g", "", "x"]);
        assert_eq!(words(r#"g "\n" \"#), ["g", r"\n", ""]);
    }
}
