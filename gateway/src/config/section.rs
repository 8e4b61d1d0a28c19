//! [`Section`]: a table of the file, read key by key.
//!
//! A value that is wrong is noted and left out, and reading goes on: every mistake of a file is found at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use drivers::Value;
use drivers::property::{Kind, nearest};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::keys::Seen;
use super::report::Mistakes;

/// Something, and the byte where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) at: usize,
    pub(super) value: T,
}

/// What all sections of a file share.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) mistakes: &'a Mistakes,
    /// The folder of the file, absolute: relative paths begin there.
    pub(super) folder: &'a str,
    /// Takes down which keys there are, for the manual.
    pub(super) seen: Option<&'a Seen>,
}

/// A table, and which of its keys have been asked for, with what may be written for each.
pub(super) struct Section<'a> {
    /// What messages call it.
    name: &'static str,
    /// Where it begins.
    at: usize,
    table: &'a DeTable<'a>,
    asked: BTreeMap<&'static str, String>,
    pub(super) context: Context<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        name: &'static str,
        at: usize,
        table: &'a DeTable<'a>,
        context: Context<'a>,
    ) -> Section<'a> {
        Section { name, at, table, asked: BTreeMap::new(), context }
    }

    /// Where the section begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Where the key is, if it is there.
    pub(super) fn key(&self, key: &str) -> Option<usize> {
        self.table.get_key_value(key).map(|(key, _)| key.span().start)
    }

    /// The value of a key, which messages and the manual describe in these words.
    pub(super) fn value(
        &mut self,
        key: &'static str,
        values: impl Into<String>,
    ) -> Option<&'a Spanned<DeValue<'a>>> {
        self.ask(key, values);
        self.table.get(key)
    }

    /// Notes that there is such a key. The first words for its values are the most exact ones.
    fn ask(&mut self, key: &'static str, values: impl Into<String>) {
        self.asked.entry(key).or_insert_with(|| values.into());
    }

    /// Notes that the key is missing, if it is not there at all.
    pub(super) fn require(&self, key: &'static str, example: &str) {
        if self.key(key).is_none() {
            let text = format!("{} needs the key '{key}'", self.name);
            self.context.mistakes.add_with_hint(self.at, text, format!("for example: {example}"));
        }
    }

    /// A truth value.
    pub(super) fn bool(&mut self, key: &'static str) -> Option<At<bool>> {
        let value = self.value(key, "true|false")?;
        match value.get_ref() {
            DeValue::Boolean(truth) => Some(At { at: value.span().start, value: *truth }),
            _ => self.context.wrong_type(key, "true or false", value),
        }
    }

    /// Text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<At<String>> {
        let value = self.value(key, "\"TEXT\"")?;
        match value.get_ref() {
            DeValue::String(text) => Some(At { at: value.span().start, value: text.to_string() }),
            _ => self.context.wrong_type(key, "text in quotes", value),
        }
    }

    /// One of these words.
    pub(super) fn word(&mut self, key: &'static str, words: &[&str]) -> Option<At<String>> {
        self.ask(key, words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join("|"));
        let text = self.text(key)?;
        if words.contains(&text.value.as_str()) {
            return Some(text);
        }
        let reason = match words {
            [only] => format!("it is '{only}' or left out"),
            words => format!("it is none of the words {}", words.join(", ")),
        };
        self.context.mistakes.add(text.at, format!("key '{key}' cannot be '{}': {reason}", text.value));
        None
    }

    /// A path, resolved.
    pub(super) fn path(&mut self, key: &'static str) -> Option<At<PathBuf>> {
        self.ask(key, "\"PATH\"");
        let text = self.text(key)?;
        let text = At { at: text.at, value: self.context.resolve(&text.value) };
        match self.context.check(key, Kind::Path, &text)? {
            Value::Text(path) => Some(At { at: text.at, value: path.into() }),
            _ => None,
        }
    }

    /// A whole number of these.
    pub(super) fn number(&mut self, key: &'static str, min: i64, max: i64) -> Option<At<i64>> {
        let value = self.value(key, Kind::Int { min, max }.words())?;
        let DeValue::Integer(_) = value.get_ref() else {
            return self.context.wrong_type(key, "a whole number", value);
        };
        let text = At { at: value.span().start, value: number_text(value.get_ref())? };
        match self.context.check(key, Kind::Int { min, max }, &text)? {
            Value::Int(number) => Some(At { at: text.at, value: number }),
            _ => None,
        }
    }

    /// A number of bytes: a whole number, or text with K, M, G or T at its end.
    pub(super) fn size(&mut self, key: &'static str, min: u64, max: u64) -> Option<At<u64>> {
        let value = self.value(key, "\"SIZE\" or BYTES")?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            number @ DeValue::Integer(_) => number_text(number)?,
            _ => return self.context.wrong_type(key, "a number of bytes, or text such as \"32M\"", value),
        };
        let text = At { at: value.span().start, value: text };
        match self.context.check(key, Kind::Size { min, max }, &text)? {
            Value::Size(bytes) => Some(At { at: text.at, value: bytes }),
            _ => None,
        }
    }

    /// A list that is not empty.
    pub(super) fn list(&mut self, key: &'static str) -> Option<At<&'a DeArray<'a>>> {
        let value = self.value(key, "[VALUE, ...]")?;
        match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                let text = format!("key '{key}' has an empty list, which nobody matches");
                self.context.mistakes.add_with_hint(
                    value.span().start,
                    text,
                    "leave the key out to admit all",
                );
                None
            }
            DeValue::Array(list) => Some(At { at: value.span().start, value: list }),
            _ => self.context.wrong_type(key, "a list in brackets", value),
        }
    }

    /// A table inside this one, and where it begins.
    pub(super) fn table(&mut self, key: &'static str) -> Option<(usize, &'a DeTable<'a>)> {
        let value = self.value(key, "{ KEY = VALUE, ... }")?;
        match value.get_ref() {
            DeValue::Table(table) => Some((value.span().start, table)),
            _ => self.context.wrong_type(key, "a table", value),
        }
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys().filter(|key| !self.asked.contains_key(&**key.get_ref())) {
            let text = format!("unknown key '{}' in {}", key.get_ref(), self.name);
            let known: Vec<&str> = self.asked.keys().copied().collect();
            let hint = match nearest(key.get_ref(), known.iter().copied()) {
                Some(known) => format!("did you mean '{known}'?"),
                None => format!("its keys are {}", known.join(", ")),
            };
            self.context.mistakes.add_with_hint(key.span().start, text, hint);
        }
        if let Some(seen) = self.context.seen {
            seen.add(self.name, self.asked);
        }
    }
}

impl Context<'_> {
    /// The absolute path that a path of the file means. An empty one means none.
    pub(super) fn resolve(&self, path: &str) -> String {
        if path.is_empty() {
            return String::new();
        }
        // The folder and the path are UTF-8, so nothing is lost.
        Path::new(self.folder).join(path).to_string_lossy().into_owned()
    }

    /// Notes that a value is of the wrong type.
    pub(super) fn wrong_type<T>(&self, key: &str, wanted: &str, found: &Spanned<DeValue<'_>>) -> Option<T> {
        let text = format!("key '{key}' must be {wanted}, not {}", type_name(found.get_ref()));
        self.mistakes.add(found.span().start, text);
        None
    }

    /// Parses the text of a value, and notes what is wrong with it.
    fn check(&self, key: &str, kind: Kind, text: &At<String>) -> Option<Value> {
        kind.parse(&text.value)
            .map_err(|reason| {
                let shown = &text.value;
                self.mistakes.add(text.at, format!("key '{key}' cannot be '{shown}': {reason}"));
            })
            .ok()
    }
}

/// A whole number in decimal. One that is too long for any use stays as it was written.
pub(super) fn number_text(value: &DeValue<'_>) -> Option<String> {
    let number = value.as_integer()?;
    let decimal = i128::from_str_radix(number.as_str(), number.radix()).ok();
    Some(decimal.map_or_else(|| number.to_string(), |decimal| decimal.to_string()))
}

/// The type of a value, with its article.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
