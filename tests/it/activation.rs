//! Socket activation: sockets that somebody else has opened, as systemd and libnbd pass them.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{Gateway, Image, Output, Place, Rng, Server, requires, run, tool, wait_until};

use crate::raw::Raw;

/// A command line that passes its standard input as descriptor 3 to a gateway, and with `two` its standard output as
/// descriptor 4. `$$` in `variables` is the gateway's process.
fn passing(two: bool, variables: &str) -> Command {
    let second = if two { "exec 4>&1 1>&2;" } else { "" };
    let script = format!("exec 3<&0 </dev/null; {second} export {variables}; exec \"$0\" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(Gateway::program());
    command
}

/// Runs a gateway that must end by itself.
fn passed_to(socket: impl Into<OwnedFd>, variables: &str, line: &[&str]) -> Output {
    let mut command = passing(false, variables);
    command.stdin(Stdio::from(socket.into())).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.args(line).output().unwrap();
    Output {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A gateway that serves what it was passed.
struct Serving(Child);

impl Serving {
    fn start(mut command: Command) -> Serving {
        Serving(command.args(["memory", "1M"]).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    fn stop(mut self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Unix socket that listens, and its folder.
fn unix_listener() -> (tempfile::TempDir, PathBuf, UnixListener) {
    let folder = Server::folder();
    let path = folder.path().join("activated");
    let listener = UnixListener::bind(&path).unwrap();
    (folder, path, listener)
}

#[test]
fn nbdinfo_and_nbdcopy_start_a_gateway_of_their_own() {
    requires!("nbdinfo", "nbdcopy");
    let program = Gateway::program().to_str().unwrap();
    let mut nbdinfo = Command::new(tool("nbdinfo").unwrap());
    nbdinfo.args(["--json", "--", "[", program, "memory", "1G", "]"]);
    let output = run(&mut nbdinfo);
    assert_eq!(output.stderr, "", "the output is that of the client");
    let json: Value = serde_json::from_str(&output.success()).unwrap();
    assert_eq!(json["exports"][0]["export-size"], 1 << 30);

    let data = Rng::new(7).bytes(5 << 20);
    let image = Image::with(Place::Memory, &data);
    let folder = Server::folder();
    let copy = folder.path().join("copy");
    let mut nbdcopy = Command::new(tool("nbdcopy").unwrap());
    nbdcopy.args(["--", "[", program, "io_uring", &image.property(), "]"]).arg(&copy);
    assert_eq!(run(&mut nbdcopy).success(), "");
    assert!(fs::read(&copy).unwrap() == data);

    let other = Image::sparse(Place::Memory, 5 << 20);
    let mut nbdcopy = Command::new(tool("nbdcopy").unwrap());
    nbdcopy.arg("--").arg(&copy).args(["[", program, "io_uring", &other.property(), "]"]);
    assert_eq!(run(&mut nbdcopy).success(), "");
    assert!(fs::read(other.path()).unwrap() == data);
}

#[test]
fn qemu_img_sees_a_server_that_was_passed_its_socket() {
    requires!("qemu-img");
    let (_folder, path, listener) = unix_listener();
    let mut command = passing(false, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=nbd");
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    let serving = Serving::start(command);
    let mut qemu_img = Command::new(tool("qemu-img").unwrap());
    qemu_img.args(["info", "--output=json"]).arg(format!("nbd+unix:///?socket={}", path.display()));
    let json: Value = serde_json::from_str(&run(&mut qemu_img).success()).unwrap();
    assert_eq!(json["virtual-size"], 1 << 20);
    serving.stop();
    assert!(path.exists(), "the socket is somebody else's");
}

#[test]
fn each_socket_that_was_passed_is_served() {
    let (_folder, path, unix) = unix_listener();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let mut command = passing(true, "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=local:web");
    command.stdin(Stdio::from(OwnedFd::from(unix))).stdout(Stdio::from(OwnedFd::from(tcp)));
    command.arg("-v").stderr(Stdio::piped());
    let mut serving = Serving::start(command);
    assert_eq!(Raw::open(&path, "").size_bytes, 1 << 20);
    let mut greeting = [0; 18];
    TcpStream::connect(("127.0.0.1", port)).unwrap().read_exact(&mut greeting).unwrap();
    let mut said = serving.0.stderr.take().unwrap();
    serving.stop();
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    for words in [
        format!("nbd+unix:///?socket={}", path.display()),
        format!("nbd://127.0.0.1:{port}"),
        "(descriptor 3, local)".into(),
        "(descriptor 4, web)".into(),
    ] {
        assert!(text.contains(&words), "{words} is missing in: {text}");
    }
}

#[test]
fn a_connection_that_was_passed_is_the_only_client() {
    let (client, server) = UnixStream::pair().unwrap();
    let mut command = passing(false, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=connection");
    command.stdin(Stdio::from(OwnedFd::from(server)));
    let mut serving = Serving::start(command);
    let mut raw = Raw::over(client, "");
    assert_eq!(raw.write(0, 0, &[7; 512]), 0);
    assert_eq!(raw.read(0, 512).unwrap(), [7; 512]);
    drop(raw);
    assert_eq!(serving.0.wait().unwrap().code(), Some(0), "it ends with its client");
}

#[test]
fn a_daemon_takes_the_sockets_along() {
    let (folder, path, listener) = unix_listener();
    let pidfile = folder.path().join("pid");
    // The variables name the process of the command, which is another one.
    let line = ["--daemon", "-P", pidfile.to_str().unwrap(), "memory", "1M"];
    let output = passed_to(listener, "LISTEN_PID=$$ LISTEN_FDS=1", &line);
    assert_eq!(output.success(), "");
    assert_eq!(Raw::open(&path, "").size_bytes, 1 << 20);
    let pid = Pid::from_raw(fs::read_to_string(&pidfile).unwrap().trim_end().parse().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    wait_until("the daemon ends", || !pidfile.exists());
    assert!(path.exists());
}

#[test]
fn what_cannot_be_served_is_refused_by_number_and_name() {
    let folder = Server::folder();
    let file = File::create(folder.path().join("file")).unwrap();
    let (bound, _path, listener) = unix_listener();
    let refused = |socket: OwnedFd, variables: &str, words: &[&str]| {
        let output = passed_to(socket, variables, &["memory", "1M"]);
        assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "{word:?} is missing in: {}", output.stderr);
        }
    };
    let one = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=odd";
    refused(file.into(), one, &["descriptor 3 (odd)", "no socket", "ListenStream="]);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    refused(datagrams.into(), one, &["descriptor 3 (odd)", "no stream socket"]);
    let two = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b";
    refused(listener.try_clone().unwrap().into(), two, &["descriptor 4 (b)", "not open"]);
    let names = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b";
    refused(listener.try_clone().unwrap().into(), names, &["LISTEN_FDNAMES", "2 names for 1"]);
    refused(listener.into(), "LISTEN_PID=$$ LISTEN_FDS=some", &["LISTEN_FDS", "'some'"]);
    drop(bound);
}

#[test]
fn options_that_say_where_clients_are_contradict_activation() {
    let (_folder, _path, listener) = unix_listener();
    for option in ["-p1", "-i::1", "-Us", "--vsock", "-s"] {
        let line = [option, "memory", "1M"];
        let output = passed_to(listener.try_clone().unwrap(), "LISTEN_PID=$$ LISTEN_FDS=1", &line);
        assert_eq!(output.status.code(), Some(2), "{option}: {}", output.stderr);
        assert!(output.stderr.contains("activation"), "{option}: {}", output.stderr);
    }
}

#[test]
fn variables_for_another_process_are_ignored() {
    let (_folder, _path, listener) = unix_listener();
    let line = ["memory", "1M", "--run", "echo \"$unixsocket\""];
    let output = passed_to(listener, "LISTEN_PID=1 LISTEN_FDS=1", &line);
    assert!(output.success().trim().ends_with("/socket"), "it made a private one");
}

#[test]
fn a_captive_command_gets_neither_variables_nor_descriptors() {
    let (_folder, path, listener) = unix_listener();
    let script = r#"
env | grep -c -e ^LISTEN_ -e ^NOTIFY_SOCKET
test -e /proc/$$/fd/3 || echo closed
echo "$unixsocket""#;
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=x NOTIFY_SOCKET=/nowhere";
    let said = passed_to(listener, variables, &["memory", "1M", "--run", script]).success();
    assert_eq!(said, format!("0\nclosed\n{}\n", path.display()));
}
