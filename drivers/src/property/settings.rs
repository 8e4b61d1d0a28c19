//! [`Settings`]: what a user has set, checked against a driver's table.

use std::path::Path;
use std::time::Duration;

use super::parse::{parse_value, unknown_property};
use super::{Phase, Property, Value};
use crate::error::Error;

/// The properties a user has set: checked against the table, in any order, each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Sorted by name, so that the same settings are equal.
    values: Vec<(&'static str, Value)>,
}

impl Settings {
    /// Parses `KEY=VALUE` words (a bare word sets `magic`) against `table`. Relative paths are resolved against the
    /// current folder here, so that a later change of folder does not matter.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), a property given twice, text that is not of the property's type
    /// or out of its range, or a property that cannot be set.
    pub fn parse(
        driver: &str,
        table: &'static [Property],
        magic: &'static str,
        words: &[String],
    ) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        for word in words {
            let (name, text) = word.split_once('=').unwrap_or((magic, word));
            settings.set(driver, table, name, text).map_err(|error| {
                if name.contains('/') {
                    return error.hint(format!("for a value with '=' in it, write {magic}={word}"));
                }
                error
            })?;
        }
        Ok(settings)
    }

    /// Sets the property `name` of `table` to what `text` says.
    ///
    /// # Errors
    /// As those of [`Settings::parse`].
    pub fn set(
        &mut self,
        driver: &str,
        table: &'static [Property],
        name: &str,
        text: &str,
    ) -> Result<(), Error> {
        let Some(property) = table.iter().find(|property| property.name == name) else {
            return Err(unknown_property(driver, table, name));
        };
        if property.phase == Phase::Fact {
            return Err(Error::usage(format!(
                "property '{name}' of driver '{driver}' cannot be set: it is a fact about the device"
            ))
            .hint(format!("get={name} prints it")));
        }
        match self.values.binary_search_by_key(&name, |(key, _)| key) {
            Ok(_) => Err(Error::usage(format!("property '{name}' of driver '{driver}' is given twice"))
                .hint("give it once")),
            Err(index) => {
                self.values.insert(index, (property.name, parse_value(driver, property, text)?));
                Ok(())
            }
        }
    }

    /// The value set for `name`, if one was.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The truth value set for `name`.
    ///
    /// # Panics
    /// When the table gives the property another type; so do the other typed getters.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| match value {
            Value::Bool(value) => *value,
            other => wrong_type(name, other),
        })
    }

    /// The whole number set for `name`.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).map(|value| match value {
            Value::Int(value) => *value,
            other => wrong_type(name, other),
        })
    }

    /// The whole number set for `name`, for properties whose range has no negative values.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<usize> {
        self.int(name).map(|value| usize::try_from(value).unwrap_or(0))
    }

    /// The number of bytes set for `name`.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.get(name).map(|value| match value {
            Value::Size(value) => *value,
            other => wrong_type(name, other),
        })
    }

    /// For how long to wait by what was set for `name`; the inner `None`: without end.
    #[must_use]
    pub fn patience(&self, name: &str) -> Option<Option<Duration>> {
        self.get(name).map(|value| match value {
            Value::Patience(seconds) => seconds.map(Duration::from_secs),
            other => wrong_type(name, other),
        })
    }

    /// The text set for `name`.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|value| match value {
            Value::Text(value) => value.as_str(),
            other => wrong_type(name, other),
        })
    }

    /// The absolute path set for `name`.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<&Path> {
        self.text(name).map(Path::new)
    }
}

fn wrong_type(name: &str, value: &Value) -> ! {
    panic!("the property table and the driver disagree on the type of '{name}': {value:?}")
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use crate::error::ErrorKind;

    const TABLE: &[Property] = &[
        Property { name: "path", kind: Kind::Path, phase: Phase::Connect, default: "", help: "" },
        Property { name: "direct", kind: Kind::Bool, phase: Phase::Connect, default: "false", help: "" },
        Property {
            name: "size",
            kind: Kind::Size { min: 0, max: 1 << 50 },
            phase: Phase::Connect,
            default: "",
            help: "",
        },
        Property {
            name: "num-entries",
            kind: Kind::Int { min: 1, max: 32768 },
            phase: Phase::Start,
            default: "128",
            help: "",
        },
        Property {
            name: "capacity",
            kind: Kind::Size { min: 0, max: u64::MAX },
            phase: Phase::Fact,
            default: "",
            help: "",
        },
    ];

    fn parse(words: &[&str]) -> Result<Settings, Error> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Settings::parse("test", TABLE, "path", &words)
    }

    fn message(words: &[&str]) -> String {
        let error = parse(words).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        error.to_string()
    }

    #[test]
    fn a_bare_word_sets_the_magic_property() {
        let settings = parse(&["/disk.img"]).unwrap();
        assert_eq!(settings.path("path"), Some(Path::new("/disk.img")));
    }

    #[test]
    fn order_does_not_matter_and_unset_is_none() {
        let settings = parse(&["num-entries=7", "path=/a", "direct=on"]).unwrap();
        assert_eq!(settings.count("num-entries"), Some(7));
        assert_eq!(settings.bool("direct"), Some(true));
        assert_eq!(settings.size("size"), None);
    }

    #[test]
    fn relative_paths_are_resolved_where_they_are_parsed() {
        let settings = parse(&["x/../disk.img"]).unwrap();
        let expected = std::path::absolute("x/../disk.img").unwrap();
        assert_eq!(settings.path("path"), Some(expected.as_path()));
        assert!(settings.path("path").unwrap().is_absolute());
    }

    #[test]
    fn a_value_may_contain_the_equals_sign() {
        assert_eq!(parse(&["path=/a=b"]).unwrap().text("path"), Some("/a=b"));
    }

    #[test]
    fn settings_are_equal_in_any_order() {
        let one = parse(&["num-entries=7", "path=/a", "direct=on"]).unwrap();
        assert_eq!(one, parse(&["direct=true", "num-entries=7", "/a"]).unwrap());
        assert_ne!(one, parse(&["direct=true", "num-entries=7", "/b"]).unwrap());
    }

    #[test]
    fn a_path_with_an_equals_sign_is_answered_with_how_to_write_it() {
        assert!(message(&["/a=b"]).contains("path=/a=b"));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_one() {
        assert!(message(&["num_entries=3"]).contains("'num-entries'"));
        assert!(message(&["dirct=on"]).contains("'direct'"));
        assert!(!message(&["zzzzzzzz=on"]).contains("did you mean"));
    }

    #[test]
    fn a_fact_cannot_be_set() {
        let text = message(&["capacity=1G"]);
        assert!(text.contains("'capacity'") && text.contains("get=capacity"), "{text}");
    }

    #[test]
    fn a_property_is_given_once() {
        assert!(message(&["path=/a", "/b"]).contains("given twice"));
    }
}
