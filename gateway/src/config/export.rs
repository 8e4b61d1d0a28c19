//! `[[export]]`: a disk, how it is offered and to whom.

use drivers::{DriverType, Settings, StartOptions};

use super::allow::{self, Allowed};
use super::properties::Properties;
use super::ranges::check_string;
use super::section::{At, Section};
use super::server::memory;
use crate::server::{Device, ExportPlan, Offer};

/// What an `[[export]]` says.
#[derive(Debug)]
pub(crate) struct ExportConfig {
    pub(crate) offer: Offer,
    pub(crate) driver: &'static dyn DriverType,
    pub(crate) settings: Settings,
    /// Payload memory, if the export has its own.
    pub(crate) memory_bytes: Option<usize>,
}

impl ExportConfig {
    /// The plan for it. `options` are for exports that say nothing of their own.
    pub(crate) fn into_plan(self, options: StartOptions) -> ExportPlan {
        let region_bytes = self.memory_bytes.unwrap_or(options.region_bytes);
        ExportPlan {
            offer: self.offer,
            device: Device {
                driver: self.driver,
                settings: self.settings,
                options: StartOptions { region_bytes, ..options },
            },
            gets: Vec::new(),
        }
    }
}

/// An export as far as it could be read, and the places that other checks need.
pub(super) struct Draft {
    pub(super) name: Option<At<String>>,
    /// Where it says that it is the default one.
    pub(super) default_at: Option<usize>,
    /// Where it says that it needs TLS.
    pub(super) tls_at: Option<usize>,
    pub(super) allow_keys: Vec<(&'static str, usize)>,
    /// `None`: its driver is not known.
    pub(super) config: Option<ExportConfig>,
}

pub(super) fn read(mut section: Section<'_>) -> Draft {
    section.require("name", "name = \"disk1\"");
    section.require("driver", "driver = \"io_uring\"");
    let name = string(&mut section, "name");
    let description = string(&mut section, "description").map(|text| text.value);
    let default_at = section.bool("default").filter(|default| default.value).map(|default| default.at);
    let driver = driver(&mut section);
    let read_only = section.bool("read-only").is_some_and(|read_only| read_only.value);
    let memory_bytes = memory(&mut section);
    let tls_at = section.word("tls", &["require"]).map(|word| word.at);
    let table = section.table("properties");
    let misread = section.key("properties").is_some() && table.is_none();
    let (at, context) = (section.at(), section.context);
    let Allowed { rules, keys } = section
        .table("allow")
        .map(|(at, table)| allow::read(Section::new("[export.allow]", at, table, context)))
        .unwrap_or_default();
    section.finish();
    let properties = |driver| {
        let (at, table) = table.map_or((at, None), |(at, table)| (at, Some(table)));
        Properties { driver, at, table, context }.read(read_only)
    };
    let settings = driver.filter(|_| !misread).map(properties).unwrap_or_default();
    let needs_tls = tls_at.is_some() || rules.need_tls();
    let offer = Offer {
        name: name.as_ref().map(|name| name.value.clone()).unwrap_or_default(),
        description,
        read_only,
        is_default: default_at.is_some(),
        needs_tls,
        rules,
    };
    let config = driver.map(|driver| ExportConfig { offer, driver, settings, memory_bytes });
    Draft { name, default_at, tls_at, allow_keys: keys, config }
}

/// Text that the protocol can carry.
fn string(section: &mut Section<'_>, key: &'static str) -> Option<At<String>> {
    let text = section.text(key)?;
    match check_string(&text.value) {
        Ok(()) => Some(text),
        Err(reason) => {
            section.context.mistakes.add(text.at, format!("key '{key}' {reason}"));
            None
        }
    }
}

fn driver(section: &mut Section<'_>) -> Option<&'static dyn DriverType> {
    let name = section.text("driver")?;
    drivers::find(&name.value).map_err(|error| section.context.mistakes.add_error(name.at, error)).ok()
}
