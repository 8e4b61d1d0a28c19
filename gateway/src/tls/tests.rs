//! Connections between this module and OpenSSL's own client.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use nbd::server::TlsMode;
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::extension::AuthorityKeyIdentifier;
use openssl::x509::{X509, X509CrlBuilder, X509Extension, X509RevokedBuilder};
use tempfile::TempDir;

use super::{Context, Failure, PeerIdentity, Secured, Settings, accept, pki, raw};
use crate::net::gather::Gather;
use crate::net::stream::Stream;
use crate::sys;

/// Certificates for a server and for clients alice and bob.
fn pki() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let clients = vec!["alice".into(), "bob".into()];
    let wanted = pki::Wanted { folder: folder.path().into(), hosts: vec![], clients, days: 7 };
    pki::make(wanted).unwrap();
    folder
}

fn settings(pki: &TempDir, verify_peer: bool) -> Settings {
    Settings {
        mode: TlsMode::Require,
        certificates: Some(pki.path().into()),
        psk: Some(pki.path().join("keys.psk")),
        verify_peer,
    }
}

/// What a client brings.
struct Client {
    certificate: Option<std::path::PathBuf>,
    psk: Option<(&'static str, Vec<u8>)>,
    version: SslVersion,
    wants_short_records: bool,
}

impl Client {
    fn anonymous() -> Client {
        Client { certificate: None, psk: None, version: SslVersion::TLS1_3, wants_short_records: false }
    }

    fn connect(self, socket: UnixStream) -> Result<SslStream<UnixStream>, String> {
        let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_max_proto_version(Some(self.version)).unwrap();
        if let Some(folder) = self.certificate {
            builder.set_certificate_chain_file(folder.join("client-cert.pem")).unwrap();
            builder
                .set_private_key_file(folder.join("client-key.pem"), openssl::ssl::SslFiletype::PEM)
                .unwrap();
        }
        if let Some((user, key)) = self.psk {
            builder.set_cipher_list("ECDHE-PSK-CHACHA20-POLY1305").unwrap();
            builder.set_ciphersuites("TLS_AES_128_GCM_SHA256").unwrap();
            builder.set_psk_client_callback(move |_, _, identity, into| {
                identity[..user.len()].copy_from_slice(user.as_bytes());
                identity[user.len()] = 0;
                into[..key.len()].copy_from_slice(&key);
                Ok(key.len())
            });
        }
        let mut connection = builder.build().configure().unwrap();
        if self.wants_short_records {
            raw::ask_for_short_records(&mut connection);
        }
        connection.connect("localhost", socket).map_err(|error| error.to_string())
    }
}

/// Does the handshake with a client on a thread of its own.
fn meet(settings: &Settings, client: Client) -> (Result<Secured, Failure>, Option<SslStream<UnixStream>>) {
    let context = Context::load(settings).unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    let client = thread::spawn(move || client.connect(other).ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let result = runtime.block_on(async {
        let watched = OwnedFd::from(one.try_clone().unwrap());
        let readiness = sys::watch_stream(std::os::fd::AsFd::as_fd(&watched)).unwrap();
        accept(one.into(), &readiness, &context).await
    });
    (result, client.join().unwrap())
}

fn established(settings: &Settings, client: Client) -> (Stream, PeerIdentity, SslStream<UnixStream>) {
    let (secured, client) = meet(settings, client);
    let Secured { stream, identity } = secured.unwrap();
    (stream, identity, client.unwrap())
}

/// Calls again until there is something.
fn patiently<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            result => return result,
        }
    }
}

/// Bytes that are never the same for long.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251 + at / 65_521) as u8).collect()
}

#[test]
fn what_is_sent_in_pieces_arrives_in_order_however_little_the_socket_takes() {
    let (mut stream, _, mut client) = established(&settings(&pki(), false), Client::anonymous());
    let sent = pattern(5 << 20);
    let expected = sent.clone();
    let reader = thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).unwrap();
        assert!(got == expected, "what came is what was sent");
        client
    });
    let mut left = &sent[..];
    while !left.is_empty() {
        let mut gather = Gather::new();
        let mut rest = left;
        for len in [16, 4096, 28, 300_000, 20, 70_000, 1, 16 << 10].into_iter().cycle().take(24) {
            let (piece, tail) = rest.split_at(rest.len().min(len));
            gather.push(piece);
            rest = tail;
        }
        let count = patiently(|| stream.send(&gather)).unwrap();
        left = &left[count..];
    }
    while !stream.flush_unsent().unwrap() {
        thread::yield_now();
    }
    assert!(!stream.has_unsent());
    reader.join().unwrap();
}

#[test]
fn a_client_that_reads_nothing_is_not_sent_more_than_fits() {
    let (mut stream, _, _client) = established(&settings(&pki(), false), Client::anonymous());
    let bytes = pattern(1 << 20);
    let mut total = 0;
    loop {
        let mut gather = Gather::new();
        gather.push(&bytes);
        match stream.send(&gather) {
            Ok(count) => total += count,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
        assert!(total < 4 << 20, "a socket takes less");
    }
    assert!(stream.has_unsent() && !stream.flush_unsent().unwrap());
}

#[test]
fn all_complete_records_are_given_before_the_socket_is_waited_for() {
    let (mut stream, _, mut client) = established(&settings(&pki(), false), Client::anonymous());
    for record in 0..40_u8 {
        client.write_all(&[record; 28]).unwrap();
    }
    let mut got = Vec::new();
    let mut into = [0; 28];
    loop {
        match stream.receive(&mut into) {
            Ok(count) => got.extend_from_slice(&into[..count]),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let expected: Vec<u8> = (0..40_u8).flat_map(|record| [record; 28]).collect();
    assert_eq!(got, expected);
    stream.rest();
}

#[test]
fn long_payloads_arrive_whole_and_a_goodbye_is_the_end() {
    let (mut stream, _, mut client) = established(&settings(&pki(), false), Client::anonymous());
    let sent = pattern(3 << 20);
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client.shutdown().unwrap();
    });
    let mut got = Vec::new();
    let mut into = vec![0; 256 << 10];
    for len in [1, 100_000, 28, 256 << 10].into_iter().cycle() {
        match patiently(|| stream.receive(&mut into[..len])).unwrap() {
            0 => break,
            count => got.extend_from_slice(&into[..count]),
        }
    }
    writer.join().unwrap();
    assert!(got == expected, "what came is what was sent");
    assert_eq!(stream.receive(&mut into).unwrap(), 0, "the end stays the end");
}

#[test]
fn clients_may_change_their_keys_but_not_do_nothing_else() {
    let (mut stream, _, mut client) = established(&settings(&pki(), false), Client::anonymous());
    let mut into = [0; 100];
    for round in 0..10 {
        for _ in 0..5 {
            raw::update_keys(&mut client).unwrap();
        }
        client.write_all(&[round; 100]).unwrap();
        assert_eq!(patiently(|| stream.receive(&mut into)).unwrap(), 100);
        assert_eq!(into, [round; 100]);
    }
    let flood = thread::spawn(move || while raw::update_keys(&mut client).is_ok() {});
    let error = patiently(|| stream.receive(&mut into)).unwrap_err();
    assert!(error.to_string().contains("records without data"), "{error}");
    drop(stream);
    flood.join().unwrap();
}

#[test]
fn what_was_decrypted_before_a_failure_comes_first_and_then_its_reason() {
    let (mut stream, _, mut client) = established(&settings(&pki(), false), Client::anonymous());
    client.write_all(&[7; 28]).unwrap();
    client.get_mut().write_all(b"this is no record of TLS").unwrap();
    let mut into = [0; 100];
    assert_eq!(patiently(|| stream.receive(&mut into)).unwrap(), 28);
    let reason = stream.receive(&mut into).unwrap_err().to_string();
    assert!(!reason.contains("does not say why"), "{reason}");
}

#[test]
fn records_are_as_short_as_the_client_wants_them() {
    let client = Client { wants_short_records: true, ..Client::anonymous() };
    let (mut stream, _, mut client) = established(&settings(&pki(), false), client);
    let sent = pattern(1 << 20);
    let expected = sent.clone();
    let reader = thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).unwrap();
        assert!(got == expected, "what came is what was sent");
    });
    let mut left = &sent[..];
    while !left.is_empty() {
        let mut gather = Gather::new();
        gather.push(left);
        let count = patiently(|| stream.send(&gather)).unwrap();
        left = &left[count..];
    }
    while !stream.flush_unsent().unwrap() {
        thread::yield_now();
    }
    reader.join().unwrap();
}

#[test]
fn a_context_is_known_again_by_what_its_files_say() {
    let pki = pki();
    let load = || Context::load(&settings(&pki, true)).unwrap();
    let before = load();
    assert!(before.is_like(&load()));
    assert!(!before.is_like(&Context::load(&settings(&pki, false)).unwrap()), "it asks less of clients");
    std::fs::write(pki.path().join("keys.psk"), "eve:00112233445566778899aabbccddeeff\n").unwrap();
    assert!(!before.is_like(&load()), "another user");
    assert!(!before.is_like(&Context::load(&Settings::OFF).unwrap()));
}

#[test]
fn names_of_clients_are_checked_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for clients in [&["a", "a"][..], &["ca-cert.pem"], &["keys.psk"]] {
        let clients = clients.iter().map(ToString::to_string).collect();
        let wanted = pki::Wanted { folder: folder.path().into(), hosts: vec![], clients, days: 7 };
        assert!(pki::make(wanted).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn we_say_goodbye() {
    let (mut stream, _, mut client) = established(&settings(&pki(), false), Client::anonymous());
    stream.shutdown();
    assert_eq!(client.ssl_read(&mut [0]).unwrap_err().code(), openssl::ssl::ErrorCode::ZERO_RETURN);
}

#[test]
fn a_certificate_tells_the_names_of_its_owner() {
    let pki = pki();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let client = Client { certificate: Some(pki.path().join("bob")), version, ..Client::anonymous() };
        let (_, identity, _) = established(&settings(&pki, true), client);
        assert_eq!(identity, PeerIdentity { certificate_names: vec!["bob".into()], psk_user: None });
    }
}

#[test]
fn a_key_tells_its_user_and_needs_no_certificate() {
    let pki = pki();
    let keys = std::fs::read_to_string(pki.path().join("alice/keys.psk")).unwrap();
    let (_, digits) = keys.trim().split_once(':').unwrap();
    let key: Vec<u8> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let bring = |user, key| Client { psk: Some((user, key)), version, ..Client::anonymous() };
        let (_, identity, _) = established(&settings(&pki, true), bring("alice", key.clone()));
        assert_eq!(identity, PeerIdentity { certificate_names: vec![], psk_user: Some("alice".into()) });
        let only_keys = Settings { certificates: None, ..settings(&pki, false) };
        let (failed, _) = meet(&only_keys, bring("bob", key.clone()));
        assert_eq!(failed.unwrap_err().to_string(), "wrong key for user \"bob\"");
        let (failed, _) = meet(&only_keys, bring("eve", key.clone()));
        assert_eq!(failed.unwrap_err().to_string(), "unknown user \"eve\"");
    }
}

/// A client that names a user and goes on with a certificate is not that user.
#[test]
fn who_only_names_a_user_is_nobody() {
    let pki = pki();
    let client = Client { psk: Some(("eve", vec![1; 32])), ..Client::anonymous() };
    let (_, identity, _) = established(&settings(&pki, false), client);
    assert_eq!(identity, PeerIdentity::default());
}

#[test]
fn clients_without_an_accepted_certificate_are_told_apart() {
    let (ours, theirs) = (pki(), pki());
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let bring = |certificate| Client { certificate, version, ..Client::anonymous() };
        let (failed, _) = meet(&settings(&ours, true), bring(None));
        let text = failed.unwrap_err().to_string();
        assert_eq!(text, "it gave no certificate, and --tls-verify-peer demands one");
        let (failed, _) = meet(&settings(&ours, true), bring(Some(theirs.path().join("alice"))));
        let text = failed.unwrap_err().to_string();
        assert_eq!(text, "its certificate is not signed by an authority of ca-cert.pem");
    }
}

/// Makes a list of revoked certificates: bob's. It is good for so many days.
fn revoke_bob(pki: &TempDir, until: u32) {
    let read = |name: &str| std::fs::read(pki.path().join(name)).unwrap();
    let authority = X509::from_pem(&read("ca-cert.pem")).unwrap();
    let key = PKey::private_key_from_pem(&read("ca-key.pem")).unwrap();
    let bob = X509::from_pem(&read("bob/client-cert.pem")).unwrap();
    let begin = Asn1Time::from_unix(0).unwrap();
    let mut one = X509RevokedBuilder::new().unwrap();
    one.set_serial_number(bob.serial_number()).unwrap();
    one.set_revocation_date(&begin).unwrap();
    let mut list = X509CrlBuilder::new().unwrap();
    list.set_issuer_name(authority.subject_name()).unwrap();
    list.set_last_update(&begin).unwrap();
    list.set_next_update(&Asn1Time::days_from_now(until).unwrap()).unwrap();
    list.add_revoked(one.build()).unwrap();
    let nothing = X509::builder().unwrap();
    let context = nothing.x509v3_context(Some(&authority), None);
    list.append_extension(AuthorityKeyIdentifier::new().keyid(true).build(&context).unwrap()).unwrap();
    // The integer 1 in DER.
    let number = Asn1OctetString::new_from_bytes(&[2, 1, 1]).unwrap();
    let oid = Asn1Object::from_str("2.5.29.20").unwrap();
    list.append_extension(X509Extension::new_from_der(&oid, false, &number).unwrap()).unwrap();
    list.sign(&key, MessageDigest::sha256()).unwrap();
    std::fs::write(pki.path().join("ca-crl.pem"), list.build().unwrap().to_pem().unwrap()).unwrap();
}

#[test]
fn whoever_is_revoked_is_not_served_and_others_are() {
    let pki = pki();
    let bring = |name| Client { certificate: Some(pki.path().join(name)), ..Client::anonymous() };
    revoke_bob(&pki, 7);
    established(&settings(&pki, true), bring("alice"));
    let (failed, _) = meet(&settings(&pki, true), bring("bob"));
    assert_eq!(failed.unwrap_err().to_string(), "its certificate has been revoked");
    std::fs::write(pki.path().join("ca-crl.pem"), "nothing").unwrap();
    let error = Context::load(&settings(&pki, true)).err().unwrap().to_string();
    assert!(error.contains("ca-crl.pem"), "{error}");
}

#[test]
fn files_that_do_not_do_are_named() {
    let refused = |pki: &TempDir| match Context::load(&settings(pki, true)) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    };
    let (pki, other) = (pki(), pki());
    let path = |name: &str| pki.path().join(name);
    std::fs::copy(other.path().join("server-key.pem"), path("server-key.pem")).unwrap();
    assert!(refused(&pki).contains("is not the key of"), "{}", refused(&pki));
    std::fs::write(path("server-key.pem"), "nothing").unwrap();
    assert!(refused(&pki).contains("server-key.pem' is no private key"), "{}", refused(&pki));
    std::fs::remove_file(path("server-key.pem")).unwrap();
    assert!(refused(&pki).contains("server-key.pem': No such file"), "{}", refused(&pki));
    std::fs::write(path("server-cert.pem"), "").unwrap();
    assert!(refused(&pki).contains("server-cert.pem' is no certificate"), "{}", refused(&pki));
    std::fs::write(other.path().join("ca-cert.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    assert!(refused(&other).contains("ca-cert.pem' is no certificate"), "{}", refused(&other));
}
