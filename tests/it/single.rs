//! `-s`: a server for one client, on standard input and output.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tests::{Gateway, Image, Place, Rng, requires, run, tool, wait_until};

use crate::raw::{READ, Raw, WRITE, header, hello};

/// Ends what a test that failed leaves behind.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway between two pipes: it, the way in and the way out.
fn between_pipes(words: &[&str]) -> (Guard, io::PipeWriter, io::PipeReader) {
    let (input, requests) = io::pipe().unwrap();
    let (replies, output) = io::pipe().unwrap();
    let mut command = Command::new(Gateway::program());
    command.arg("-s").args(words).stdin(Stdio::from(input)).stdout(Stdio::from(output));
    (Guard(command.spawn().unwrap()), requests, replies)
}

#[test]
fn nbdsh_starts_a_server_of_its_own() {
    requires!("nbdsh");
    let image = Image::sparse(Place::Memory, 1 << 20);
    let program = Gateway::program().display();
    let script = format!(
        r#"
h.connect_command(["{program}", "-s", "--exit-with-parent", "io_uring", "{}"])
assert h.get_size() == 1 << 20
h.pwrite(b"x" * 65536, 4096)
assert h.pread(65536, 4096) == b"x" * 65536
h.shutdown()
"#,
        image.property()
    );
    let mut command = Command::new(tool("nbdsh").unwrap());
    assert_eq!(run(command.args(["-c", &script])).success(), "");
    assert_eq!(fs::read(image.path()).unwrap()[4096..4096 + 65536], [b'x'; 65536]);
}

#[test]
fn one_socket_on_both_streams_is_a_client() {
    let (client, server) = UnixStream::pair().unwrap();
    let output = OwnedFd::from(server.try_clone().unwrap());
    let mut command = Command::new(Gateway::program());
    command
        .args(["-s", "memory", "1M"])
        .stdin(Stdio::from(OwnedFd::from(server)))
        .stdout(Stdio::from(output));
    let mut gateway = Guard(command.spawn().unwrap());
    drop(command);
    let mut raw = Raw::over(client, "");
    assert_eq!(raw.write(0, 4096, &[3; 4096]), 0);
    assert_eq!(raw.read(4096, 4096).unwrap(), [3; 4096]);
    // A disconnect with a request before it: the reply comes, then the end.
    raw.request(READ, 7, 0, 512);
    raw.stream.write_all(&header(2, 8, 0, 0)).unwrap();
    let mut rest = Vec::new();
    raw.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 16 + 512);
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_pair_of_pipes_is_a_client() {
    let data = Rng::new(11).bytes(3 << 20);
    let image = Image::sparse(Place::Memory, 4 << 20);
    let (mut gateway, mut requests, mut replies) = between_pipes(&["io_uring", &image.property()]);
    requests.write_all(&hello("")).unwrap();
    let mut opened = [0; 18 + 10];
    replies.read_exact(&mut opened).unwrap();
    assert_eq!(opened[18..26], (4_u64 << 20).to_be_bytes());
    let len = u32::try_from(data.len()).unwrap();
    // More than pipes hold, in both directions at the same time.
    let writer = {
        let data = data.clone();
        std::thread::spawn(move || {
            for cookie in 0..4 {
                requests.write_all(&header(WRITE, cookie, 1 << 20, len)).unwrap();
                requests.write_all(&data).unwrap();
                requests.write_all(&header(READ, cookie + 100, 1 << 20, len)).unwrap();
            }
            requests.write_all(&header(2, 9, 0, 0)).unwrap();
            requests
        })
    };
    let mut all = Vec::new();
    replies.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 4 * (16 + 16 + data.len()));
    let _requests = writer.join().unwrap();
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0));
    assert!(fs::read(image.path()).unwrap()[1 << 20..] == data);
}

#[test]
fn pipes_are_left_as_they_were() {
    let (input, mut requests) = io::pipe().unwrap();
    let (mut replies, output) = io::pipe().unwrap();
    let kept = [OwnedFd::from(input.try_clone().unwrap()), OwnedFd::from(output.try_clone().unwrap())];
    let mut command = Command::new(Gateway::program());
    command.args(["-s", "memory", "1M"]).stdin(Stdio::from(input)).stdout(Stdio::from(output));
    let mut gateway = Guard(command.spawn().unwrap());
    requests.write_all(&hello("")).unwrap();
    replies.read_exact(&mut [0; 28]).unwrap();
    // While it serves, so that even one that is killed leaves them so.
    for descriptor in kept {
        let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK), "{flags:?}");
    }
    drop(requests);
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0), "the end of the input is the end of the client");
}

#[test]
fn a_client_that_takes_nothing_more_is_gone() {
    let (mut gateway, mut requests, replies) = between_pipes(&["memory", "1M"]);
    drop(replies);
    // The greeting finds nobody. The way in stays open.
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0));
    assert!(requests.write_all(&hello("")).is_err());
}

#[test]
fn a_signal_ends_the_server_before_its_client() {
    let (mut gateway, mut requests, mut replies) = between_pipes(&["memory", "1M"]);
    requests.write_all(&hello("")).unwrap();
    replies.read_exact(&mut [0; 28]).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(gateway.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let mut rest = Vec::new();
    replies.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_signal_does_not_cut_short_what_the_end_of_the_client_has_begun() {
    let (mut gateway, mut requests, mut replies) = between_pipes(&["memory", "1M"]);
    requests.write_all(&[hello(""), header(READ, 1, 0, 1 << 20)].concat()).unwrap();
    replies.read_exact(&mut [0; 28]).unwrap();
    // The parent of a server ends right behind its client, and --exit-with-parent makes that a signal.
    drop(requests);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(gateway.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let mut rest = Vec::new();
    replies.read_to_end(&mut rest).unwrap();
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0));
}

#[test]
fn where_no_client_can_be_is_refused() {
    let file = tempfile::tempfile().unwrap();
    let nothing = || Stdio::from(File::open("/dev/null").unwrap());
    let cases = [(nothing(), Stdio::piped(), "input"), (Stdio::piped(), Stdio::from(file), "output")];
    for (input, output, which) in cases {
        let mut command = Command::new(Gateway::program());
        command.args(["-s", "memory", "1M"]).stdin(input).stdout(output).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("standard {which}")) && said.contains("connect_command"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_error_of_the_start_leaves_standard_output_alone() {
    let (mut gateway, _requests, mut replies) = between_pipes(&["io_uring", "/no/such/image"]);
    let mut said = Vec::new();
    replies.read_to_end(&mut said).unwrap();
    assert!(said.is_empty());
    wait_until("it has ended", || gateway.0.try_wait().unwrap().is_some());
    assert_eq!(gateway.0.wait().unwrap().code(), Some(1));
}
