//! [`Authority`]: makes keys and signs certificates.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};

/// Bits of a serial number: 20 bytes at most, and positive (RFC 5280, section 4.1.2.2).
const SERIAL_BITS: i32 = 159;

/// Clocks of clients may be behind by this much.
const SLACK_SECONDS: u64 = 24 * 3600;

const DAY_SECONDS: u64 = 24 * 3600;

/// The third version, counted from 0.
const VERSION_3: i32 = 2;

/// A certificate and its key, as files have them.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// What a certificate is for.
#[derive(Debug)]
pub(super) enum Purpose<'a> {
    /// A server with these names and addresses.
    Server(&'a [String]),
    Client,
}

/// Signs certificates.
#[derive(Debug)]
pub(super) struct Authority {
    certificate: X509,
    key: PKey<Private>,
    days: u32,
}

impl Authority {
    /// A new one; what it signs is valid for as long as itself.
    pub(super) fn new(days: u32) -> Result<Authority, ErrorStack> {
        let key = new_key()?;
        let name = named("gateway CA")?;
        let mut builder = begin(&name, &name, &key, days)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
        builder.append_extension(own)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Authority { certificate: builder.build(), key, days })
    }

    /// Its own files.
    pub(super) fn pair(&self) -> Result<Pair, ErrorStack> {
        Ok(Pair { certificate: self.certificate.to_pem()?, key: self.key.private_key_to_pem_pkcs8()? })
    }

    /// Makes a key and a certificate for it.
    pub(super) fn issue(&self, name: &str, purpose: &Purpose<'_>) -> Result<Pair, ErrorStack> {
        let key = new_key()?;
        let subject = named(name)?;
        let mut builder = begin(&subject, self.certificate.subject_name(), &key, self.days)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        let mut usage = ExtendedKeyUsage::new();
        match purpose {
            Purpose::Server(_) => usage.server_auth(),
            Purpose::Client => usage.client_auth(),
        };
        builder.append_extension(usage.build()?)?;
        let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
        builder.append_extension(own)?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let issuer = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
        builder.append_extension(issuer)?;
        if let Purpose::Server(hosts) = purpose {
            let mut names = SubjectAlternativeName::new();
            for host in *hosts {
                match host.parse::<IpAddr>() {
                    Ok(_) => names.ip(host),
                    Err(_) => names.dns(host),
                };
            }
            let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
            builder.append_extension(names)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Pair { certificate: builder.build().to_pem()?, key: key.private_key_to_pem_pkcs8()? })
    }
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn named(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509Name::builder()?;
    builder.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(builder.build())
}

/// Everything but extensions and signature.
fn begin(
    subject: &X509NameRef,
    issuer: &X509NameRef,
    key: &PKey<Private>,
    days: u32,
) -> Result<X509Builder, ErrorStack> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at = |seconds: u64| Asn1Time::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX));
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(VERSION_3)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*at(now.saturating_sub(SLACK_SECONDS))?)?;
    builder.set_not_after(&*at(now + u64::from(days) * DAY_SECONDS)?)?;
    Ok(builder)
}
