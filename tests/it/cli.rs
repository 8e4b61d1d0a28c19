//! The command line of a server that starts: where it listens, what it prints and writes, and whom it runs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{Gateway, Output, Server, run, wait_until};

use crate::raw::{EPERM, Raw, WRITE};

/// A gateway whose standard output is read.
struct Talking {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Talking {
    fn start(line: &[&str]) -> Talking {
        let mut command = Command::new(Gateway::program());
        let mut child = command.args(line).stdout(Stdio::piped()).spawn().expect("the gateway starts");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        Talking { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gateway(line: &[&str]) -> Output {
    run(Command::new(Gateway::program()).args(line))
}

#[test]
fn a_captive_command_knows_where_the_server_is() {
    let script = r#"echo "$uri|$nbd|$port|$unixsocket|$exportname"; test -S "$unixsocket""#;
    let said = gateway(&["-e", "a b", "memory", "1M", "--run", script]).success();
    let [uri, nbd, port, socket, export] = said.trim_end().split('|').collect::<Vec<_>>()[..] else {
        panic!("five values: {said}")
    };
    assert_eq!(uri, format!("nbd+unix:///a%20b?socket={socket}"));
    assert_eq!(nbd, format!("nbd:unix:{socket}"));
    assert_eq!((port, export), ("", "a b"));
    assert!(!Path::new(socket).parent().unwrap().exists(), "the private folder is gone");
}

#[test]
fn a_captive_command_may_be_served_over_tcp() {
    let script = r#"echo "$uri|$nbd|$port|$unixsocket|$exportname""#;
    let said = gateway(&["-p", "0", "memory", "1M", "--run", script]).success();
    let port = said.split('|').nth(2).unwrap();
    assert_eq!(said, format!("nbd://localhost:{port}|nbd:localhost:{port}|{port}||\n"));
}

#[test]
fn the_exit_code_is_that_of_the_captive_command() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("no-such-command", 127)] {
        assert_eq!(gateway(&["memory", "1M", "--run", script]).status.code(), Some(code), "{script}");
    }
}

#[test]
fn a_captive_command_that_wants_to_stay_is_ended_with_the_server() {
    let folder = Server::folder();
    let ready = folder.path().join("ready");
    let script = format!("touch '{}'; exec sleep 1000", ready.display());
    let mut talking = Talking::start(&["memory", "1M", "--run", &script]);
    wait_until("the command runs", || ready.exists());
    let pid = Pid::from_raw(i32::try_from(talking.child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(talking.child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn a_private_socket_is_private_and_goes_with_the_server() {
    let mut talking = Talking::start(&["-U", "-", "--print-uri", "memory", "1M"]);
    let uri = talking.line();
    let socket = Path::new(uri.strip_prefix("nbd+unix:///?socket=").expect("a URI")).to_owned();
    let folder = socket.parent().unwrap();
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(Raw::open(&socket, "").size_bytes, 1 << 20);
    assert!(talking.stop().success());
    assert!(!folder.exists());
}

#[test]
fn a_free_port_is_the_same_on_both_loopback_addresses() {
    let mut talking = Talking::start(&["-p", "0", "--print-uri", "memory", "1M"]);
    let uri = talking.line();
    let port: u16 = uri.strip_prefix("nbd://localhost:").expect("a URI").parse().unwrap();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
    }
    assert!(talking.stop().success());
}

#[test]
fn properties_are_printed_when_the_server_serves() {
    let line = ["-U", "-", "memory", "get=num-queues", "3M", "get=capacity", "--workers", "2", "--print-uri"];
    let mut talking = Talking::start(&line);
    assert_eq!(talking.line(), "num-queues=2");
    assert_eq!(talking.line(), format!("capacity={}", 3 << 20));
    assert!(talking.line().starts_with("nbd+unix:///?socket="));
    assert!(talking.stop().success());
}

#[test]
fn a_worker_without_a_queue_is_not_started() {
    let count = r#"grep -l '^worker-' /proc/$PPID/task/*/comm | wc -l"#;
    let workers = |words: &[&str]| {
        let line = [&["--workers", "4", "memory", "1M"], words, &["--run", count]].concat();
        gateway(&line).success().trim().to_owned()
    };
    assert_eq!(workers(&[]), "4");
    assert_eq!(workers(&["num-queues=1"]), "1");
}

#[test]
fn the_pid_file_is_there_as_long_as_the_server() {
    let folder = Server::folder();
    let (pidfile, socket) = (folder.path().join("pid"), folder.path().join("socket"));
    let mut command = Command::new(Gateway::program());
    command.arg("-P").arg(&pidfile).arg("-U").arg(&socket).args(["memory", "1M"]);
    let gateway = Server::start_unix(command, folder, &socket);
    wait_until("the pid file is there", || pidfile.exists());
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), format!("{}\n", gateway.pid()));
    // The folder goes with the server's value, so the end is watched from outside.
    let mut gateway = gateway;
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.wait().success());
    assert!(!pidfile.exists() && !socket.exists());
}

#[test]
fn a_pid_file_may_be_a_pipe() {
    let folder = Server::folder();
    let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = Command::new(Gateway::program());
    command.arg("-U").arg(&socket).arg("-P").arg(&pipe).args(["memory", "1M"]);
    let mut server = Server::start_unix(command, folder, &socket);
    assert_eq!(fs::read_to_string(&pipe).unwrap(), format!("{}\n", server.pid()));
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success());
    assert!(pipe.exists(), "what was there before stays");
}

#[test]
fn a_socket_left_behind_is_replaced_without_a_word_from_the_user() {
    let folder = Server::folder();
    let socket = folder.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let mut command = Command::new(Gateway::program());
    command.arg("-U").arg(&socket).args(["memory", "1M"]);
    let server = Server::start_unix(command, folder, &socket);
    assert_eq!(Raw::open(&socket, "").size_bytes, 1 << 20);
    server.stop();
}

#[test]
fn the_socket_of_a_successor_stays() {
    let mut gateway = Gateway::start(&["memory", "1M"]);
    let socket = gateway.socket().to_owned();
    fs::remove_file(&socket).unwrap();
    let _successor = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.wait().success());
    assert!(socket.exists());
}

#[test]
fn read_only_is_announced_and_enforced() {
    const READ_ONLY: u16 = 1 << 1;
    for line in [&["-r", "memory", "1M"][..], &["memory", "1M", "read-only=true"]] {
        let folder = Server::folder();
        let socket = folder.path().join("socket");
        let mut command = Command::new(Gateway::program());
        command.arg("-U").arg(&socket).args(line);
        let server = Server::start_unix(command, folder, &socket);
        let mut client = Raw::open(&socket, "");
        assert_ne!(client.flags & READ_ONLY, 0);
        client.request(WRITE, 1, 0, 512);
        std::io::Write::write_all(&mut client.stream, &[7; 512]).unwrap();
        assert_eq!(client.reply().unwrap().error, EPERM);
        drop(client);
        server.stop();
    }
}

#[test]
fn an_export_has_a_name_and_a_description() {
    tests::requires!("nbdinfo");
    let nbdinfo = tests::tool("nbdinfo").unwrap();
    let script = format!("'{}' --list --json \"$uri\"", nbdinfo.display());
    let line = ["-e", "disk 1", "--description", "of a test", "memory", "1M", "--run", &script];
    let listed: Value = serde_json::from_str(&gateway(&line).success()).unwrap();
    let export = &listed["exports"][0];
    assert_eq!(export["export-name"], "disk 1");
    assert_eq!(export["description"], "of a test");
    // The name works, none works, another one does not.
    let script =
        format!("'{0}' --size \"$uri\"; '{0}' --size \"nbd+unix:///?socket=$unixsocket\"", nbdinfo.display());
    let line = ["-e", "disk 1", "memory", "1M", "--run", &script];
    assert_eq!(gateway(&line).success(), "1048576\n1048576\n");
    let script = format!("'{}' --size \"nbd+unix:///other?socket=$unixsocket\"", nbdinfo.display());
    assert!(!gateway(&["-e", "disk 1", "memory", "1M", "--run", &script]).status.success());
}

#[test]
fn relative_paths_are_those_of_the_folder_of_the_start() {
    let folder = Server::folder();
    fs::write(folder.path().join("image"), vec![0; 12345]).unwrap();
    let mut command = Command::new(Gateway::program());
    command.current_dir(folder.path()).args(["info", "io_uring", "image"]);
    let said = run(&mut command).success();
    assert!(said.lines().any(|line| line == "capacity=12345"), "{said}");
    let path = format!("path={}", folder.path().canonicalize().unwrap().join("image").display());
    assert!(said.lines().any(|line| line == path), "{said}");
}

#[test]
fn info_says_the_same_in_lines_and_in_json() {
    let lines = gateway(&["info", "memory", "1G"]).success();
    let json: Value = serde_json::from_str(&gateway(&["info", "memory", "1G", "--json"]).success()).unwrap();
    let object = json.as_object().unwrap();
    assert_eq!(lines.lines().count(), object.len());
    for line in lines.lines() {
        let (name, value) = line.split_once('=').unwrap();
        let other = &object[name];
        let other = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
        assert_eq!(value, other, "{name}");
    }
    assert_eq!(object["capacity"], 1 << 30);
    assert_eq!(object["read-only"], false);
    let json: Value =
        serde_json::from_str(&gateway(&["info", "-r", "memory", "1G", "--json"]).success()).unwrap();
    assert_eq!(json["read-only"], true);
}

#[test]
fn help_is_no_error_and_teaches() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--help"], &["Examples:", "--run", "$uri", "GATEWAY_LOG", "Exit codes"]),
        (&["-h"], &["Examples:"]),
        (&["memory", "--help"], &["size=", "gateway memory 1G", "capacity"]),
        (&["help", "io_uring"], &["num-entries=", "Default", "before starting"]),
        (&["info", "--help"], &["--json"]),
        (&["drivers"], &["io_uring", "memory", "null"]),
    ];
    for (line, words) in cases {
        let Output { status, stdout, stderr } = gateway(line);
        assert!(status.success() && stderr.is_empty(), "{line:?}: {stderr}");
        for word in words {
            assert!(stdout.contains(word), "{line:?} does not say {word:?}:\n{stdout}");
        }
    }
    assert!(gateway(&["--version"]).success().starts_with("gateway "));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(r#"{ "$0" drivers --json; echo $? >&2; } | true"#).arg(Gateway::program());
    assert_eq!(run(&mut command).stderr, "0\n");
}
