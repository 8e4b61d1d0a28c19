//! Servers that others start and watch: in the background, with a service manager, with a parent.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Gateway, Server, run, wait_until};

use crate::raw::Raw;

/// Ends a process that is nobody's child.
struct Background(Pid);

impl Background {
    fn of(pidfile: &Path) -> Background {
        let text = fs::read_to_string(pidfile).unwrap();
        Background(Pid::from_raw(text.trim_end().parse().unwrap()))
    }

    /// Somebody may have to wait for it.
    fn is_running(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    fn stop(&self) {
        kill(self.0, Signal::SIGTERM).unwrap();
        wait_until("the daemon ends", || !self.is_running());
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It has ended in the best case.
        let _: Result<(), Errno> = kill(self.0, Signal::SIGKILL);
    }
}

#[test]
fn a_daemon_is_ready_when_its_command_returns() {
    let folder = Server::folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("image"), vec![0; 1 << 20]).unwrap();
    let mut command = Command::new(Gateway::program());
    command.current_dir(folder.path());
    command.args(["--daemon", "-P", "pid", "-U", "sock", "--print-uri", "io_uring", "image", "get=capacity"]);
    // Returns when nobody has the standard streams any more.
    let output = run(&mut command);
    let said = output.stderr.clone();
    let printed = output.success();
    let daemon = Background::of(&path("pid"));
    assert_eq!(printed, format!("capacity=1048576\nnbd+unix:///?socket={}\n", path("sock").display()));
    assert!(said.contains("serving io_uring"), "{said}");

    let mut client = Raw::open(&path("sock"), "");
    assert_eq!(client.write(0, 0, &[5; 512]), 0);
    drop(client);
    let proc = |name: &str| format!("/proc/{}/{name}", daemon.0);
    assert_eq!(fs::read_link(proc("cwd")).unwrap(), Path::new("/"));
    for stream in 0..3 {
        assert_eq!(fs::read_link(proc(&format!("fd/{stream}"))).unwrap(), Path::new("/dev/null"));
    }
    // Process, parent, group and session (proc_pid_stat(5)).
    let stat = fs::read_to_string(proc("stat")).unwrap();
    let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned();
    assert_eq!(session, daemon.0.to_string(), "it has a session of its own");

    daemon.stop();
    assert!(!path("pid").exists() && !path("sock").exists());
    assert_eq!(fs::read(path("image")).unwrap()[..512], [5; 512]);
}

#[test]
fn a_daemon_that_cannot_start_fails_its_command() {
    let folder = Server::folder();
    for (words, code, expected) in [
        (&["io_uring", "missing"][..], 1, "missing"),
        (&["-P", "no/pid", "memory", "1M"], 1, "no/pid"),
        (&["memory", "lots"], 2, "lots"),
    ] {
        let mut command = Command::new(Gateway::program());
        command.current_dir(folder.path()).args(["--daemon", "-U", "sock"]).args(words);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(code), "{}", output.stderr);
        assert!(
            output.stderr.starts_with("gateway: ") && output.stderr.contains(expected),
            "{}",
            output.stderr
        );
        assert_eq!(output.stdout, "");
        assert!(!folder.path().join("sock").exists());
    }
}

/// Everything in the next message to a service manager.
fn message(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let got = manager.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..got].to_vec()).unwrap()
}

#[test]
fn a_service_manager_is_told_of_start_and_end() {
    let builder = Gateway::builder();
    let path = builder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut gateway = builder.env("NOTIFY_SOCKET", &path).start(&["memory", "1M"]);
    let text = message(&manager);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"READY=1"), "{text}");
    assert!(lines.contains(&&*format!("MAINPID={}", gateway.pid())), "{text}");
    let status = lines.iter().find_map(|line| line.strip_prefix("STATUS=")).unwrap();
    assert!(status.contains(&format!("nbd+unix:///?socket={}", gateway.socket().display())), "{status}");
    gateway.signal(Signal::SIGTERM);
    assert!(message(&manager).starts_with("STOPPING=1\n"));
    assert!(gateway.wait().success());
}

#[test]
fn a_service_manager_is_told_who_the_daemon_is() {
    let folder = Server::folder();
    let path = |name: &str| folder.path().join(name);
    let manager = UnixDatagram::bind(path("notify")).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut command = Command::new(Gateway::program());
    command.current_dir(folder.path()).env("NOTIFY_SOCKET", path("notify"));
    let line = ["--daemon", "-P", "pid", "-U", "sock", "memory", "1M"];
    assert_eq!(run(command.args(line)).success(), "");
    let daemon = Background::of(&path("pid"));
    assert!(message(&manager).contains(&format!("MAINPID={}\n", daemon.0)));
    daemon.stop();
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    let folder = Server::folder();
    let path = |name: &str| folder.path().join(name);
    let mut shell = Command::new("/bin/sh");
    shell.current_dir(folder.path()).arg("-c");
    shell.arg("\"$0\" --exit-with-parent -P pid -U sock memory 1M & wait").arg(Gateway::program());
    let mut shell = shell.spawn().unwrap();
    wait_until("the server serves", || path("pid").exists());
    let server = Background::of(&path("pid"));
    assert_eq!(Raw::open(&path("sock"), "").size_bytes, 1 << 20);
    shell.kill().unwrap();
    shell.wait().unwrap();
    wait_until("the server ends", || !server.is_running());
    assert!(!path("sock").exists() && !path("pid").exists(), "it ended in order");
}
