//! Clients that try to do without encryption, or to have some said in clear count later.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tests::{Gateway, requires};

use super::peers::To;
use super::{Pki, expect_reason, reasons, serve};
use crate::clients::served::client;

/// Options, replies and their numbers (doc/proto.md of the NetworkBlockDevice/nbd project).
const ABORT: u32 = 2;
const STARTTLS: u32 = 5;
const GO: u32 = 7;
const ACK: u32 = 1;
const ERR_POLICY: u32 = (1 << 31) | 2;
const ERR_TLS_REQD: u32 = (1 << 31) | 5;

/// A connection behind the greeting.
struct Haggler(UnixStream);

impl Haggler {
    fn new(gateway: &Gateway) -> Haggler {
        let mut stream = UnixStream::connect(gateway.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(&3_u32.to_be_bytes()).unwrap();
        Haggler(stream)
    }

    /// Asks, and returns the kind of the reply.
    fn ask(&mut self, number: u32, data: &[u8]) -> u32 {
        self.0.write_all(&option(number, data)).unwrap();
        let mut head = [0; 20];
        self.0.read_exact(&mut head).unwrap();
        assert_eq!(head[8..12], number.to_be_bytes());
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let mut text = vec![0; word(16) as usize];
        self.0.read_exact(&mut text).unwrap();
        word(12)
    }

    /// Everything until the server closes.
    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Data of GO for the default export, without questions.
const DEFAULT: [u8; 6] = [0; 6];

#[test]
fn where_encryption_is_a_must_nothing_is_answered_before_it() {
    let pki = Pki::new();
    let gateway = serve(&["--tls-certificates", &pki.text("")]);
    let mut client = Haggler::new(&gateway);
    // LIST, PEEK_EXPORT, INFO, GO, STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS, unknown.
    for number in [3, 4, 6, GO, 8, 9, 10, 11, 99] {
        assert_eq!(client.ask(number, &DEFAULT), ERR_TLS_REQD, "option {number}");
    }
    assert_eq!(client.ask(ABORT, &[]), ACK);
    assert_eq!(client.rest(), b"");
    let mut client = Haggler::new(&gateway);
    // EXPORT_NAME has no error reply.
    client.0.write_all(&option(1, b"")).unwrap();
    assert_eq!(client.rest(), b"");
    gateway.stop();
}

#[test]
fn bytes_in_clear_behind_starttls_end_the_connection() {
    let pki = Pki::new();
    let gateway = serve(&["--tls-certificates", &pki.text(""), "--tls=on"]);
    let mut client = Haggler::new(&gateway);
    client.0.write_all(&[option(STARTTLS, &[]), option(GO, &DEFAULT)].concat()).unwrap();
    let rest = client.rest();
    assert!(rest.len() <= 20, "nothing but, perhaps, the answer to STARTTLS: {rest:?}");
    let mut client = Haggler::new(&gateway);
    assert_eq!(client.ask(STARTTLS, &[]), ACK);
    client.0.write_all(&option(GO, &DEFAULT)).unwrap();
    let rest = client.rest();
    assert!(rest.len() <= 7, "nothing but an alert: {rest:?}");
    expect_reason(&gateway, 0, "what it sends is not TLS");
    gateway.stop();
}

#[test]
fn where_encryption_is_possible_both_kinds_of_clients_are_served() {
    requires!("nbdinfo");
    let pki = Pki::new();
    let gateway = serve(&["--tls-certificates", &pki.text(""), "--tls=on"]);
    let to = To { socket: gateway.socket(), priority: "" };
    let _ = to.with_certificates("nbdinfo", &pki.text("alice"), "localhost").success();
    let _ = client("nbdinfo", &["--size", &gateway.uri()]).success();
    assert_eq!(reasons(&gateway), [""; 0]);
    gateway.stop();
}

#[test]
fn without_certificates_or_keys_there_is_no_encryption() {
    requires!("nbdinfo");
    let pki = Pki::new();
    for options in [&[][..], &["--tls=off", "--tls-certificates", &pki.text("")]] {
        let gateway = serve(options);
        assert_eq!(Haggler::new(&gateway).ask(STARTTLS, &[]), ERR_POLICY);
        let to = To { socket: gateway.socket(), priority: "" };
        let _ = to.with_certificates("nbdinfo", &pki.text("alice"), "localhost").failure();
        let _ = client("nbdinfo", &["--size", &gateway.uri()]).success();
        gateway.stop();
    }
}

#[test]
fn a_client_that_says_nothing_after_starttls_holds_nobody_up() {
    requires!("nbdinfo");
    let pki = Pki::new();
    let gateway = serve(&["--tls-certificates", &pki.text("")]);
    let mut silent = Haggler::new(&gateway);
    assert_eq!(silent.ask(STARTTLS, &[]), ACK);
    let to = To { socket: gateway.socket(), priority: "" };
    let _ = to.with_certificates("nbdinfo", &pki.text("alice"), "localhost").success();
    gateway.stop();
}
