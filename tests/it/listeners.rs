//! Where a server listens: several places at once, of several kinds.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Gateway, Server, requires, run, tool, wait_until};

use crate::raw::Raw;

/// A gateway that prints where it is.
struct Printing {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Printing {
    fn start(line: &[&str]) -> Printing {
        let mut command = Command::new(Gateway::program());
        command.arg("--print-uri").args(line).args(["memory", "1M"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Printing { child, out }
    }

    fn uris(&mut self, count: usize) -> Vec<String> {
        (&mut self.out).lines().take(count).map(Result::unwrap).collect()
    }

    /// Ends it; it had nothing more to print.
    fn stop(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn greets(port: u16) -> bool {
    let mut greeting = [0; 18];
    TcpStream::connect(("127.0.0.1", port)).unwrap().read_exact(&mut greeting).is_ok()
        && greeting.starts_with(b"NBDMAGIC")
}

fn port(uri: &str) -> u16 {
    uri.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn unix_sockets_and_tcp_are_served_at_once() {
    let folder = Server::folder();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    let [a, b] = [&one, &two].map(|path| path.to_str().unwrap());
    let mut gateway = Printing::start(&["-U", a, "-U", b, "-p", "0"]);
    let uris = gateway.uris(3);
    assert_eq!(uris[..2], [a, b].map(|path| format!("nbd+unix:///?socket={path}")));
    let mut clients = [&one, &two].map(|socket| Raw::open(socket, ""));
    assert_eq!(clients[0].write(0, 0, &[7; 512]), 0);
    assert_eq!(clients[1].read(0, 512).unwrap(), [7; 512], "it is one disk");
    assert!(greets(port(&uris[2])));
    gateway.stop();
    assert!(!one.exists() && !two.exists());
}

#[test]
fn a_private_socket_may_be_beside_other_places() {
    let mut gateway = Printing::start(&["-U", "-", "-i", "127.0.0.1", "-p", "0"]);
    let uris = gateway.uris(2);
    let socket = Path::new(uris[0].strip_prefix("nbd+unix:///?socket=").unwrap()).to_owned();
    assert_eq!(Raw::open(&socket, "").size_bytes, 1 << 20);
    assert!(greets(port(&uris[1])));
    gateway.stop();
    assert!(!socket.parent().unwrap().exists());
}

#[test]
fn when_one_place_is_taken_none_stays() {
    let folder = Server::folder();
    let first = folder.path().join("first");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = Command::new(Gateway::program());
    command.arg("-U").arg(&first).args(["-i", "127.0.0.1", "-p", &port, "memory", "1M"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains(&port) && output.stderr.contains("in use"), "{}", output.stderr);
    assert!(!first.exists());
}

#[test]
fn the_port_that_was_free_is_told_in_the_log() {
    let folder = Server::folder();
    let socket = folder.path().join("socket");
    let mut command = Command::new(Gateway::program());
    command.arg("-U").arg(&socket).args(["-p", "0", "-i", "127.0.0.1", "memory", "1M"]);
    let server = Server::start_unix(command, folder, &socket);
    wait_until("it says where it is", || server.stderr().contains("TCP 127.0.0.1:"));
    let said = server.stderr();
    let text = said.split("TCP 127.0.0.1:").nth(1).unwrap();
    let port: u16 = text.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    assert!(greets(port));
    server.stop();
}

#[test]
fn a_captive_command_is_told_the_first_place() {
    requires!("nbdinfo");
    let script =
        format!("'{}' --size \"$uri\"; echo \"$unixsocket|$port\"", tool("nbdinfo").unwrap().display());
    let line = ["-U", "-", "-p", "0", "memory", "1M", "--run", &script];
    let said = run(Command::new(Gateway::program()).args(line)).success();
    let (size, rest) = said.split_once('\n').unwrap();
    assert_eq!(size, "1048576");
    let (socket, port) = rest.trim().split_once('|').unwrap();
    assert!(socket.ends_with("/socket") && port.is_empty(), "{rest}");
}

#[test]
fn vsock_is_listened_on_or_refused_with_the_reason() {
    let mut command = Command::new(Gateway::program());
    command.args(["--vsock=0", "--run", "echo $uri $port", "memory", "1M"]);
    let output = run(&mut command);
    match output.status.code() {
        Some(0) => {
            let (uri, port) = output.stdout.trim().split_once(' ').unwrap();
            assert_eq!(uri, format!("nbd+vsock://1:{port}"));
            assert_ne!(port, "0");
        }
        code => {
            assert_eq!(code, Some(1), "{}", output.stderr);
            assert!(output.stderr.contains("vsock port 0"), "{}", output.stderr);
            assert!(output.stderr.contains("load the module vsock"), "{}", output.stderr);
        }
    }
}
