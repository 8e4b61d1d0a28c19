//! [`Context`]: what was asked for, loaded and checked.

use std::path::PathBuf;

use drivers::Error;
use nbd::server::TlsMode;
use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::ssl::{
    ClientHelloResponse, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslVersion,
};

use super::certificates::{self, first_reason};
use super::psk::Keys;
use super::raw;

/// The ciphers of TLS 1.3, the fastest first; all are as safe as anybody can tell. The first ones are also those that a
/// pre-shared key can be used with.
const CIPHERS_13: &str = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";

/// The ciphers of TLS 1.2: those whose keys are safe when a long-lived one gets known later, in the same order.
const CIPHERS_12: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:DHE-PSK-AES128-GCM-SHA256:\
     ECDHE+CHACHA20:ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-CHACHA20-POLY1305:\
     ECDHE+AESGCM:DHE-PSK-AES256-GCM-SHA384";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) mode: TlsMode,
    /// Folder with the server's certificate and key.
    pub(crate) certificates: Option<PathBuf>,
    /// File with users and their keys.
    pub(crate) psk: Option<PathBuf>,
    /// Clients must have a certificate.
    pub(crate) verify_peer: bool,
}

impl Settings {
    /// No TLS.
    pub(crate) const OFF: Settings =
        Settings { mode: TlsMode::Off, certificates: None, psk: None, verify_peer: false };
}

/// Everything that handshakes need. A copy is cheap and shares what was loaded.
#[derive(Clone)]
pub(crate) struct Context {
    mode: TlsMode,
    ssl: Option<SslContext>,
    /// What was loaded, to tell it from others.
    digest: [u8; 32],
}

impl Context {
    /// Loads the files.
    ///
    /// # Errors
    /// What is wrong with which file, and what to do about it.
    pub(crate) fn load(settings: &Settings) -> Result<Context, Error> {
        if settings.mode == TlsMode::Off {
            return Ok(Context { mode: TlsMode::Off, ssl: None, digest: digest(settings) });
        }
        // Before the files are used: one that changes meanwhile is another one the next time.
        let digest = digest(settings);
        let mut builder = builder().map_err(|cause| cannot("set TLS up", &cause))?;
        if let Some(folder) = &settings.certificates {
            certificates::install(folder, settings.verify_peer, &mut builder)?;
        }
        if let Some(path) = &settings.psk {
            let keys = Keys::load(path)?;
            keys.install(&mut builder).map_err(|cause| cannot("use pre-shared keys", &cause))?;
        }
        Ok(Context { mode: settings.mode, ssl: Some(builder.build()), digest })
    }

    /// Whether the other one asks the same of clients, by the same certificates and keys.
    pub(crate) fn is_like(&self, other: &Context) -> bool {
        self.digest == other.digest
    }

    /// Whether connections may or must be encrypted.
    pub(crate) fn mode(&self) -> TlsMode {
        self.mode
    }

    /// A new connection, before its handshake.
    pub(super) fn connection(&self) -> Result<Ssl, ErrorStack> {
        match &self.ssl {
            Some(context) => Ssl::new(context),
            None => Err(ErrorStack::get()),
        }
    }
}

/// Of the settings and of all files that they name.
fn digest(settings: &Settings) -> [u8; 32] {
    let Settings { mode, certificates, psk, verify_peer } = settings;
    let mut hash = Sha256::new();
    hash.update(format!("{mode:?} {verify_peer} {certificates:?} {psk:?}").as_bytes());
    let of_folder = certificates.iter().flat_map(|folder| certificates::FILES.map(|name| folder.join(name)));
    for path in of_folder.chain(psk.clone()) {
        // One that cannot be read is a mistake that is found elsewhere.
        let contents = std::fs::read(path).unwrap_or_default();
        hash.update(&(contents.len() as u64).to_be_bytes());
        hash.update(&contents);
    }
    hash.finish()
}

fn cannot(what: &str, cause: &ErrorStack) -> Error {
    Error::device(format!("cannot {what}: {}", first_reason(cause)))
}

/// TLS 1.2 and 1.3, without anything that is resumed or renegotiated.
fn builder() -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_ciphersuites(CIPHERS_13)?;
    builder.set_cipher_list(CIPHERS_12)?;
    builder.set_options(
        SslOptions::NO_TICKET
            | SslOptions::NO_COMPRESSION
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::CIPHER_SERVER_PREFERENCE
            | SslOptions::PRIORITIZE_CHACHA,
    );
    builder.set_num_tickets(0)?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // A pre-shared key counts as a session, which must belong to somebody when clients are verified.
    builder.set_session_id_context(b"gateway")?;
    builder.set_mode(SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER);
    raw::choose_dh(&mut builder);
    raw::return_often(&mut builder);
    // Under TLS 1.3 clients change keys now and then (GnuTLS after 2²⁴ records), in which few kernels can follow them.
    builder.set_client_hello_callback(|ssl, _alert| {
        if raw::knows_tls13(ssl) {
            raw::forbid_kernel(ssl);
        }
        Ok(ClientHelloResponse::SUCCESS)
    });
    Ok(builder)
}
