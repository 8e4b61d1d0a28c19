//! Why TLS failed, in words for the server's log.

use openssl::error::{Error, ErrorStack};
use openssl::ssl::SslRef;

use super::psk::{self, Seen};
use crate::log::Shown;

/// The part of OpenSSL that speaks TLS (openssl/err.h, `ERR_LIB_SSL`).
const LIB_SSL: i32 = 20;

/// Reasons (openssl/sslerr.h).
mod code {
    pub(super) const NO_SUITABLE_KEY_SHARE: i32 = 101;
    pub(super) const NO_SUITABLE_SIGNATURE_ALGORITHM: i32 = 118;
    pub(super) const CERTIFICATE_VERIFY_FAILED: i32 = 134;
    pub(super) const HTTP_REQUEST: i32 = 156;
    pub(super) const NO_SHARED_CIPHER: i32 = 193;
    pub(super) const PEER_DID_NOT_RETURN_A_CERTIFICATE: i32 = 199;
    pub(super) const PSK_IDENTITY_NOT_FOUND: i32 = 223;
    pub(super) const BINDER_DOES_NOT_VERIFY: i32 = 253;
    pub(super) const UNSUPPORTED_PROTOCOL: i32 = 258;
    pub(super) const WRONG_VERSION_NUMBER: i32 = 267;
    pub(super) const DECRYPTION_FAILED_OR_BAD_RECORD_MAC: i32 = 281;
    pub(super) const UNEXPECTED_EOF_WHILE_READING: i32 = 294;
    /// An alert that the client sent is its number and this.
    pub(super) const ALERTS: i32 = 1000;
}

/// Why the last call failed; nothing if OpenSSL does not know.
pub(super) fn of(stack: &ErrorStack, ssl: &SslRef) -> Option<String> {
    let verified = ssl.verify_result();
    let verified = Verified { number: verified.as_raw(), text: verified.error_string() };
    words(stack.errors().iter().map(Code::of), psk::seen(ssl), verified)
}

/// Why it failed when the client is gone.
pub(super) const LEFT: &str = "it left when it had seen our certificate or our choice of ciphers: perhaps it does not \
     trust our certificate or its name";

/// What came of looking at the client's certificate.
#[derive(Clone, Copy, Debug)]
struct Verified {
    number: i32,
    text: &'static str,
}

/// One entry of OpenSSL's list.
#[derive(Clone, Debug)]
struct Code {
    is_ssl: bool,
    number: i32,
    text: String,
}

impl Code {
    fn of(error: &Error) -> Code {
        let text = error.reason().unwrap_or("OpenSSL does not say why").to_owned();
        Code { is_ssl: error.library_code() == LIB_SSL, number: error.reason_code(), text }
    }
}

fn words(codes: impl Iterator<Item = Code>, seen: Option<&Seen>, verified: Verified) -> Option<String> {
    let codes: Vec<Code> = codes.collect();
    let known = codes.iter().filter(|code| code.is_ssl).find_map(|code| known(code.number, seen, verified));
    known.or_else(|| codes.first().map(|code| code.text.clone()))
}

fn known(number: i32, seen: Option<&Seen>, verified: Verified) -> Option<String> {
    if let Some(seen) = seen.filter(|_| is_about_keys(number)) {
        let user = Shown(&seen.user);
        return Some(match seen.known {
            true => format!("wrong key for user {user}"),
            false => format!("unknown user {user}"),
        });
    }
    Some(match number {
        code::NO_SHARED_CIPHER | code::NO_SUITABLE_KEY_SHARE => {
            "no cipher in common; with pre-shared keys a client must offer them".into()
        }
        code::NO_SUITABLE_SIGNATURE_ALGORITHM => {
            "it offered no pre-shared key, or nothing that our certificate's key can sign".into()
        }
        code::CERTIFICATE_VERIFY_FAILED => certificate(verified),
        code::PEER_DID_NOT_RETURN_A_CERTIFICATE => {
            "it gave no certificate, and --tls-verify-peer demands one".into()
        }
        code::HTTP_REQUEST => "it speaks HTTP".into(),
        code::UNSUPPORTED_PROTOCOL => "it knows only versions of TLS before 1.2".into(),
        code::WRONG_VERSION_NUMBER => "what it sends is not TLS".into(),
        code::DECRYPTION_FAILED_OR_BAD_RECORD_MAC => "it sent something that does not decrypt".into(),
        code::UNEXPECTED_EOF_WHILE_READING => LEFT.into(),
        number => return number.checked_sub(code::ALERTS).and_then(alert),
    })
}

/// Reasons that mean, once a client has named a user, that the user or the key is wrong.
fn is_about_keys(number: i32) -> bool {
    matches!(
        number,
        code::BINDER_DOES_NOT_VERIFY
            | code::PSK_IDENTITY_NOT_FOUND
            | code::DECRYPTION_FAILED_OR_BAD_RECORD_MAC
            | code::NO_SUITABLE_SIGNATURE_ALGORITHM
            | code::NO_SUITABLE_KEY_SHARE
            | code::NO_SHARED_CIPHER
    )
}

/// What is wrong with the client's certificate (openssl/x509_vfy.h).
fn certificate(verified: Verified) -> String {
    match verified.number {
        2 | 18..=21 => "its certificate is not signed by an authority of ca-cert.pem".into(),
        3 => "ca-crl.pem has no list of the authority that signed its certificate".into(),
        9 => "its certificate is not valid yet".into(),
        10 => "its certificate has expired".into(),
        12 => "the list of revoked certificates, ca-crl.pem, has expired".into(),
        23 => "its certificate has been revoked".into(),
        26 => "its certificate is not for clients".into(),
        _ => format!("its certificate is not accepted: {}", verified.text),
    }
}

/// An alert that the client sent (RFC 8446, section 6).
pub(super) fn alert(number: i32) -> Option<String> {
    let (words, name) = match number {
        10 => ("it did not expect what we said", "unexpected message"),
        20 => ("something that we sent does not decrypt; is its key the right one?", "bad record MAC"),
        40 => ("no cipher in common, or it does not accept our certificate", "handshake failure"),
        42 => ("it does not accept our certificate", "bad certificate"),
        43 => ("it does not understand our certificate", "unsupported certificate"),
        44 => ("our certificate is revoked", "certificate revoked"),
        45 => ("our certificate has expired", "certificate expired"),
        46 => ("it does not accept our certificate", "certificate unknown"),
        47 => ("it does not accept what we chose", "illegal parameter"),
        48 => ("it does not trust our certificate", "unknown CA"),
        49 => ("we are not allowed to talk to it", "access denied"),
        50 => ("it does not understand us", "decode error"),
        51 => ("it cannot verify what we sent; is its key the right one?", "decrypt error"),
        70 => ("no version of TLS in common", "protocol version"),
        71 => ("what we offer is not safe enough for it", "insufficient security"),
        80 => ("it has a problem of its own", "internal error"),
        90 => ("it gave up", "user canceled"),
        109 => ("something is missing", "missing extension"),
        115 => ("it does not know the user", "unknown PSK identity"),
        116 => ("it demands a certificate", "certificate required"),
        _ => return None,
    };
    Some(format!("{words} (alert: {name})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(numbers: &[i32], seen: Option<&Seen>, verified: i32) -> String {
        let code = |number: &i32| Code { is_ssl: true, number: *number, text: format!("text {number}") };
        let verified = Verified { number: verified, text: "a text" };
        words(numbers.iter().map(code), seen, verified).unwrap_or_default()
    }

    #[test]
    fn a_user_is_blamed_for_what_he_named() {
        let alice = Seen { user: "alice".into(), known: true };
        let bob = Seen { user: "bob".into(), known: false };
        for number in [code::BINDER_DOES_NOT_VERIFY, code::DECRYPTION_FAILED_OR_BAD_RECORD_MAC] {
            assert_eq!(reason(&[number], Some(&alice), 0), "wrong key for user \"alice\"");
        }
        for number in [code::PSK_IDENTITY_NOT_FOUND, code::NO_SUITABLE_SIGNATURE_ALGORITHM] {
            assert_eq!(reason(&[number], Some(&bob), 0), "unknown user \"bob\"");
        }
        assert!(reason(&[code::NO_SUITABLE_SIGNATURE_ALGORITHM], None, 0).contains("no pre-shared key"));
        let nasty = Seen { user: "\n\u{1b}[31m".into(), known: false };
        assert_eq!(
            reason(&[code::PSK_IDENTITY_NOT_FOUND], Some(&nasty), 0),
            r#"unknown user "\n\u{1b}[31m""#
        );
    }

    #[test]
    fn certificates_say_what_is_wrong_with_them() {
        let failed = [code::CERTIFICATE_VERIFY_FAILED];
        assert!(reason(&failed, None, 20).contains("not signed by an authority"));
        assert!(reason(&failed, None, 10).contains("has expired"));
        assert!(reason(&failed, None, 23).contains("revoked"));
        assert_eq!(reason(&failed, None, 24), "its certificate is not accepted: a text");
    }

    #[test]
    fn alerts_have_names_and_the_unknown_keeps_its_text() {
        assert_eq!(reason(&[1048], None, 0), "it does not trust our certificate (alert: unknown CA)");
        assert_eq!(reason(&[313, 7], None, 0), "text 313");
        assert_eq!(
            reason(&[7, 1042], None, 0),
            "it does not accept our certificate (alert: bad certificate)"
        );
        assert_eq!(reason(&[], None, 0), "");
    }
}
