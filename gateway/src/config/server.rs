//! `[server]`: the options of the command line that are not about one export.

use std::path::PathBuf;

use nbd::server::TlsMode;

use super::MetricsPlace;
use super::ranges::{MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, POLL_MICROSECONDS_MAX, SECONDS_MAX, WORKERS_MAX};
use super::section::{At, Section};

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

/// The key `memory`, which exports have too.
pub(super) fn memory(section: &mut Section<'_>) -> Option<usize> {
    let bytes = section.size("memory", MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)?;
    let fits = usize::try_from(bytes.value).ok();
    if fits.is_none() {
        section.context.mistakes.add(bytes.at, "key 'memory' is more than this machine can address");
    }
    fits
}
