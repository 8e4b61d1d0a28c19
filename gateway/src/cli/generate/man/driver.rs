//! The page of a driver, made of its table of properties.

use drivers::property::Kind;
use drivers::{DriverType, Property};
use roff::{bold, italic, roman};

use super::super::super::help::{example_value, examples, kind_name};
use super::page::Page;

pub(super) fn page(driver: &dyn DriverType) -> Page {
    let name = driver.name();
    let mut page = Page::new(&format!("gateway-{name}"), 1, driver.summary());
    page.section("SYNOPSIS");
    page.verbatim([
        format!("gateway [OPTIONS] {name} [PROPERTY=VALUE]..."),
        format!("gateway info {name} [PROPERTY=VALUE]... [--json]"),
    ]);
    page.section("DESCRIPTION");
    page.paragraph([
        roman("The driver "),
        bold(name),
        roman(" of "),
        bold("gateway"),
        roman(format!("(1): {}.", driver.summary())),
    ]);
    page.paragraph([roman(sources(driver))]);
    page.section("PROPERTIES");
    let (settable, facts): (Vec<&Property>, Vec<&Property>) =
        driver.properties().iter().partition(|property| property.settable());
    settable.iter().for_each(|property| add(&mut page, driver, property));
    page.section("FACTS");
    page.paragraph([roman(
        "They cannot be set. A word get=NAME prints one after the start, and gateway info prints all; sizes are in \
         bytes.",
    )]);
    for property in facts {
        page.term([bold(property.name), roman(" "), italic(kind_name(property.kind))], property.help);
    }
    page.section("EXAMPLES");
    page.commands(examples(driver).iter().map(|line| (line.as_str(), "")));
    page.see_also(&[("gateway".into(), 1), ("gateway-info".into(), 1), ("gateway.toml".into(), 5)]);
    page
}

/// Which properties say which disk it is.
fn sources(driver: &dyn DriverType) -> String {
    let magic = driver.magic_property();
    let bare = format!("A word without '=' behind the driver's name sets {magic}.");
    match &driver.sources()[..] {
        [] => bare,
        [one] => format!("The property {one} must be given. {bare}"),
        many => format!("One of the properties {} must be given. {bare}", many.join(", ")),
    }
}

fn add(page: &mut Page, driver: &dyn DriverType, property: &Property) {
    let row = property.row();
    page.term([bold(row.name), roman("="), italic(row.values)], &format!("{}.", row.help));
    page.line(&format!("Type: {}{}.", kind_name(property.kind), range(property.kind)));
    page.line(&format!("Default: {}.", row.default));
    page.line(&format!("Set {}.", row.phase));
    page.line(&format!("Example: {} {}={}", driver.name(), row.name, example_value(property)));
}

/// The range that the words for a value do not tell.
fn range(kind: Kind) -> String {
    match kind {
        Kind::Size { min: 0, max: u64::MAX } => String::new(),
        Kind::Size { min, max: u64::MAX } => format!(", from {min} bytes"),
        Kind::Size { min, max } => format!(", {min} to {max} bytes"),
        Kind::Int { min, max: i64::MAX } => format!(", from {min}"),
        Kind::Int { min, max } => format!(", {min} to {max}"),
        Kind::Patience { max } => format!(", 0 to {max} seconds, or without end"),
        Kind::Bool | Kind::Word(_) | Kind::Text | Kind::Path => String::new(),
    }
}
