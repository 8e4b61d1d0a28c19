//! [`Property`]: one row of a driver's table. Parsing, range checks, phases, help and messages come from it.

mod facts;
mod help;
mod parse;
mod settings;

use std::fmt;

pub(crate) use facts::{Extra, fact, fact_row, join};
pub use help::Row;
pub use parse::nearest;
pub use settings::Settings;

/// How a patience without end is written.
const FOREVER: &str = "forever";

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
    /// One of these words.
    Word(&'static [&'static str]),
    /// For how long to wait: whole seconds up to this many, or `forever`.
    Patience {
        /// Most seconds.
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
    /// So many seconds; `None`: without end.
    Patience(Option<u64>),
    /// Text or a path.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Size(value) => write!(f, "{value}"),
            Value::Patience(Some(seconds)) => write!(f, "{seconds}"),
            Value::Patience(None) => f.write_str(FOREVER),
            Value::Text(value) => f.write_str(value),
        }
    }
}
