//! From text to [`Value`], and what to say when that does not work.

use super::{FOREVER, Kind, Property, Value};
use crate::error::Error;

impl Kind {
    /// Parses `text` as a value of this type and checks its range.
    ///
    /// # Errors
    /// Why `text` cannot be one: the second half of a sentence that names it.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        match *self {
            Kind::Bool => parse_bool(text).map(Value::Bool),
            Kind::Int { min, max } => parse_int(text, min, max).map(Value::Int),
            Kind::Size { min, max } => parse_size(text, min, max).map(Value::Size),
            Kind::Word(words) => parse_word(text, words),
            Kind::Patience { max } => parse_patience(text, max),
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Path => parse_path(text).map(Value::Text),
        }
    }
}

/// Parses `text` as the type of `property` and checks its range.
pub(super) fn parse_value(driver: &str, property: &Property, text: &str) -> Result<Value, Error> {
    property.kind.parse(text).map_err(|reason| {
        let name = property.name;
        Error::usage(format!("property '{name}' of driver '{driver}' cannot be '{text}': {reason}"))
            .hint(format!("{name}={}", property.kind.words()))
    })
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("it is not a truth value".into()),
    }
}

fn parse_int(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is not a whole number".into());
    }
    // All digits, so the only way to fail is overflow.
    match text.parse::<i64>() {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => Err(format!("it is not between {min} and {max}")),
    }
}

fn parse_size(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is not a whole number of bytes, with K, M, G or T after it or nothing".into());
    }
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(1 << shift));
    match value {
        Some(value) if value >= min && value <= max => Ok(value),
        _ => Err(format!("it is not between {min} and {max} bytes")),
    }
}

fn parse_word(text: &str, words: &[&str]) -> Result<Value, String> {
    if words.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(format!("it is none of the words {}", words.join(", ")))
}

fn parse_patience(text: &str, max: u64) -> Result<Value, String> {
    if text == FOREVER {
        return Ok(Value::Patience(None));
    }
    let seconds = parse_int(text, 0, i64::try_from(max).unwrap_or(i64::MAX))
        .map_err(|reason| format!("{reason}, nor the word '{FOREVER}'"))?;
    Ok(Value::Patience(u64::try_from(seconds).ok()))
}

fn parse_path(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err("a path has no zero bytes".into());
    }
    let absolute = std::path::absolute(text).map_err(|cause| match text.is_empty() {
        true => "a path is not empty".to_owned(),
        false => format!("it cannot be resolved against the current folder: {cause}"),
    })?;
    absolute.into_os_string().into_string().map_err(|_| "the current folder's name is not UTF-8".into())
}

/// The message for a name that no property of `table` has.
pub(super) fn unknown_property(driver: &str, table: &[Property], name: &str) -> Error {
    let error = Error::usage(format!("driver '{driver}' has no property '{name}'"));
    match nearest(name, table.iter().map(|property| property.name)) {
        Some(known) => error.hint(format!("did you mean '{known}'?")),
        None => error.hint("the driver's --help lists its properties"),
    }
}

/// The name that `typed` was probably meant to be: at most a third of its letters (and at least two) differ.
#[must_use]
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (edit_distance(typed, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (typed.len() / 3).max(2))
        .map(|(_, name)| name)
}

/// Levenshtein's distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::*;

    fn parse(kind: Kind, text: &str) -> Result<Value, Error> {
        let property = Property { name: "p", kind, phase: Phase::Connect, default: "", help: "" };
        parse_value("d", &property, text)
    }

    #[test]
    fn truth_values_have_eight_spellings() {
        for text in ["true", "on", "yes", "1", "TRUE"] {
            assert_eq!(parse(Kind::Bool, text).unwrap(), Value::Bool(true), "{text}");
        }
        for text in ["false", "off", "no", "0"] {
            assert_eq!(parse(Kind::Bool, text).unwrap(), Value::Bool(false), "{text}");
        }
        for text in ["", "2", "t", "enable", " true"] {
            assert!(parse(Kind::Bool, text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_decimal_with_an_optional_sign() {
        let kind = Kind::Int { min: -1, max: 100 };
        assert_eq!(parse(kind, "-1").unwrap(), Value::Int(-1));
        assert_eq!(parse(kind, "+100").unwrap(), Value::Int(100));
        for text in ["", "-", "0x10", "1K", "1.0", " 1", "--1"] {
            assert!(parse(kind, text).unwrap_err().to_string().contains("whole number"), "{text}");
        }
        for text in ["101", "-2", "99999999999999999999"] {
            assert!(parse(kind, text).unwrap_err().to_string().contains("between -1 and 100"), "{text}");
        }
    }

    #[test]
    fn size_suffixes_are_powers_of_1024() {
        let kind = Kind::Size { min: 0, max: u64::MAX };
        for (text, bytes) in
            [("0", 0), ("512", 512), ("1K", 1 << 10), ("3m", 3 << 20), ("1G", 1 << 30), ("2T", 2 << 40)]
        {
            assert_eq!(parse(kind, text).unwrap(), Value::Size(bytes), "{text}");
        }
        for text in ["", "K", "1.5G", "1KK", "-1", "1 K", "1P", "é"] {
            assert!(parse(kind, text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_that_overflow_or_leave_the_range_are_refused() {
        let kind = Kind::Size { min: 1, max: 1 << 62 };
        for text in ["0", "18446744073709551616", "16777216T", "8388608T"] {
            assert!(parse(kind, text).unwrap_err().to_string().contains("between"), "{text}");
        }
    }

    #[test]
    fn a_word_is_one_of_those_in_the_table() {
        let kind = Kind::Word(&["kept", "lost"]);
        assert_eq!(parse(kind, "lost").unwrap(), Value::Text("lost".into()));
        for text in ["", "Lost", "keep"] {
            assert!(parse(kind, text).unwrap_err().to_string().contains("kept, lost"), "{text}");
        }
    }

    #[test]
    fn patience_is_seconds_or_forever() {
        let kind = Kind::Patience { max: 100 };
        assert_eq!(parse(kind, "forever").unwrap(), Value::Patience(None));
        assert_eq!(parse(kind, "0").unwrap(), Value::Patience(Some(0)));
        for text in ["", "-1", "101", "1.5", "ever", "10s"] {
            assert!(parse(kind, text).unwrap_err().to_string().contains("forever"), "{text}");
        }
    }

    #[test]
    fn a_message_names_driver_property_text_reason_and_remedy() {
        let text = parse(Kind::Bool, "maybe").unwrap_err().to_string();
        assert_eq!(
            text,
            "property 'p' of driver 'd' cannot be 'maybe': it is not a truth value (p=true|false)"
        );
    }

    #[test]
    fn paths_are_neither_empty_nor_cut_by_zero_bytes() {
        assert!(parse(Kind::Path, "").unwrap_err().to_string().contains("not empty"));
        assert!(parse(Kind::Path, "a\0b").is_err());
    }

    #[test]
    fn the_edit_distance_counts_letters() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
