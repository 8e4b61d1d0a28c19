//! What a reload must not do: half of what the file says, more than it says, or something that cannot be undone.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tests::{Gateway, Server, wait_until};

use crate::many::{Configured, memory, memory_with};
use crate::raw::{Raw, WRITE, header};

/// A server whose file says where it listens: on a socket, and elsewhere.
struct Listening {
    server: Server,
    folder: TempDir,
}

impl Listening {
    fn start(elsewhere: &str, exports: &str) -> Listening {
        let folder = Server::folder();
        let file = folder.path().join("gateway.toml");
        write(&folder, elsewhere, exports);
        let mut command = Command::new(Gateway::program());
        command.arg("--config").arg(file);
        let socket = folder.path().join("socket");
        Listening { server: Server::start_unix(command, Server::folder(), &socket), folder }
    }

    fn open(&self, export: &str) -> Raw {
        Raw::open(&self.folder.path().join("socket"), export)
    }

    /// Changes the file and has it read. The log must say this then, once more.
    fn reload(&mut self, elsewhere: &str, exports: &str, outcome: &str) {
        write(&self.folder, elsewhere, exports);
        let before = self.server.stderr().matches(outcome).count();
        self.server.signal(Signal::SIGHUP);
        wait_until(outcome, || self.server.stderr().matches(outcome).count() > before);
    }
}

fn write(folder: &TempDir, elsewhere: &str, exports: &str) {
    let path = |name| folder.path().join(name);
    let own = format!("[[listen]]\nunix = '{}'\n", path("socket").display());
    fs::write(path("gateway.toml"), [&own, elsewhere, exports].concat()).unwrap();
}

/// A port on which nobody listens, as far as anybody can know.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn tcp(host: &str, port: u16) -> String {
    format!("[[listen]]\ntcp = '{host}'\nport = {port}\n")
}

fn is_served(host: &str, port: u16) -> bool {
    TcpStream::connect((host, port)).is_ok()
}

#[test]
fn another_number_of_workers_waits_for_the_next_start_and_disks_keep_their_data() {
    let workers = |number: u32| format!("[server]\nworkers = {number}\n{}", memory("disk"));
    let mut listening = Listening::start("", &workers(2));
    let mut client = listening.open("disk");
    assert_eq!(client.write(0, 0, &[5; 512]), 0);
    listening.reload("", &workers(1), "is reloaded");
    let said = listening.server.stderr();
    assert!(said.contains("the number of workers has changed"), "{said}");
    assert_eq!(client.read(0, 512), Ok(vec![5; 512]), "its client notices nothing");
    assert_eq!(listening.open("disk").read(0, 512), Ok(vec![5; 512]));
    drop(client);
    listening.server.stop();
}

#[test]
fn a_place_that_cannot_be_had_changes_nothing_at_all() {
    let mut listening = Listening::start("", &memory("before"));
    let (port, missing) = (free_port(), listening.folder.path().join("missing"));
    let places = format!("{}[[listen]]\nunix = '{}/socket'\n", tcp("127.0.0.1", port), missing.display());
    listening.reload(&places, &memory("after"), "goes on as before");
    assert!(listening.server.stderr().contains("missing/socket"), "{}", listening.server.stderr());
    wait_until("nobody listens on the port", || !is_served("127.0.0.1", port));
    assert_eq!(listening.open("before").read(0, 1), Ok(vec![0]), "exports are as before");
    fs::create_dir(&missing).unwrap();
    listening.reload(&places, &memory("after"), "is reloaded");
    assert!(is_served("127.0.0.1", port));
    assert_eq!(Raw::open(&missing.join("socket"), "after").read(0, 1), Ok(vec![0]));
    listening.server.stop();
}

#[test]
fn a_port_may_move_to_other_addresses() {
    let port = free_port();
    let mut listening = Listening::start(&tcp("127.0.0.1", port), &memory("disk"));
    for host in ["0.0.0.0", "127.0.0.1"] {
        listening.reload(&tcp(host, port), &memory("disk"), "is reloaded");
        assert!(is_served("127.0.0.1", port));
        assert_eq!(is_served("127.0.0.2", port), host == "0.0.0.0", "{host}");
    }
    listening.server.stop();
}

/// A client that begins a write and does not go on is answered by the end of its connection. Nobody is served by the
/// disk that has another one's place before that one has ended.
#[test]
fn half_a_request_does_not_keep_a_client_for_ever_and_the_successor_waits() {
    let mut configured = Configured::start(&memory("disk"));
    let mut client = configured.open("disk");
    client.stream.write_all(&header(WRITE, 1, 0, 1 << 20)).unwrap();
    client.stream.write_all(&[7; 1000]).unwrap();
    configured.reload(&memory_with("disk", "read-only = true"));
    assert_eq!(configured.open("disk").read(0, 1), Ok(vec![0]));
    client.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(client.reply(), None, "it was sent away before");
    configured.gateway.stop();
}
