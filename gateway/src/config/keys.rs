//! Which keys a file may have, as its own reader knows them. The manual is made of this.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::report::Mistakes;
use super::section::Context;
use super::{Told, walk};

/// A file with each kind of section, and nothing in any of them.
const EVERY_SECTION: &str = "[server]\n[[listen]]\n[[export]]\n[export.allow]\n";

/// A key that a section may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// What messages call the section: `[server]`, `[[export]]`, …
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    /// What may be written for its value.
    pub(crate) values: String,
}

/// Keys that were asked for.
#[derive(Debug, Default)]
pub(super) struct Seen(RefCell<Vec<Key>>);

impl Seen {
    pub(super) fn add(&self, section: &'static str, asked: BTreeMap<&'static str, String>) {
        let key = |(name, values)| Key { section, name, values };
        self.0.borrow_mut().extend(asked.into_iter().map(key));
    }
}

/// Every key of every section below the file itself.
pub(crate) fn known_keys() -> Vec<Key> {
    let (seen, mistakes) = (Seen::default(), Mistakes::default());
    walk(EVERY_SECTION, Told::default(), Context { mistakes: &mistakes, folder: "/", seen: Some(&seen) });
    let mut keys = seen.0.into_inner();
    keys.retain(|key| key.section != super::FILE);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_sections_are_known_with_their_values() {
        let keys = known_keys();
        let values = |section, name| {
            let key = keys.iter().find(|key: &&Key| key.section == section && key.name == name);
            key.map(|key| key.values.as_str())
        };
        assert_eq!(values("[server]", "workers"), Some("NUMBER (1 to 1024)"));
        assert_eq!(values("[server]", "tls"), Some("\"off\"|\"on\"|\"require\""));
        assert_eq!(values("[server]", "pidfile"), Some("\"PATH\""));
        assert_eq!(values("[[listen]]", "tcp"), Some("\"TEXT\""));
        assert_eq!(values("[[export]]", "read-only"), Some("true|false"));
        assert_eq!(values("[[export]]", "properties"), Some("{ KEY = VALUE, ... }"));
        assert_eq!(values("[export.allow]", "uid"), Some("[VALUE, ...]"));
        assert!(keys.iter().all(|key| key.section.contains('[')));
    }
}
