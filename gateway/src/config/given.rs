//! An export that is given as JSON, with the keys of an `[[export]]`.
//!
//! It is written down as TOML and read like a file, so what is right and what is said of mistakes is the same. Instead
//! of a line and a column a mistake has the key that it is about.

use std::path::Path;

use serde_json::{Map, Value};
use toml::de::DeTable;

use super::export::{self, ExportConfig};
use super::report::Mistakes;
use super::section::{Context, Section};
use crate::control::Mistake;

/// Tables and lists inside each other, of which an export has three.
const DEPTH_MAX: usize = 8;

/// Reads an export. Relative paths in it begin in `folder`.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn export_of_json(given: Map<String, Value>, folder: &Path) -> Result<ExportConfig, Vec<Mistake>> {
    let folder = folder.to_str().ok_or_else(|| {
        let what = "the name of the server's working folder is not UTF-8".to_owned();
        vec![Mistake { what, place: None, hint: None }]
    })?;
    let mut text = Text::default();
    text.lines(&given).map_err(|mistake| vec![mistake])?;
    let mistakes = Mistakes::default();
    let (root, errors) = DeTable::parse_recoverable(&text.toml);
    for error in &errors {
        mistakes.add(error.span().map_or(0, |span| span.start), error.message());
    }
    let context = Context { mistakes: &mistakes, folder, seen: None };
    let draft = export::read(Section::new("an export", 0, root.get_ref(), context));
    let found: Vec<Mistake> = mistakes
        .into_list()
        .into_iter()
        .map(|(at, what, hint)| Mistake { what, place: text.key_at(at), hint })
        .collect();
    match draft.config {
        Some(config) if found.is_empty() => Ok(config),
        _ => Err(found),
    }
}

/// TOML, and which keys are where.
#[derive(Debug, Default)]
struct Text {
    toml: String,
    /// Where each key and value begins, in order.
    keys: Vec<(usize, String)>,
}

impl Text {
    /// A key and its value on each line.
    fn lines(&mut self, table: &Map<String, Value>) -> Result<(), Mistake> {
        // Mistakes at the very beginning are about the whole.
        self.toml.push('\n');
        for (key, value) in table {
            self.pair(key, value, key.clone(), DEPTH_MAX)?;
            self.toml.push('\n');
        }
        Ok(())
    }

    /// The key that is or has what begins at this byte; `None`: it is about the whole.
    fn key_at(&self, at: usize) -> Option<String> {
        let behind = self.keys.partition_point(|(start, _)| *start <= at);
        self.keys[..behind].last().map(|(_, key)| key.clone())
    }

    fn pair(&mut self, key: &str, value: &Value, place: String, depth: usize) -> Result<(), Mistake> {
        self.keys.push((self.toml.len(), place.clone()));
        self.string(key);
        self.toml.push('=');
        self.value(value, place, depth)
    }

    fn value(&mut self, value: &Value, place: String, depth: usize) -> Result<(), Mistake> {
        let mistake = |what: &str, hint: &str, place| {
            Err(Mistake { what: what.into(), place: Some(place), hint: Some(hint.into()) })
        };
        let Some(depth) = depth.checked_sub(1) else {
            return mistake(
                "there are too many tables and lists inside each other",
                "an export has three",
                place,
            );
        };
        self.keys.push((self.toml.len(), place.clone()));
        match value {
            Value::Null => return mistake("null is no value", "leave the key out", place),
            Value::Bool(truth) => self.toml.push_str(if *truth { "true" } else { "false" }),
            Value::Number(number) => self.toml.push_str(&number.to_string()),
            Value::String(text) => self.string(text),
            Value::Array(list) => {
                self.toml.push('[');
                for (index, item) in list.iter().enumerate() {
                    self.value(item, format!("{place}[{index}]"), depth)?;
                    self.toml.push(',');
                }
                self.toml.push(']');
            }
            Value::Object(table) => {
                self.toml.push('{');
                for (index, (key, value)) in table.iter().enumerate() {
                    self.toml.push_str(if index > 0 { "," } else { "" });
                    self.pair(key, value, format!("{place}.{key}"), depth)?;
                }
                self.toml.push('}');
            }
        }
        Ok(())
    }

    /// A basic string (TOML 1.0, "String").
    fn string(&mut self, text: &str) {
        self.toml.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.toml.extend(['\\', c]),
                c if c.is_ascii_control() => self.toml.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => self.toml.push(c),
            }
        }
        self.toml.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(value: Value) -> Result<ExportConfig, Vec<Mistake>> {
        let Value::Object(given) = value else { panic!("an object") };
        export_of_json(given, Path::new("/folder"))
    }

    fn places(value: Value) -> Vec<(String, String)> {
        let mistakes = read(value).unwrap_err();
        mistakes.into_iter().map(|mistake| (mistake.place.unwrap_or_default(), mistake.what)).collect()
    }

    #[test]
    fn an_export_has_the_keys_of_a_file() {
        let export = read(json!({
            "name": "a \"b\" \\ \u{7f}\u{1}é",
            "driver": "io_uring",
            "description": "d",
            "read-only": true,
            "memory": "2M",
            "properties": { "path": "disk.img", "direct": true, "num-queues": 2 },
            "allow": { "uid": [0], "address": null },
        }));
        assert_eq!(export.unwrap_err()[0].place.as_deref(), Some("allow.address"));
        let export = read(json!({
            "name": "a \"b\" \\ \u{7f}\u{1}é",
            "driver": "io_uring",
            "read-only": true,
            "memory": 2_097_152,
            "properties": { "path": "disk.img", "direct": true, "num-queues": 2 },
            "allow": { "uid": [0] },
        }))
        .unwrap();
        assert_eq!(export.offer.name, "a \"b\" \\ \u{7f}\u{1}é");
        assert_eq!(export.settings.path("path"), Some(Path::new("/folder/disk.img")));
        assert_eq!((export.settings.count("num-queues"), export.memory_bytes), (Some(2), Some(2 << 20)));
        assert!(export.offer.read_only && export.offer.rules.uid == Some(vec![0]));
    }

    #[test]
    fn every_mistake_has_its_key() {
        let found = places(json!({
            "name": 1,
            "driver": "memory",
            "zzz": 1,
            "allow": { "uid": [0, "nobody-of-this-name"] },
            "properties": { "size": "1X" },
        }));
        let keys: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(keys, ["allow.uid[1]", "name", "properties.size", "zzz"], "{found:?}");
        let found = places(json!({ "name": "a" }));
        assert_eq!(found.len(), 1);
        assert!(found[0].0.is_empty() && found[0].1.contains("needs the key 'driver'"), "{found:?}");
    }

    #[test]
    fn what_is_nested_too_deep_is_no_export() {
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        assert!(places(json!({ "name": deep }))[0].1.contains("inside each other"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(name in "\\PC*", key in ".{0,9}", value in ".*") {
            let properties = json!({ key.clone(): 1e300 });
            let _ = read(json!({ "name": name.clone(), "driver": name, key: value, "properties": properties }));
        }

        #[test]
        fn any_name_stays_what_it_is(name in "[^\0]{0,200}") {
            let export = read(json!({ "name": name.clone(), "driver": "null", "properties": { "size": 1 } }));
            prop_assert_eq!(export.unwrap().offer.name, name);
        }
    }
}
