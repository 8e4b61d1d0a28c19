//! Where the metrics are told, in words.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::listen::check_host;
use crate::net::listen::{Listen, SOCKET_PATH_BYTES_MAX};

/// `HOST:PORT`, or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MetricsPlace {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Why words are no such place.
#[derive(Debug)]
pub(crate) struct NoPlace(String);

impl std::error::Error for NoPlace {}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (for example localhost:9182, [::1]:9182 or unix:/run/gateway/metrics)", self.0)
    }
}

impl FromStr for MetricsPlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<MetricsPlace, NoPlace> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(NoPlace("there is no path behind 'unix:'".into())),
                1..=SOCKET_PATH_BYTES_MAX => Ok(MetricsPlace::Unix(path.into())),
                bytes => Err(NoPlace(format!(
                    "the path has {bytes} bytes, and at most {SOCKET_PATH_BYTES_MAX} are possible"
                ))),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| NoPlace("there is no port".into()))?;
        let port = port.parse().map_err(|_| NoPlace(format!("'{port}' is no port")))?;
        let is_bare = host.contains(':') && !host.starts_with('[');
        if is_bare {
            return Err(NoPlace("an address of IPv6 needs brackets".into()));
        }
        let host = check_host(host).map_err(|(reason, _)| NoPlace(format!("host '{host}': {reason}")))?;
        Ok(MetricsPlace::Tcp { host, port })
    }
}

impl MetricsPlace {
    /// The place as the network code has it.
    pub(crate) fn listen(&self) -> Listen {
        match self {
            MetricsPlace::Tcp { host, port } => Listen::Tcp { hosts: vec![host.clone()], port: *port },
            MetricsPlace::Unix(path) => Listen::Unix(path.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_hosts_with_ports_or_paths() {
        let tcp = |host: &str, port| MetricsPlace::Tcp { host: host.into(), port };
        for (text, place) in [
            ("localhost:9182", tcp("localhost", 9182)),
            ("[::1]:0", tcp("::1", 0)),
            ("0.0.0.0:1", tcp("0.0.0.0", 1)),
            ("unix:/a:1", MetricsPlace::Unix("/a:1".into())),
        ] {
            assert_eq!(text.parse::<MetricsPlace>().unwrap(), place, "{text}");
        }
        let long = format!("unix:{}", "x".repeat(108));
        for text in [
            "",
            "localhost",
            ":9182",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "::1:5",
            "unix:",
            &long,
        ] {
            assert!(text.parse::<MetricsPlace>().is_err(), "{text}");
        }
    }
}
