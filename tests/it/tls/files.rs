//! Files and options that cannot work: one message, before anything is served.

use std::process::Command;

use tests::{Gateway, requires, run};

use super::Pki;

/// What a gateway says that does not start.
fn refused(code: i32, options: &[&str]) -> String {
    let mut command = Command::new(Gateway::program());
    let output = run(command.args(options).args(["--run", "true", "null", "1M"]));
    assert_eq!(output.status.code(), Some(code), "{options:?}: {}", output.stderr);
    output.stderr
}

#[test]
fn a_file_that_is_missing_or_wrong_is_named() {
    let pki = Pki::new();
    let folder = pki.text("");
    let said = refused(1, &["--tls-certificates", "/nowhere"]);
    assert!(said.contains("/nowhere/server-cert.pem") && said.contains("gateway pki"), "{said}");
    std::fs::write(pki.path("keys.psk"), "alice:0011\nbob 22\n").unwrap();
    let said = refused(1, &["--tls-psk", &pki.text("keys.psk")]);
    assert!(said.contains("line 2 of") && said.contains("USER:KEY"), "{said}");
    std::fs::copy(pki.path("client-key.pem"), pki.path("server-key.pem")).unwrap();
    let said = refused(1, &["--tls-certificates", &folder]);
    assert!(said.contains("is not the key of"), "{said}");
    std::fs::remove_file(pki.path("ca-cert.pem")).unwrap();
    let said = refused(1, &["--tls-certificates", &folder]);
    assert!(!said.contains("ca-cert.pem"), "who verifies nobody needs no authority: {said}");
}

#[test]
fn options_that_need_others_say_which() {
    assert!(refused(2, &["--tls=require"]).contains("--tls-certificates"));
    assert!(refused(2, &["--tls-verify-peer"]).contains("ca-cert.pem"));
}

#[test]
fn secrets_that_everybody_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let pki = Pki::new();
    std::fs::set_permissions(pki.path("server-key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let gateway = super::serve(&["--tls-certificates", &pki.text("")]);
    assert!(gateway.stderr().contains("everybody can read"), "{}", gateway.stderr());
    gateway.stop();
}

#[test]
fn a_captive_command_finds_the_encrypted_server() {
    requires!("nbdinfo");
    let pki = Pki::new();
    let nbdinfo = tests::tool("nbdinfo").unwrap();
    let run_text = |options: &[&str], command: &str| {
        let mut gateway = Command::new(Gateway::program());
        run(gateway.args(options).args(["-p", "0", "--run", command, "memory", "1M"])).success()
    };
    let command = format!("echo $tls $tls_certificates; {} --size \"$uri\"", nbdinfo.display());
    let folder = pki.text("");
    let said = run_text(&["--tls-certificates", &folder, "--tls-verify-peer"], &command);
    assert_eq!(said, format!("2 {folder}\n1048576\n"));
    assert_eq!(run_text(&["--tls-psk", &pki.text("keys.psk")], "echo $tls ${uri%%:*}"), "2 nbds\n");
}
