//! Other people's clients, each with its own words for certificates and keys.

use std::path::Path;
use std::process::Command;

use tests::{Output, run, tool};

/// Clients that know certificates.
pub(super) const CLIENTS: &[&str] = &["nbdinfo", "nbdcopy", "nbdsh", "qemu-img", "nbd-client"];

/// Clients that know pre-shared keys.
pub(super) const KEY_CLIENTS: &[&str] = &["nbdinfo", "nbdcopy", "nbdsh", "qemu-img"];

/// Where a server is, for a client that proves something.
pub(super) struct To<'a> {
    pub(super) socket: &'a Path,
    /// More parameters of qemu's credentials, or nothing.
    pub(super) priority: &'a str,
}

impl To<'_> {
    fn socket(&self) -> &str {
        self.socket.to_str().expect("paths of the tests are plain text")
    }

    /// Lets a client look at the disk with the certificates in a folder; the server's name is `host`.
    pub(super) fn with_certificates(&self, client: &str, folder: &str, host: &str) -> Output {
        let uri =
            format!("nbds+unix:///?socket={}&tls-certificates={folder}&tls-hostname={host}", self.socket());
        match client {
            "qemu-img" => {
                let credentials =
                    format!("tls-creds-x509,id=t,dir={folder},endpoint=client{}", self.priority);
                self.qemu_img(&credentials, &format!(",tls-hostname={host}"))
            }
            "nbd-client" => {
                let mut command = Command::new(tool(client).expect("it was asked for before"));
                command.args(["-l", "-unix", self.socket(), "-H", host]);
                command.arg("-A").arg(format!("{folder}/ca-cert.pem"));
                // It does not go without files that it was told of.
                if Path::new(folder).join("client-cert.pem").exists() {
                    command.arg("-F").arg(format!("{folder}/client-cert.pem"));
                    command.arg("-K").arg(format!("{folder}/client-key.pem"));
                }
                run(&mut command)
            }
            client => libnbd(client, &uri),
        }
    }

    /// Lets a client look at the disk as a user with the keys of a file.
    pub(super) fn with_key(&self, client: &str, user: &str, file: &str) -> Output {
        let uri = format!("nbds+unix://{user}@/?socket={}&tls-psk-file={file}", self.socket());
        let folder = Path::new(file).parent().and_then(Path::to_str).expect("a file in a folder");
        match client {
            "qemu-img" => {
                let user = format!("endpoint=client,username={user}{}", self.priority);
                self.qemu_img(&format!("tls-creds-psk,id=t,dir={folder},{user}"), "")
            }
            client => libnbd(client, &uri),
        }
    }

    fn qemu_img(&self, credentials: &str, more: &str) -> Output {
        let options = format!("driver=nbd,path={},tls-creds=t{more}", self.socket());
        let mut command = Command::new(tool("qemu-img").expect("it was asked for before"));
        run(command.args(["info", "--object", credentials, "--image-opts", &options]))
    }
}

fn libnbd(client: &str, uri: &str) -> Output {
    let mut command = Command::new(tool(client).expect("it was asked for before"));
    match client {
        "nbdinfo" => command.args(["--size", uri]),
        "nbdcopy" => command.args([uri, "null:"]),
        // It does not look at local files because a URI says so.
        "nbdsh" => command
            .args(["-c", "h.set_uri_allow_local_file(True)"])
            .args(["-c", &format!("h.connect_uri('{uri}'); assert h.get_tls_negotiated(); h.pread(512, 0)")]),
        other => panic!("no client is called {other}"),
    };
    run(&mut command)
}
