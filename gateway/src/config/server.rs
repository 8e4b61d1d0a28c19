//! `[server]`: the options of the command line that are not about one export.

use std::path::PathBuf;

use clap::ValueEnum;
use nbd::server::TlsMode;

use super::MetricsPlace;
use super::ranges::{MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, POLL_MICROSECONDS_MAX, SECONDS_MAX, WORKERS_MAX};
use super::section::{At, Section};
use crate::log;

/// What `[server]` says. Whatever is `None` is as on a command line without the option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerConfig {
    pub(crate) workers: Option<u16>,
    pub(crate) poll_microseconds: Option<u32>,
    /// Payload memory of each export that says nothing else.
    pub(crate) memory_bytes: Option<usize>,
    pub(crate) tls: Option<TlsMode>,
    /// Folder with certificates and keys. Absolute, like the other paths.
    pub(crate) tls_certificates: Option<PathBuf>,
    /// File with pre-shared keys.
    pub(crate) tls_psk: Option<PathBuf>,
    pub(crate) tls_verify_peer: Option<bool>,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) metrics: Option<MetricsPlace>,
    /// Socket for those who look after the server.
    pub(crate) control: Option<PathBuf>,
    pub(crate) log: Option<log::Place>,
    pub(crate) log_format: Option<log::Format>,
    /// As in the environment variable GATEWAY_LOG.
    pub(crate) log_level: Option<String>,
    /// 0: any number.
    pub(crate) max_clients: Option<u32>,
    pub(crate) max_handshakes: Option<u32>,
    pub(crate) handshake_timeout_seconds: Option<u32>,
    /// 0: for ever.
    pub(crate) idle_timeout_seconds: Option<u32>,
}

pub(super) fn read(mut section: Section<'_>) -> ServerConfig {
    let small = |number: At<i64>| u32::try_from(number.value).ok();
    let config = ServerConfig {
        workers: section
            .number("workers", 1, WORKERS_MAX.into())
            .and_then(|number| u16::try_from(number.value).ok()),
        poll_microseconds: section.number("poll", 0, POLL_MICROSECONDS_MAX.into()).and_then(small),
        memory_bytes: memory(&mut section),
        tls: section.word("tls", &["off", "on", "require"]).map(|word| match word.value.as_str() {
            "off" => TlsMode::Off,
            "on" => TlsMode::On,
            _ => TlsMode::Require,
        }),
        tls_certificates: section.path("tls-certificates").map(|path| path.value),
        tls_psk: section.path("tls-psk").map(|path| path.value),
        tls_verify_peer: section.bool("tls-verify-peer").map(|truth| truth.value),
        pidfile: section.path("pidfile").map(|path| path.value),
        metrics: metrics(&mut section),
        control: section.path("control").map(|path| path.value),
        log: choice(&mut section, "log"),
        log_format: choice(&mut section, "log-format"),
        log_level: log_level(&mut section),
        max_clients: section.number("max-clients", 0, u32::MAX.into()).and_then(small),
        max_handshakes: section.number("max-handshakes", 1, u32::MAX.into()).and_then(small),
        handshake_timeout_seconds: section.number("handshake-timeout", 1, SECONDS_MAX.into()).and_then(small),
        idle_timeout_seconds: section.number("idle-timeout", 0, SECONDS_MAX.into()).and_then(small),
    };
    section.finish();
    config
}

/// Where metrics are told. A relative path begins in the file's folder.
fn metrics(section: &mut Section<'_>) -> Option<MetricsPlace> {
    let At { at, value } = section.text("metrics")?;
    match value.parse() {
        Ok(MetricsPlace::Unix(path)) => {
            Some(MetricsPlace::Unix(PathBuf::from(section.context.folder).join(path)))
        }
        Ok(place) => Some(place),
        Err(reason) => {
            section.context.mistakes.add(at, format!("key 'metrics' cannot be '{value}': {reason}"));
            None
        }
    }
}

/// One of the words that the option of this name takes.
fn choice<T: ValueEnum>(section: &mut Section<'_>, key: &'static str) -> Option<T> {
    let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    T::from_str(&section.word(key, &names)?.value, false).ok()
}

fn log_level(section: &mut Section<'_>) -> Option<String> {
    let level = section.text("log-level")?;
    let Err(reason) = log::level::check(&level.value) else { return Some(level.value) };
    let text = format!("key 'log-level' cannot be '{}': {reason}", level.value);
    section.context.mistakes.add_with_hint(
        level.at,
        text,
        "for example \"debug\", or \"info,drivers=debug\"",
    );
    None
}

/// The key `memory`, which exports have too.
pub(super) fn memory(section: &mut Section<'_>) -> Option<usize> {
    let bytes = section.size("memory", MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)?;
    let fits = usize::try_from(bytes.value).ok();
    if fits.is_none() {
        section.context.mistakes.add(bytes.at, "key 'memory' is more than this machine can address");
    }
    fits
}
