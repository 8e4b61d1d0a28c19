//! [`Property`]: one row of a driver's table. Parsing, range checks, phases, help and messages come from it.

use std::fmt;

use crate::error::Error;

/// When a property may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before connecting: it says what to open and how.
    Connect,
    /// Between connecting and starting: it says how to run what was opened.
    Start,
    /// Never: it is a fact about the device.
    Fact,
}

/// Type and range of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true`/`false`, also on/off, yes/no, 1/0.
    Bool,
    /// A whole number in the given range, both ends included.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number of bytes; K, M, G, T multiply by powers of 1024.
    Size {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// Any text.
    Text,
    /// A path; a relative one is resolved against the folder the program was started in.
    Path,
}

/// One row of a driver's property table.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// Its name: lower case, words joined by `-`.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// When it may be set.
    pub phase: Phase,
    /// What it is when nobody sets it, in words; empty for facts.
    pub default: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
}

/// A value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number of bytes or a count.
    Size(u64),
    /// Text or a path.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Size(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
        }
    }
}

/// The properties a user has set: checked against the table, in any order, each at most once.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: Vec<(&'static str, Value)>,
}

impl Settings {
    /// Parses `KEY=VALUE` words (a bare word sets `magic`) against `table`.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), a property given twice, text that is not of the property's type
    /// or out of its range, or a property that cannot be set.
    pub fn parse(
        _driver: &str,
        _table: &'static [Property],
        _magic: &'static str,
        _words: &[String],
    ) -> Result<Settings, Error> {
        todo!("property parsing")
    }

    /// The value set for `name`, if one was.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}
