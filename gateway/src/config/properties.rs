//! `properties` of an export: what the driver's table says of each, at its own place.

use drivers::property::Kind;
use drivers::{DriverType, Property, Settings};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::section::{At, Context, number_text};

/// The property that an export's own key of that name sets.
const READ_ONLY: &str = "read-only";

/// Properties as the file has them.
pub(super) struct Properties<'a> {
    pub(super) driver: &'static dyn DriverType,
    /// Where they begin, or the export if it has none.
    pub(super) at: usize,
    pub(super) table: Option<&'a DeTable<'a>>,
    pub(super) context: Context<'a>,
}

impl Properties<'_> {
    /// Checks all of them against the table of the driver. `read_only` is the export's own key.
    pub(super) fn read(&self, read_only: bool) -> Settings {
        let mut settings = Settings::default();
        for (key, value) in self.table.into_iter().flatten() {
            self.set(&mut settings, key, value);
        }
        self.check_sources();
        if read_only {
            self.set_read_only(&mut settings);
        }
        settings
    }

    fn property(&self, name: &str) -> Option<&'static Property> {
        self.driver.properties().iter().find(|property| property.name == name)
    }

    fn set(&self, settings: &mut Settings, key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) {
        let name = key.get_ref().as_ref();
        let text = match self.property(name).filter(|property| property.settable()) {
            Some(property) => match value_text(property, value, self.context) {
                Some(text) => text,
                None => return,
            },
            // It will be said what is wrong with the name.
            None => At { at: key.span().start, value: String::new() },
        };
        let result = settings.set(self.driver.name(), self.driver.properties(), name, &text.value);
        if let Err(error) = result {
            self.context.mistakes.add_error(text.at, error);
        }
    }

    /// One property says which disk it is. Not asked for when a name is unknown, which was meant to be it perhaps.
    fn check_sources(&self) {
        let driver = self.driver.name();
        let sources = self.driver.sources();
        let keys = || self.table.into_iter().flat_map(|table| table.keys());
        let mut given: Vec<(usize, &str)> = keys()
            .map(|key| (key.span().start, &**key.get_ref()))
            .filter(|(_, name)| sources.contains(name))
            .collect();
        given.sort_unstable();
        if let [(_, first), more @ ..] = &given[..] {
            for (at, second) in more {
                let text = format!("driver '{driver}' got both '{first}' and '{second}'");
                self.context.mistakes.add_with_hint(*at, text, "give one of them");
            }
        } else if keys().all(|key| self.property(key.get_ref()).is_some()) {
            let text = format!("driver '{driver}' needs the property '{}'", sources.join("' or '"));
            self.context.mistakes.add_with_hint(self.at, text, self.example());
        }
    }

    fn example(&self) -> String {
        let name = self.driver.magic_property();
        let value = match self.property(name).map(|property| property.kind) {
            Some(Kind::Size { .. }) => "1G",
            Some(Kind::Path) => "/…",
            _ => "…",
        };
        format!("for example: properties = {{ {name} = \"{value}\" }}")
    }

    /// An export that is read-only sets the property, if there is one, and must not contradict it.
    fn set_read_only(&self, settings: &mut Settings) {
        match self.table.and_then(|table| table.get(READ_ONLY)) {
            None => {
                // Fails for a driver without such a property, whose export is read-only all the same.
                let _ = settings.set(self.driver.name(), self.driver.properties(), READ_ONLY, "true");
            }
            Some(value) if settings.bool(READ_ONLY) == Some(false) => {
                let text = "the property read-only = false contradicts read-only = true of the export";
                self.context.mistakes.add_with_hint(value.span().start, text, "leave one of them out");
            }
            Some(_) => {}
        }
    }
}

/// The value as a word of the command line has it, if its type is that of the property.
fn value_text(property: &Property, value: &Spanned<DeValue<'_>>, context: Context<'_>) -> Option<At<String>> {
    let wanted = match property.kind {
        Kind::Bool => "true or false",
        Kind::Int { .. } => "a whole number",
        Kind::Size { .. } => "a number of bytes, or text such as \"1G\"",
        Kind::Patience { .. } => "a number of seconds, or \"forever\"",
        Kind::Word(_) | Kind::Text | Kind::Path => "text in quotes",
    };
    let text = match (property.kind, value.get_ref()) {
        (Kind::Bool, DeValue::Boolean(truth)) => truth.to_string(),
        (Kind::Int { .. } | Kind::Size { .. } | Kind::Patience { .. }, number @ DeValue::Integer(_)) => {
            number_text(number)?
        }
        (Kind::Path, DeValue::String(path)) => context.resolve(path),
        (Kind::Size { .. } | Kind::Patience { .. } | Kind::Word(_) | Kind::Text, DeValue::String(text)) => {
            text.to_string()
        }
        _ => return context.wrong_type(property.name, wanted, value),
    };
    Some(At { at: value.span().start, value: text })
}
