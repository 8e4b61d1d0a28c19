//! The property table in words: what `--help`, `gateway info` and the manual print.

use super::{Kind, Phase, Property};

/// One property in words, ready to be put into columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What may be written after `=`; for a fact, the type of its value.
    pub values: String,
    /// When it may be set.
    pub phase: &'static str,
    /// What it is when nobody sets it; empty for facts.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
}

impl Property {
    /// The property in words.
    #[must_use]
    pub fn row(&self) -> Row {
        Row {
            name: self.name,
            values: self.kind.words(),
            phase: self.phase.words(),
            default: self.default,
            help: self.help,
        }
    }

    /// Whether a user may set it.
    #[must_use]
    pub fn settable(&self) -> bool {
        self.phase != Phase::Fact
    }
}

impl Phase {
    /// The phase in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Phase::Connect => "before connecting",
            Phase::Start => "before starting",
            Phase::Fact => "read-only",
        }
    }
}

impl Kind {
    /// What may be written for a value of this type.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Kind::Bool => "true|false".into(),
            Kind::Int { min, max: i64::MAX } => format!("NUMBER (from {min})"),
            Kind::Int { min, max } => format!("NUMBER ({min} to {max})"),
            Kind::Size { .. } => "BYTES (512, 64K, 10M, 1G, 2T)".into(),
            Kind::Word(words) => words.join("|"),
            Kind::Patience { max } => format!("SECONDS (0 to {max}) or forever"),
            Kind::Text => "TEXT".into(),
            Kind::Path => "PATH".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_row_of_every_table_is_complete() {
        for driver in crate::DRIVERS {
            let table = driver.properties();
            assert!(
                table.iter().any(|p| p.name == driver.magic_property() && p.settable()),
                "{}",
                driver.name()
            );
            for (index, property) in table.iter().enumerate() {
                let name = property.name;
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
                assert!(!property.help.is_empty(), "{name}");
                assert_eq!(property.settable(), !property.default.is_empty(), "{name}");
                assert!(table[..index].iter().all(|other| other.name != name), "{name} is there twice");
            }
        }
    }
}
