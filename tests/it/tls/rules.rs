//! Who may open which export of a configuration file, by encryption, certificate and key; and certificates that are
//! renewed while the server runs.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use tests::{Gateway, requires, run, tool, wait_until};

use super::Pki;

/// One export for each rule.
const EXPORTS: &str = "
[[export]]
name = 'open'
driver = 'memory'
properties.size = '1M'
[[export]]
name = 'covered'
driver = 'memory'
properties.size = '2M'
tls = 'require'
[[export]]
name = 'alice'
driver = 'memory'
properties.size = '3M'
allow.certificate = ['alice']
[[export]]
name = 'bob'
driver = 'memory'
properties.size = '4M'
allow.psk = ['bob']
";

/// A gateway whose clients may encrypt.
fn serve(pki: &Pki) -> Gateway {
    let file = pki.path("gateway.toml");
    let server = format!(
        "[server]\ntls = 'on'\ntls-certificates = '{}'\ntls-psk = '{}'\ntls-verify-peer = true\n",
        pki.text(""),
        pki.text("keys.psk")
    );
    fs::write(&file, server + EXPORTS).unwrap();
    Gateway::builder().start(&["--config".as_ref(), file.as_os_str()])
}

/// What of the exports a client finds that says this in its URI: the scheme, who it is, and parameters.
fn found(gateway: &Gateway, scheme: &str, user: &str, parameters: &str) -> Vec<&'static str> {
    let socket = gateway.socket().display();
    let is_found = |name: &&str| {
        let uri = format!("{scheme}+unix://{user}/{name}?socket={socket}{parameters}");
        run(Command::new(tool("nbdinfo").unwrap()).args(["--size", &uri])).status.success()
    };
    ["open", "covered", "alice", "bob"].into_iter().filter(is_found).collect()
}

#[test]
fn each_client_finds_what_it_may_open() {
    requires!("nbdinfo");
    let pki = Pki::new();
    let gateway = serve(&pki);
    assert_eq!(found(&gateway, "nbd", "", ""), ["open"]);
    let said = gateway.stderr();
    assert!(!said.contains("may not open"), "in clear it is told to encrypt, and nothing else: {said}");
    let certificate = |name: &str| format!("&tls-certificates={}&tls-hostname=localhost", pki.text(name));
    assert_eq!(found(&gateway, "nbds", "", &certificate("alice")), ["open", "covered", "alice"]);
    assert_eq!(found(&gateway, "nbds", "", &certificate("bob")), ["open", "covered"]);
    let key = |name: &str| format!("&tls-psk-file={}", pki.text(&format!("{name}/keys.psk")));
    assert_eq!(found(&gateway, "nbds", "bob@", &key("bob")), ["open", "covered", "bob"]);
    assert_eq!(found(&gateway, "nbds", "alice@", &key("alice")), ["open", "covered"]);
    let said = gateway.stderr();
    for reason in
        ["no name in its certificate is among those allowed", "its key is not of a user among those allowed"]
    {
        assert!(said.contains(reason), "{said}");
    }
    gateway.stop();
}

#[test]
fn a_reload_renews_certificates_and_keys() {
    requires!("nbdinfo");
    let (pki, next) = (Pki::new(), Pki::new());
    let mut gateway = serve(&pki);
    let parameters = |pki: &Pki| format!("&tls-certificates={}&tls-hostname=localhost", pki.text("alice"));
    assert!(!found(&gateway, "nbds", "", &parameters(&pki)).is_empty());
    assert!(found(&gateway, "nbds", "", &parameters(&next)).is_empty());
    for file in ["ca-cert.pem", "server-cert.pem", "server-key.pem", "keys.psk"] {
        fs::copy(next.path(file), pki.path(file)).unwrap();
    }
    gateway.signal(Signal::SIGHUP);
    wait_until("it is reloaded", || gateway.stderr().contains("the configuration is reloaded"));
    assert!(!found(&gateway, "nbds", "", &parameters(&next)).is_empty());
    // A key that does not fit its certificate changes nothing.
    fs::write(pki.path("server-key.pem"), "nonsense").unwrap();
    gateway.signal(Signal::SIGHUP);
    wait_until("the log tells of it", || gateway.stderr().contains("goes on as before"));
    assert!(gateway.stderr().contains("server-key.pem"), "{}", gateway.stderr());
    assert!(!found(&gateway, "nbds", "", &parameters(&next)).is_empty());
    gateway.stop();
}
