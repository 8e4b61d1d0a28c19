//! The options of TLS, and what they mean together.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use drivers::Error;
use nbd::server::TlsMode;

use crate::config::ServerConfig;
use crate::tls::Settings;

/// How connections are encrypted.
#[derive(Debug, Args)]
pub(super) struct Tls {
    /// Whether clients may or must encrypt [default: require if there are certificates or keys, else off]
    #[arg(long, value_name = "off|on|require", hide_possible_values = true, help_heading = "Encryption")]
    tls: Option<Mode>,

    /// Folder with server-cert.pem and server-key.pem, and with ca-cert.pem (and ca-crl.pem) to verify clients;
    /// 'gateway pki DIR' makes one
    #[arg(long, value_name = "DIR", help_heading = "Encryption")]
    pub(super) tls_certificates: Option<PathBuf>,

    /// File with lines USER:KEY, for clients with pre-shared keys. With certificates too, clients choose
    #[arg(long, value_name = "FILE", help_heading = "Encryption")]
    pub(super) tls_psk: Option<PathBuf>,

    /// Refuse clients without a certificate that is signed by an authority of ca-cert.pem; a pre-shared key will do too
    #[arg(long, help_heading = "Encryption")]
    tls_verify_peer: bool,
}

/// As [`TlsMode`], in words.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Off,
    On,
    Require,
}

impl Tls {
    /// Whether a configuration file has not the last word on who must encrypt and who is verified.
    pub(super) fn is_told(&self) -> bool {
        self.tls.is_some() || self.tls_verify_peer
    }

    /// What the options mean together, and with a configuration file; they go before what that says.
    ///
    /// # Errors
    /// Usage errors.
    pub(super) fn settings(&self, server: &ServerConfig) -> Result<Settings, Error> {
        let certificates = self.tls_certificates.clone().or_else(|| server.tls_certificates.clone());
        let psk = self.tls_psk.clone().or_else(|| server.tls_psk.clone());
        let verify_peer = self.tls_verify_peer || server.tls_verify_peer == Some(true);
        let can = certificates.is_some() || psk.is_some();
        let mode = match self.tls.map(TlsMode::from).or(server.tls) {
            Some(TlsMode::Off) => TlsMode::Off,
            Some(mode) if !can => return Err(nothing_to_use(mode)),
            Some(mode) => mode,
            None if can => TlsMode::Require,
            None => TlsMode::Off,
        };
        if verify_peer && certificates.is_none() {
            return Err(Error::usage(
                "option --tls-verify-peer needs the authority that clients are signed by",
            )
            .hint("add --tls-certificates DIR, with ca-cert.pem in it"));
        }
        Ok(Settings { mode, certificates, psk, verify_peer })
    }
}

impl From<Mode> for TlsMode {
    fn from(mode: Mode) -> TlsMode {
        match mode {
            Mode::Off => TlsMode::Off,
            Mode::On => TlsMode::On,
            Mode::Require => TlsMode::Require,
        }
    }
}

fn nothing_to_use(mode: TlsMode) -> Error {
    let word = if mode == TlsMode::On { "on" } else { "require" };
    Error::usage(format!("option --tls={word} needs certificates or keys"))
        .hint("add --tls-certificates DIR or --tls-psk FILE; 'gateway pki DIR' makes both")
}

#[cfg(test)]
mod tests {
    use super::super::args::Arguments;
    use super::*;
    use clap::Parser;

    fn settings(line: &[&str]) -> Result<Settings, Error> {
        let line = ["gateway"].iter().chain(line).chain(&["memory", "1M"]);
        let mut options = Arguments::try_parse_from(line).unwrap().serve;
        options.resolve_paths()?;
        options.tls.settings(&ServerConfig::default())
    }

    #[test]
    fn certificates_or_keys_make_encryption_a_must_unless_told_otherwise() {
        let mode = |line: &[&str]| settings(line).unwrap().mode;
        assert_eq!(settings(&[]).unwrap(), Settings::OFF);
        assert_eq!(mode(&["--tls-psk", "/f"]), TlsMode::Require);
        assert_eq!(mode(&["--tls-certificates=/d"]), TlsMode::Require);
        assert_eq!(mode(&["--tls-certificates=/d", "--tls=on"]), TlsMode::On);
        assert_eq!(mode(&["--tls-certificates=/d", "--tls=off"]), TlsMode::Off);
        assert_eq!(mode(&["--tls=off"]), TlsMode::Off);
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_give() {
        for (line, hint) in [
            (&["--tls=on"][..], "--tls-certificates"),
            (&["--tls=require"], "--tls-psk"),
            (&["--tls-verify-peer"], "--tls-certificates"),
            (&["--tls-verify-peer", "--tls-psk=/f"], "--tls-certificates"),
        ] {
            let error = settings(line).unwrap_err();
            assert_eq!(error.kind, drivers::ErrorKind::Usage);
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn relative_paths_are_resolved_at_once() {
        let here = std::env::current_dir().unwrap();
        let settings =
            settings(&["--tls-psk=keys.psk", "--tls-certificates=pki", "--tls-verify-peer"]).unwrap();
        assert_eq!(settings.psk, Some(here.join("keys.psk")));
        assert_eq!(settings.certificates, Some(here.join("pki")));
        assert!(settings.verify_peer);
    }
}
