//! `gateway drivers` and `gateway DRIVER --help`: the property tables in words.

use drivers::property::Kind;
use drivers::{DRIVERS, DriverType, Property};
use serde_json::json;

/// The drivers as a table.
pub(super) fn drivers_text() -> String {
    let mut text = String::new();
    for driver in DRIVERS {
        text.push_str(&format!("{:<24} {}\n", driver.name(), driver.summary()));
    }
    text.push_str("\n'gateway DRIVER --help' explains a driver's properties.\n");
    text
}

/// The drivers with everything about their properties.
pub(super) fn drivers_json() -> String {
    let property = |property: &Property| {
        let row = property.row();
        json!({
            "name": row.name,
            "type": kind_name(property.kind),
            "values": row.values,
            "settable": property.settable(),
            "phase": row.phase,
            "default": row.default,
            "help": row.help,
        })
    };
    let driver = |driver: &&dyn DriverType| {
        json!({
            "name": driver.name(),
            "summary": driver.summary(),
            "magic": driver.magic_property(),
            "properties": driver.properties().iter().map(property).collect::<Vec<_>>(),
        })
    };
    let all: Vec<_> = DRIVERS.iter().map(driver).collect();
    format!("{:#}\n", serde_json::Value::from(all))
}

/// Everything about one driver.
pub(super) fn driver_text(driver: &dyn DriverType) -> String {
    let (name, magic) = (driver.name(), driver.magic_property());
    let mut text = format!(
        "{name}: {}\n\nUsage: gateway [OPTIONS] {name} [PROPERTY=VALUE]...\n\nProperties:\n",
        driver.summary()
    );
    let (settable, facts): (Vec<&Property>, Vec<&Property>) =
        driver.properties().iter().partition(|property| property.settable());
    for property in &settable {
        let row = property.row();
        text.push_str(&format!("  {}={}\n", row.name, row.values));
        text.push_str(&format!("          {}.\n", row.help));
        if row.name == magic {
            text.push_str(&format!(
                "          A word without '=' sets it: gateway {name} {}\n",
                example_value(property)
            ));
        }
        text.push_str(&format!(
            "          Default: {}. Set {}. Example: {}={}\n",
            row.default,
            row.phase,
            row.name,
            example_value(property)
        ));
    }
    text.push_str(
        "\nFacts, printed by get=NAME after the start, and all of them by 'gateway info'; sizes are in bytes:\n",
    );
    for property in &facts {
        let row = property.row();
        text.push_str(&format!("  {:<25} {:<8} {}\n", row.name, kind_name(property.kind), row.help));
    }
    text.push_str("\nExamples:\n");
    for line in examples(driver) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// Command lines that use the most important property, and then one of the others.
pub(super) fn examples(driver: &dyn DriverType) -> Vec<String> {
    let (name, magic) = (driver.name(), driver.magic_property());
    let settable = || driver.properties().iter().filter(|property| property.settable());
    let Some(first) = settable().find(|property| property.name == magic) else { return Vec::new() };
    let line = format!("gateway {name} {magic}={}", example_value(first));
    let mut lines = vec![line.clone(), format!("gateway info {name} {magic}={}", example_value(first))];
    let other =
        |property: &&Property| property.name != magic && !matches!(property.kind, Kind::Int { min: 0, .. });
    if let Some(property) = settable().find(other) {
        lines.push(format!("{line} {}={}", property.name, example_value(property)));
    }
    lines
}

/// A value that is legal.
pub(super) fn example_value(property: &Property) -> String {
    match property.kind {
        Kind::Bool => "true".into(),
        Kind::Int { min, max } => {
            let default = property.default.parse::<i64>().ok().filter(|value| *value > min);
            default.unwrap_or(3).clamp(min, max).to_string()
        }
        Kind::Size { min, max } => {
            if (min..=max).contains(&(1 << 30)) {
                "1G".into()
            } else {
                min.to_string()
            }
        }
        Kind::Word(words) => words.last().copied().unwrap_or_default().into(),
        Kind::Patience { max } => max.min(300).to_string(),
        Kind::Text => "text".into(),
        Kind::Path => "disk.img".into(),
    }
}

/// The type in one word.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int { .. } => "number",
        Kind::Size { .. } => "size",
        Kind::Word(_) => "word",
        Kind::Patience { .. } => "patience",
        Kind::Text => "text",
        Kind::Path => "path",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_explained_by_its_driver() {
        for driver in DRIVERS {
            let text = driver_text(*driver);
            for property in driver.properties() {
                assert!(text.contains(property.name) && text.contains(property.help), "{}", property.name);
            }
            assert!(text.contains(&format!("gateway {} {}=", driver.name(), driver.magic_property())));
        }
    }

    #[test]
    fn examples_are_legal() {
        for driver in DRIVERS {
            for property in driver.properties().iter().filter(|property| property.settable()) {
                let value = example_value(property);
                assert!(property.kind.parse(&value).is_ok(), "{}={value}", property.name);
            }
        }
    }

    #[test]
    fn the_table_of_drivers_is_json() {
        let value: serde_json::Value = serde_json::from_str(&drivers_json()).unwrap();
        assert_eq!(value.as_array().map(Vec::len), Some(DRIVERS.len()));
        assert!(DRIVERS.iter().all(|driver| drivers_text().contains(driver.name())));
    }
}
