//! TLS: real clients with the right and with wrong certificates, authorities, hosts, keys and users, and clients that
//! try to do without.
//!
//! What a client says is its own business; what is checked is that it is served or not, and that the server's log has
//! the reason in one line.

mod certificates;
mod clear;
mod files;
mod keys;
mod peers;
mod rules;

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tests::{Gateway, run, wait_until};

/// Size of the disks here.
const BYTES: usize = 8 << 20;

/// A folder that `gateway pki` made, for the clients alice and bob.
struct Pki(TempDir);

impl Pki {
    fn new() -> Pki {
        let folder = tests::Server::folder();
        let mut command = Command::new(Gateway::program());
        command.arg("pki").arg(folder.path()).args(["--client", "alice", "--client", "bob"]);
        let _ = run(&mut command).success();
        Pki(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path as text.
    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("paths of the tests are plain text").to_owned()
    }

    /// A folder with these files, each from another one.
    fn mixed(&self, name: &str, files: &[(&str, PathBuf)]) -> String {
        std::fs::create_dir(self.path(name)).unwrap();
        for (file, from) in files {
            std::fs::copy(from, self.path(name).join(file)).unwrap();
        }
        self.text(name)
    }
}

/// A gateway with these options, on a RAM disk.
fn serve(options: &[&str]) -> Gateway {
    let size = BYTES.to_string();
    Gateway::builder().env("GATEWAY_LOG", "gateway=debug").start(&[options, &["memory", &size]].concat())
}

/// What the server's log says about clients with which there was no TLS, without their names.
fn reasons(gateway: &Gateway) -> Vec<String> {
    let said = gateway.stderr();
    let about = said.lines().filter(|line| line.contains(" TLS with ") && line.contains(" failed: "));
    about.filter_map(|line| line.split(" failed: ").nth(1)).map(str::to_owned).collect()
}

/// The log has one more reason than `before`: this one.
#[track_caller]
fn expect_reason(gateway: &Gateway, before: usize, expected: &str) {
    wait_until("the server says why", || reasons(gateway).len() > before);
    let reasons = reasons(gateway);
    assert_eq!(reasons.len(), before + 1, "one line for one client: {reasons:?}");
    assert!(reasons[before].contains(expected), "{:?} does not say {expected:?}", reasons[before]);
}
