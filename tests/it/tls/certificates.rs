//! Certificates.

use tests::{Image, Place, Rng, requires};

use super::peers::{CLIENTS, To};
use super::{BYTES, Pki, expect_reason, reasons, serve};
use crate::clients::served::client;

/// What the server can know about clients that do not like it: GnuTLS leaves without a word.
const DISTRUST: &str = "trust our certificate";

#[test]
fn every_client_is_served_that_trusts_the_server() {
    requires!("nbdinfo", "nbdcopy", "nbdsh", "qemu-img", "nbd-client");
    let pki = Pki::new();
    let gateway = serve(&["--tls-certificates", &pki.text("")]);
    for client in CLIENTS {
        let to = To { socket: gateway.socket(), priority: "" };
        let output = to.with_certificates(client, &pki.text("alice"), "localhost");
        assert!(output.status.success(), "{client}: {output:?}");
    }
    assert_eq!(reasons(&gateway), [""; 0]);
    assert!(gateway.stderr().contains("TLSv1.3 with"), "{}", gateway.stderr());
    gateway.stop();
}

#[test]
fn an_older_version_of_tls_does_and_still_older_ones_do_not() {
    requires!("qemu-img");
    let pki = Pki::new();
    let gateway = serve(&["--tls-certificates", &pki.text("")]);
    let to = To { socket: gateway.socket(), priority: ",priority=NORMAL:-VERS-TLS1.3" };
    let _ = to.with_certificates("qemu-img", &pki.text("alice"), "localhost").success();
    assert!(gateway.stderr().contains("TLSv1.2 with"), "{}", gateway.stderr());
    let to = To { socket: gateway.socket(), priority: ",priority=NORMAL:-VERS-ALL:+VERS-TLS1.1" };
    let _ = to.with_certificates("qemu-img", &pki.text("alice"), "localhost").failure();
    expect_reason(&gateway, 0, "it knows only versions of TLS before 1.2");
    gateway.stop();
}

#[test]
fn clients_that_do_not_trust_the_server_leave_and_the_log_says_so() {
    requires!("nbdinfo", "nbdcopy", "nbdsh", "qemu-img", "nbd-client");
    let (ours, theirs) = (Pki::new(), Pki::new());
    let gateway = serve(&["--tls-certificates", &ours.text("")]);
    let to = To { socket: gateway.socket(), priority: "" };
    for client in CLIENTS {
        for (folder, host) in [(theirs.text("alice"), "localhost"), (ours.text("alice"), "elsewhere.example")]
        {
            let before = reasons(&gateway).len();
            let _ = to.with_certificates(client, &folder, host).failure();
            expect_reason(&gateway, before, DISTRUST);
        }
    }
    gateway.stop();
}

#[test]
fn a_server_that_verifies_serves_whom_it_knows_and_says_what_others_lack() {
    requires!("nbdinfo", "nbdcopy", "nbdsh", "qemu-img", "nbd-client");
    let (ours, theirs) = (Pki::new(), Pki::new());
    let gateway = serve(&["--tls-certificates", &ours.text(""), "--tls-verify-peer"]);
    let to = To { socket: gateway.socket(), priority: "" };
    let nothing = ours.mixed("nothing", &[("ca-cert.pem", ours.path("ca-cert.pem"))]);
    let strange = ours.mixed(
        "strange",
        &[
            ("ca-cert.pem", ours.path("ca-cert.pem")),
            ("client-cert.pem", theirs.path("alice/client-cert.pem")),
            ("client-key.pem", theirs.path("alice/client-key.pem")),
        ],
    );
    let server = ours.mixed(
        "server",
        &[
            ("ca-cert.pem", ours.path("ca-cert.pem")),
            ("client-cert.pem", ours.path("server-cert.pem")),
            ("client-key.pem", ours.path("server-key.pem")),
        ],
    );
    for client in CLIENTS {
        let output = to.with_certificates(client, &ours.text("bob"), "localhost");
        assert!(output.status.success(), "{client}: {output:?}");
    }
    assert!(gateway.stderr().contains("the owner of certificate \"bob\""), "{}", gateway.stderr());
    for client in CLIENTS {
        for (folder, reason) in [
            (&nothing, "it gave no certificate, and --tls-verify-peer demands one"),
            (&strange, "its certificate is not signed by an authority of ca-cert.pem"),
            (&server, "its certificate is not for clients"),
        ] {
            // qemu looks at what it has before it uses it, and does not come.
            if *client == "qemu-img" && *folder != nothing {
                continue;
            }
            let before = reasons(&gateway).len();
            let _ = to.with_certificates(client, folder, "localhost").failure();
            expect_reason(&gateway, before, reason);
        }
    }
    gateway.stop();
}

#[test]
fn an_image_comes_back_as_it_went_in_over_several_encrypted_connections() {
    requires!("nbdcopy");
    let pki = Pki::new();
    let gateway = serve(&["--tls-certificates", &pki.text(""), "--tls-verify-peer"]);
    let contents = Rng::new(12).bytes(BYTES);
    let original = Image::with(Place::Memory, &contents);
    let uri = format!(
        "nbds+unix:///?socket={}&tls-certificates={}&tls-hostname=localhost",
        gateway.socket().display(),
        pki.text("alice")
    );
    for options in [&["--connections=4", "--requests=64"][..], &["--synchronous", "--requests=1"]] {
        let copy = original.beside("copy");
        let paths = [original.path().to_str().unwrap(), &uri, copy.to_str().unwrap()];
        let _ = client("nbdcopy", &[options, &["--flush"], &paths[..2]].concat()).success();
        let _ = client("nbdcopy", &[options, &paths[1..]].concat()).success();
        assert!(std::fs::read(&copy).unwrap() == contents, "the copy differs");
        std::fs::remove_file(&copy).unwrap();
    }
    gateway.stop();
}

/// Replies wait as ciphertext while the client does not take them, and the end of the server waits for them too.
#[test]
fn a_client_that_takes_its_time_gets_everything() {
    requires!("nbdsh");
    let pki = Pki::new();
    let mut gateway = serve(&["--tls-certificates", &pki.text("")]);
    let script = format!(
        r#"
import os, signal, time
h.set_uri_allow_local_file(True)
h.connect_uri("nbds+unix:///?socket={}&tls-certificates={}&tls-hostname=localhost")
size, part = h.get_size(), 1 << 18
data = os.urandom(size)
for at in range(0, size, part):
    h.pwrite(data[at:at + part], at)
for last in [False, True]:
    buffers = [nbd.Buffer(part) for _ in range(size // part)]
    cookies = [h.aio_pread(buffer, index * part) for index, buffer in enumerate(buffers)]
    # The requests go out as far as the server takes them; nothing is received.
    while h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
        h.aio_notify_write()
    if last:
        os.kill({}, signal.SIGTERM)
    time.sleep(1)
    while h.aio_in_flight() > 0:
        h.poll(-1)
    taken = 0
    for index, (cookie, buffer) in enumerate(zip(cookies, buffers)):
        try:
            assert h.aio_command_completed(cookie)
        except nbd.Error as error:
            # It was still in the socket when the server was told to end.
            assert last and error.errno == "ESHUTDOWN", error.errno
            continue
        assert bytes(buffer.to_bytearray()) == data[index * part:(index + 1) * part]
        taken += 1
    assert taken == len(buffers) or last and taken > 0, taken
"#,
        gateway.socket().display(),
        pki.text("alice"),
        gateway.pid()
    );
    let mut nbdsh = std::process::Command::new(tests::tool("nbdsh").unwrap());
    let output = tests::run_with_input(nbdsh.args(["-c", "-"]), &script);
    assert!(output.status.success(), "{}{}", output.stdout, output.stderr);
    assert!(gateway.wait().success(), "{}", gateway.stderr());
}
