//! The configuration file: any number of exports, what the server is told, and where it listens.
//!
//! It is read without touching any device, and everything that can be known to be wrong is found at once, with its
//! line and column. The values of properties are checked by the drivers' tables, as on the command line.
//!
//! The text is parsed by `toml`, which keeps the place of every key and value, and is then walked by hand: a
//! deserializer would stop at the first mistake and could not tell the place of one that concerns two keys. A file that
//! is not TOML is told the mistakes of its syntax only, since what is meant there can only be guessed.

mod allow;
mod export;
mod given;
mod keys;
mod listen;
mod metrics;
mod properties;
pub(crate) mod ranges;
mod report;
mod section;
mod server;
mod whole;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::net::listen::Listen;

pub(crate) use export::ExportConfig;
pub(crate) use given::export_of_json;
pub(crate) use keys::{Key, known_keys};
pub(crate) use metrics::MetricsPlace;
use report::Mistakes;
pub(crate) use report::Report;
use section::{At, Context, Section, type_name};
pub(crate) use server::ServerConfig;

/// What messages call the file as a whole.
const FILE: &str = "the file";

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What a file says.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    /// In the order of the file; empty if it does not say where to listen.
    pub(crate) listen: Vec<Listen>,
    /// At least one. The default comes first, the others in the order of the file.
    pub(crate) exports: Vec<ExportConfig>,
}

/// What is told elsewhere, whatever the file says of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// How connections are encrypted.
    pub(crate) tls: bool,
    /// Where to listen.
    pub(crate) places: bool,
}

/// Reads a file. Relative paths in it begin in its own folder.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn load(file: &Path, told: Told) -> Result<Config, Report> {
    let unreadable = |cause: &dyn std::fmt::Display| Report::unreadable(file, cause);
    let text = read(file).map_err(|cause| unreadable(&cause))?;
    let absolute = std::path::absolute(file).map_err(|cause| unreadable(&cause))?;
    let folder = absolute.parent().unwrap_or(&absolute);
    let folder = folder.to_str().ok_or_else(|| unreadable(&"the name of its folder is not UTF-8"))?;
    match String::from_utf8(text) {
        Ok(text) => parse(file, &text, folder, told),
        Err(error) => Err(not_text(file, &error)),
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn not_text(file: &Path, error: &std::string::FromUtf8Error) -> Report {
    let (valid, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
    let valid = String::from_utf8_lossy(valid);
    let valid = valid.strip_prefix('\u{feff}').unwrap_or(&valid);
    let mistakes = Mistakes::default();
    mistakes.add_with_hint(valid.len(), "the text is not UTF-8", "save it in that encoding");
    mistakes.into_report(file, valid).unwrap_or_else(|| Report::unreadable(file, &"its text is not UTF-8"))
}

/// Reads the text of `file`, which lies in `folder`.
fn parse(file: &Path, text: &str, folder: &str, told: Told) -> Result<Config, Report> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mistakes = Mistakes::default();
    let config = walk(text, told, Context { mistakes: &mistakes, folder, seen: None });
    match mistakes.into_report(file, text) {
        None => Ok(config),
        Some(report) => Err(report),
    }
}

/// What the text says; worth something only if no mistakes were found.
fn walk(text: &str, told: Told, context: Context<'_>) -> Config {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        note_syntax(text, &errors, context.mistakes);
        return Config { server: ServerConfig::default(), listen: Vec::new(), exports: Vec::new() };
    }
    let mut root = Section::new(FILE, 0, root.get_ref(), context);
    let server = root
        .table("server")
        .map(|(at, table)| server::read(Section::new("[server]", at, table, context)))
        .unwrap_or_default();
    let listen: Vec<At<Listen>> =
        sections(&mut root, "listen", "[[listen]]").into_iter().filter_map(listen::read).collect();
    let exports: Vec<export::Draft> =
        sections(&mut root, "export", "[[export]]").into_iter().map(export::read).collect();
    if root.key("export").is_none() {
        let hint = "begin one with a line [[export]], and give it a name and a driver";
        context.mistakes.add_with_hint(text.len(), "there is no export", hint);
    }
    root.finish();
    whole::check(&server, &listen, &exports, told, context.mistakes);
    let listen = listen.into_iter().map(|place| place.value).collect();
    let mut exports: Vec<ExportConfig> = exports.into_iter().filter_map(|draft| draft.config).collect();
    choose_default(&mut exports);
    Config { server, listen, exports }
}

/// Every `[[name]]` of the file.
fn sections<'a>(root: &mut Section<'a>, key: &'static str, name: &'static str) -> Vec<Section<'a>> {
    let context = root.context;
    let Some(value) = root.value(key, name) else { return Vec::new() };
    let at = value.span().start;
    let not_a_section = |at, found: &DeValue<'_>| {
        let text = format!("'{key}' must be sections, not {}", type_name(found));
        context.mistakes.add_with_hint(at, text, format!("begin each with a line {name}"));
    };
    let DeValue::Array(list) = value.get_ref() else {
        not_a_section(at, value.get_ref());
        return Vec::new();
    };
    if list.is_empty() {
        not_a_section(at, value.get_ref());
    }
    let mut sections = Vec::new();
    for item in list {
        match item.get_ref() {
            DeValue::Table(table) => sections.push(Section::new(name, item.span().start, table, context)),
            other => not_a_section(item.span().start, other),
        }
    }
    sections
}

/// Notes what makes the text no TOML. Behind a mistake the rest of its line makes no sense.
fn note_syntax(text: &str, errors: &[toml::de::Error], mistakes: &Mistakes) {
    let mut lines = HashSet::new();
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        if lines.insert(line) {
            mistakes.add(at, error.message());
        }
    }
}

/// The default is the export that says so; or else the one without a name, or the first. It goes to the front.
fn choose_default(exports: &mut [ExportConfig]) {
    let said = exports.iter().position(|export| export.offer.is_default);
    let unnamed = || exports.iter().position(|export| export.offer.name.is_empty());
    let index = said.or_else(unnamed).unwrap_or(0);
    if let Some(front) = exports.get_mut(..=index) {
        front.rotate_right(1);
        front[0].offer.is_default = true;
    }
}
