//! Pre-shared keys.

use tests::requires;

use super::peers::{KEY_CLIENTS, To};
use super::{Pki, expect_reason, reasons, serve};

/// What qemu is told for the older version.
const OLDER: &str = ",priority=NORMAL:-VERS-TLS1.3";

#[test]
fn whoever_has_a_key_is_served_and_others_are_named() {
    requires!("nbdinfo", "nbdcopy", "nbdsh", "qemu-img");
    let (ours, theirs) = (Pki::new(), Pki::new());
    let gateway = serve(&["--tls-psk", &ours.text("keys.psk")]);
    let key = std::fs::read_to_string(ours.path("alice/keys.psk")).unwrap();
    std::fs::create_dir(ours.path("eve")).unwrap();
    std::fs::write(ours.path("eve/keys.psk"), key.replace("alice:", "eve:")).unwrap();
    for (client, priority) in KEY_CLIENTS.iter().map(|client| (*client, "")).chain([("qemu-img", OLDER)]) {
        let to = To { socket: gateway.socket(), priority };
        let output = to.with_key(client, "alice", &ours.text("alice/keys.psk"));
        assert!(output.status.success(), "{client}: {output:?}");
        let before = reasons(&gateway).len();
        let _ = to.with_key(client, "alice", &theirs.text("alice/keys.psk")).failure();
        expect_reason(&gateway, before, "wrong key for user \"alice\"");
        let _ = to.with_key(client, "eve", &ours.text("eve/keys.psk")).failure();
        expect_reason(&gateway, before + 1, "unknown user \"eve\"");
    }
    let said = gateway.stderr();
    assert!(said.contains("TLSv1.3 with") && said.contains("TLSv1.2 with"), "{said}");
    assert!(said.contains("by user \"alice\""), "{said}");
    gateway.stop();
}

#[test]
fn with_certificates_too_clients_choose() {
    requires!("nbdinfo", "qemu-img");
    let pki = Pki::new();
    let gateway = serve(&[
        "--tls-psk",
        &pki.text("keys.psk"),
        "--tls-certificates",
        &pki.text(""),
        "--tls-verify-peer",
    ]);
    for (client, priority) in [("nbdinfo", ""), ("qemu-img", ""), ("qemu-img", OLDER)] {
        let to = To { socket: gateway.socket(), priority };
        let _ = to.with_key(client, "bob", &pki.text("bob/keys.psk")).success();
        let _ = to.with_certificates(client, &pki.text("alice"), "localhost").success();
    }
    let said = gateway.stderr();
    assert!(said.contains("by user \"bob\"") && said.contains("certificate \"alice\""), "{said}");
    gateway.stop();
}

#[test]
fn a_client_without_a_key_is_not_served() {
    requires!("nbdinfo");
    let pki = Pki::new();
    let gateway = serve(&["--tls-psk", &pki.text("keys.psk")]);
    let to = To { socket: gateway.socket(), priority: "" };
    let _ = to.with_certificates("nbdinfo", &pki.text("alice"), "localhost").failure();
    expect_reason(&gateway, 0, "no pre-shared key");
    gateway.stop();
}
