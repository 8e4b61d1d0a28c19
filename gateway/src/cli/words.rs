//! The words behind the options: driver, properties, and `get=PROPERTY`.

use clap::CommandFactory as _;
use drivers::{DriverType, Error, Settings};

use super::args::Arguments;

/// What the words say.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) driver: &'static dyn DriverType,
    pub(super) settings: Settings,
    /// Properties to print.
    pub(super) gets: Vec<String>,
}

impl Words {
    /// Looks the driver up and checks the properties. `read_only` sets the property of that name, if there is one.
    ///
    /// # Errors
    /// Usage errors: everything that can be known to be wrong before a device is touched.
    pub(super) fn parse(words: &[String], read_only: bool) -> Result<Words, Error> {
        let [driver, words @ ..] = words else {
            return Err(Error::usage("no driver is given")
                .hint("for example: gateway io_uring path=disk.img; see also 'gateway --help' and 'gateway drivers'"));
        };
        let driver = find(driver)?;
        let (gets, mut words): (Vec<String>, Vec<String>) =
            words.iter().cloned().partition(|word| word.starts_with("get="));
        let gets: Vec<String> = gets.iter().map(|word| word["get=".len()..].to_owned()).collect();
        for name in &gets {
            check_get(driver, name)?;
        }
        let table = driver.properties();
        let settable = table.iter().any(|property| property.name == "read-only" && property.settable());
        if read_only && settable && !words.iter().any(|word| word.starts_with("read-only=")) {
            words.push("read-only=true".into());
        }
        let settings = Settings::parse(driver.name(), table, driver.magic_property(), &words)?;
        if read_only && settable && settings.bool("read-only") == Some(false) {
            return Err(Error::usage("option -r contradicts read-only=false").hint("leave one of them out"));
        }
        Ok(Words { driver, settings, gets })
    }
}

/// The driver of this name.
///
/// # Errors
/// There is none; options may have come before a subcommand.
pub(super) fn find(name: &str) -> Result<&'static dyn DriverType, Error> {
    if Arguments::command().find_subcommand(name).is_some() {
        return Err(Error::usage(format!("'{name}' is not the first word of the command line"))
            .hint(format!("options follow it: gateway {name} …")));
    }
    drivers::find(name)
}

fn check_get(driver: &dyn DriverType, name: &str) -> Result<(), Error> {
    if driver.properties().iter().any(|property| property.name == name) {
        return Ok(());
    }
    // The driver's own words for a property that it does not have.
    let word = format!("{name}=");
    match Settings::parse(driver.name(), driver.properties(), driver.magic_property(), &[word]) {
        Err(error) => Err(error),
        Ok(_) => Err(Error::usage(format!("driver '{}' has no property '{name}'", driver.name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drivers::ErrorKind;

    fn parse(line: &str, read_only: bool) -> Result<Words, Error> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Words::parse(&words, read_only)
    }

    fn message(line: &str, read_only: bool) -> String {
        let error = parse(line, read_only).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        error.to_string()
    }

    #[test]
    fn gets_may_stand_anywhere_behind_the_driver() {
        let words = parse("memory get=capacity 1G get=size", false).unwrap();
        assert_eq!(words.gets, ["capacity", "size"]);
        assert_eq!(words.settings.size("size"), Some(1 << 30));
    }

    #[test]
    fn a_get_names_a_property_of_the_driver() {
        assert!(message("memory 1G get=capacty", false).contains("'capacity'"));
        assert!(message("memory 1G get=", false).contains("no property ''"));
    }

    #[test]
    fn the_option_for_reading_only_sets_the_property() {
        let set = |line, option| parse(line, option).unwrap().settings.bool("read-only");
        assert_eq!(set("memory 1G", false), None);
        assert_eq!(set("memory 1G", true), Some(true));
        assert_eq!(set("memory 1G read-only=yes", true), Some(true));
        assert!(message("memory 1G read-only=off", true).contains("contradicts"));
    }

    #[test]
    fn without_a_driver_an_example_is_shown() {
        assert!(message("", false).contains("gateway io_uring path="));
    }

    #[test]
    fn an_unknown_driver_is_answered_with_the_nearest_one() {
        assert!(message("memroy 1G", false).contains("'memory'"));
        assert!(message("info memory 1G", false).contains("gateway info"));
    }
}
