//! Who clients with TLS have proven to be.

use std::process::Command;

use tests::{Gateway, Server, requires, run, tool};

use super::Controlled;

#[test]
fn an_operator_sees_the_user_of_a_key() {
    requires!("nbdsh");
    let pki = Server::folder();
    let made = run(Command::new(Gateway::program()).arg("pki").arg(pki.path()).args(["--client", "alice"]));
    let _ = made.success();
    let keys = pki.path().join("keys.psk");
    let controlled = Controlled::start(&["--tls-psk", keys.to_str().unwrap(), "memory", "1M"]);
    let file = pki.path().join("alice/keys.psk");
    let uri = format!(
        "nbds+unix://alice@/?socket={}&tls-psk-file={}",
        controlled.socket().display(),
        file.display()
    );
    // While it is connected, it asks who is.
    let ask = format!(
        "import subprocess; h.set_uri_allow_local_file(True); h.connect_uri('{uri}'); h.pread(512, 0); \
         subprocess.run(['{}', 'ctl', '{}', '--json', 'clients'], check=True)",
        Gateway::program().display(),
        controlled.path.display()
    );
    let said = run(Command::new(tool("nbdsh").unwrap()).args(["-c", &ask])).success();
    let clients: serde_json::Value = serde_json::from_str(&said).unwrap();
    let tls = serde_json::json!({ "user": "alice", "certificate": [] });
    assert_eq!(clients["clients"][0]["tls"], tls, "{clients}");
    controlled.gateway.stop();
}
