//! Certificates: the files of a folder, with the names that nbdkit, libnbd and qemu share.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use drivers::Error;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContextBuilder, SslFiletype, SslVerifyMode};
use openssl::stack::Stack;
use openssl::x509::store::{X509Lookup, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Ref};

/// The authority that signs certificates; several one after the other are several authorities.
pub(super) const CA_CERTIFICATE: &str = "ca-cert.pem";

/// Certificates that count no more; may be missing.
const CA_REVOKED: &str = "ca-crl.pem";

/// The server's certificate, perhaps with those between it and the authority behind it.
pub(super) const SERVER_CERTIFICATE: &str = "server-cert.pem";

/// Its private key.
pub(super) const SERVER_KEY: &str = "server-key.pem";

/// All of them.
pub(super) const FILES: [&str; 4] = [CA_CERTIFICATE, CA_REVOKED, SERVER_CERTIFICATE, SERVER_KEY];

/// What to do when a file is wrong.
const HINT: &str = "'gateway pki DIR' makes files that are ready for use";

/// Lets the server prove who it is, and, with `verify_peer`, makes clients prove that they are known.
///
/// # Errors
/// A file is missing or wrong, or they do not belong together; the message says which.
pub(super) fn install(
    folder: &Path,
    verify_peer: bool,
    builder: &mut SslContextBuilder,
) -> Result<(), Error> {
    let path = folder.join(SERVER_CERTIFICATE);
    let mut chain = certificates("the server's certificate", &path)?.into_iter();
    let Some(own) = chain.next() else { return Err(wrong("certificate", &path, "there is none in it")) };
    warn_of_dates(&own, &path);
    let key_path = folder.join(SERVER_KEY);
    let key = private_key(&key_path)?;
    if !own.public_key().is_ok_and(|public| public.public_eq(&key)) {
        let message = format!("'{}' is not the key of '{}'", key_path.display(), path.display());
        return Err(Error::device(message).hint("put the files in place that were made together"));
    }
    let refused = |cause| refused("the server's certificate", &path, &cause);
    builder.set_certificate(&own).map_err(refused)?;
    builder.set_private_key(&key).map_err(refused)?;
    for certificate in chain {
        builder.add_extra_chain_cert(certificate).map_err(refused)?;
    }
    if verify_peer { demand_certificates(folder, builder) } else { Ok(()) }
}

/// Makes clients show a certificate that one of the authorities has signed and that is not revoked.
fn demand_certificates(folder: &Path, builder: &mut SslContextBuilder) -> Result<(), Error> {
    let path = folder.join(CA_CERTIFICATE);
    let authorities = certificates("the authority that signs clients' certificates", &path)?;
    let failed = |cause| refused("the authority's certificate", &path, &cause);
    let mut store = X509StoreBuilder::new().map_err(failed)?;
    let mut names = Stack::new().map_err(failed)?;
    for authority in authorities {
        warn_of_dates(&authority, &path);
        names.push(authority.subject_name().to_owned().map_err(failed)?).map_err(failed)?;
        store.add_cert(authority).map_err(failed)?;
    }
    let revoked = folder.join(CA_REVOKED);
    if revoked.exists() {
        // For an error that says which file, before OpenSSL opens it.
        read("the list of revoked certificates", &revoked)?;
        if revoked.to_str().is_none() {
            return Err(Error::usage(format!("the path '{}' is not UTF-8", revoked.display())));
        }
        let failed = |cause| refused("the list of revoked certificates", &revoked, &cause);
        let lookup = store.add_lookup(X509Lookup::file()).map_err(failed)?;
        lookup.load_crl_file(&revoked, SslFiletype::PEM).map_err(failed)?;
        store.set_flags(X509VerifyFlags::CRL_CHECK).map_err(failed)?;
    }
    builder.set_verify_cert_store(store.build()).map_err(failed)?;
    builder.set_client_ca_list(names);
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    Ok(())
}

/// All certificates of a file.
fn certificates(what: &str, path: &Path) -> Result<Vec<X509>, Error> {
    let found = X509::stack_from_pem(&read(what, path)?)
        .map_err(|cause| wrong("certificate", path, &first_reason(&cause)))?;
    if found.is_empty() {
        return Err(wrong("certificate", path, "it has no lines 'BEGIN CERTIFICATE'"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PKey<Private>, Error> {
    let text = read("the server's private key", path)?;
    warn_if_exposed(path);
    // An empty passphrase, so that OpenSSL does not ask for one on the terminal.
    PKey::private_key_from_pem_passphrase(&text, b"").map_err(|cause| {
        if text.windows(9).any(|window| window == b"ENCRYPTED") {
            return wrong("private key", path, "it is encrypted")
                .hint("write it without a passphrase: openssl pkey -in FILE -out FILE");
        }
        wrong("private key", path, &first_reason(&cause))
    })
}

/// The content of a file.
pub(super) fn read(what: &str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|cause| {
        let error = Error::system(format!("read {what}, '{}'", path.display()), &cause);
        match cause.kind() {
            std::io::ErrorKind::NotFound => error.hint(HINT),
            std::io::ErrorKind::PermissionDenied => {
                error.hint("the server's user must be allowed to read it, and nobody else")
            }
            _ => error,
        }
    })
}

fn wrong(what: &str, path: &Path, why: &str) -> Error {
    Error::device(format!("'{}' is no {what} in PEM format: {why}", path.display())).hint(HINT)
}

fn refused(what: &str, path: &Path, cause: &ErrorStack) -> Error {
    Error::device(format!("cannot use {what}, '{}': {}", path.display(), first_reason(cause)))
}

/// What OpenSSL found first.
pub(super) fn first_reason(stack: &ErrorStack) -> String {
    let reason = stack.errors().first().and_then(openssl::error::Error::reason);
    reason.unwrap_or("OpenSSL does not say why").to_owned()
}

fn warn_of_dates(certificate: &X509Ref, path: &Path) {
    let Ok(now) = Asn1Time::days_from_now(0) else { return };
    if certificate.not_after() < now {
        let end = certificate.not_after();
        tracing::warn!("the certificate '{}' has expired, on {end}: clients will refuse it", path.display());
    }
    if certificate.not_before() > now {
        let start = certificate.not_before();
        tracing::warn!(
            "the certificate '{}' is not valid before {start}: clients will refuse it",
            path.display()
        );
    }
}

/// Warns of a secret that others can read.
pub(super) fn warn_if_exposed(path: &Path) {
    const ALL_READ: u32 = 0o004;
    if fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & ALL_READ != 0) {
        let path = PathBuf::from(path);
        tracing::warn!("'{0}' is a secret that everybody can read: chmod 600 '{0}'", path.display());
    }
}
