//! The driver `virtio-blk-vhost-user` with qemu-storage-daemon as back-end.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tests::conformance::{Level, Selection, Target, run};
use tests::{Gateway, Image, Place, Rng, Server, requires, tool, wait_until};

use crate::raw::{EIO, FLUSH, READ, Raw, WRITE, WRITE_ZEROES};

const MIB: usize = 1 << 20;

/// A back-end over an image.
struct Daemon {
    process: Server,
}

impl Daemon {
    /// Serves an image of this format with so many queues.
    fn start(image: &Path, format: &str, options: &str) -> Daemon {
        let folder = Server::folder();
        let socket = folder.path().join("vhost");
        let mut command = Command::new(tool("qemu-storage-daemon").expect("the test asked for it before"));
        let file = format!("driver=file,node-name=file,filename={},discard=unmap", image.display());
        let node = format!("driver={format},node-name=disk,file=file,discard=unmap");
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={}{options}",
            socket.display()
        );
        // The back-end serves one connection at a time, so looking whether it listens must be done elsewhere.
        let ready = folder.path().join("ready");
        let nbd = format!("addr.type=unix,addr.path={}", ready.display());
        command.args(["--blockdev", &file, "--blockdev", &node, "--export", &export, "--nbd-server", &nbd]);
        Daemon { process: Server::start_unix(command, folder, &ready) }
    }

    fn property(&self) -> String {
        format!("path={}", self.process.path("vhost").display())
    }

    fn gateway(&self, properties: &[&str]) -> Gateway {
        let property = self.property();
        Gateway::start(&[&["virtio-blk-vhost-user", &property], properties].concat())
    }
}

fn qcow2(len_bytes: u64) -> Image {
    let image = Image::sparse(Place::Disk, 0);
    let mut command = Command::new(tool("qemu-img").expect("the test asked for it before"));
    let _ = tests::run(
        command.args(["create", "-q", "-f", "qcow2"]).arg(image.path()).arg(len_bytes.to_string()),
    )
    .success();
    image
}

#[track_caller]
pub(crate) fn conforms(gateway: &Gateway) {
    let target = Target::probe(&gateway.uri()).unwrap();
    let except = vec!["zeroes/no-hole-allocates".to_owned()];
    let report = run(&target, &Selection { level: Level::Should, except, ..Selection::default() }, |_| {});
    assert!(report.failures().next().is_none() && !report.server_is_gone, "{report}");
    assert!(report.passed() > 150, "suspiciously little was checked: {report}");
}

#[test]
fn a_raw_disk_passes_the_suite() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 128 << 20);
    let daemon = Daemon::start(image.path(), "raw", ",writable=on,num-queues=2");
    let gateway = daemon.gateway(&[]);
    conforms(&gateway);
    gateway.stop();
}

#[test]
fn a_qcow2_disk_with_one_queue_passes_the_suite() {
    requires!("qemu-storage-daemon", "qemu-img");
    let image = qcow2(128 << 20);
    let daemon = Daemon::start(image.path(), "qcow2", ",writable=on");
    let gateway = daemon.gateway(&[]);
    conforms(&gateway);
    gateway.stop();
}

#[test]
fn blocks_of_4096_pass_the_suite() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 64 << 20);
    let daemon = Daemon::start(image.path(), "raw", ",writable=on,logical-block-size=4096,num-queues=2");
    let gateway = daemon.gateway(&["num-poll-queues=1"]);
    conforms(&gateway);
    gateway.stop();
}

#[test]
fn eight_clients_share_one_queue() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 16 << 20);
    let daemon = Daemon::start(image.path(), "raw", ",writable=on");
    let gateway = daemon.gateway(&[]);
    let mut clients: Vec<Raw> = (0..8).map(|_| Raw::open(gateway.socket(), "")).collect();
    for round in 0..20_u8 {
        for index in 0..8 {
            let data = vec![round ^ (index as u8) << 4; 70_000];
            assert_eq!(clients[index].write(0, (index * MIB) as u64 + 999, &data), 0);
            let other = &mut clients[(index + 3) % 8];
            assert!(other.read((index * MIB) as u64 + 999, 70_000) == Ok(data), "a write is seen by all");
        }
        assert_eq!(clients[usize::from(round) % 8].ask(FLUSH, 0, 0, 0), 0);
    }
    gateway.stop();
}

#[test]
fn a_read_only_back_end_is_found_out() {
    requires!("qemu-storage-daemon", "nbdsh", "qemu-img");
    let image = qcow2(32 << 20);
    let daemon = Daemon::start(image.path(), "qcow2", ",writable=off");
    let gateway = daemon.gateway(&[]);
    let script = "assert h.is_read_only()\nprint('%r' % h.pread(512, 0))";
    let mut command = Command::new(tool("nbdsh").unwrap());
    let said = tests::run(command.args(["-u", &gateway.uri(), "-c", script])).success();
    assert!(said.starts_with("bytearray(b'\\x00"), "{said}");
    gateway.stop();
}

#[test]
fn info_knows_the_disk() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 16 << 20);
    let daemon = Daemon::start(image.path(), "raw", ",writable=on,num-queues=3");
    let mut command = Command::new(Gateway::program());
    let said =
        tests::run(command.args(["info", "virtio-blk-vhost-user", &daemon.property(), "--workers", "2"]))
            .success();
    for line in
        ["capacity=16777216", "max-queues=3", "num-queues=2", "read-only=false", "supports-discard=true"]
    {
        assert!(said.lines().any(|found| found == line), "{line} is missing:\n{said}");
    }
    assert!(said.contains("\nserial="), "{said}");
}

#[test]
fn a_back_end_that_is_killed_fails_requests_and_nothing_else() {
    requires!("qemu-storage-daemon");
    let image = Image::with(Place::Memory, &Rng::new(1).bytes(16 << 20));
    let mut daemon = Daemon::start(image.path(), "raw", ",writable=on,num-queues=2");
    let gateway = daemon.gateway(&["reconnect=0"]);
    let mut client = Raw::open(gateway.socket(), "");
    assert!(client.read(0, MIB).is_ok());
    daemon.process.signal(Signal::SIGKILL);
    let _ = daemon.process.wait();
    wait_until("the end of the back-end is noticed", || gateway.stderr().contains("is gone"));
    assert_eq!(client.read(0, 4096), Err(EIO));
    assert_eq!(client.write(0, 0, &[1; 4096]), EIO);
    let mut late = Raw::open(gateway.socket(), "");
    assert_eq!(late.read(0, MIB), Err(EIO));
    gateway.stop();
}

#[test]
fn a_back_end_that_is_killed_with_everything_in_flight_keeps_nobody_waiting() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 64 << 20);
    let mut daemon = Daemon::start(image.path(), "raw", ",writable=on,logical-block-size=4096");
    let gateway = daemon.gateway(&["reconnect=0", "--memory", "4M"]);
    let mut clients: Vec<Raw> = (0..6).map(|_| Raw::open(gateway.socket(), "")).collect();
    daemon.process.signal(Signal::SIGSTOP);
    for client in &mut clients {
        // More than there is memory for, a piece of a block, and what needs none.
        (0..8).for_each(|cookie| client.request(READ, cookie, cookie << 20, 1 << 20));
        client.send(WRITE, 0, 8, 100, &[1; 300]);
        client.request(FLUSH, 9, 0, 0);
        client.request(WRITE_ZEROES, 10, 1 << 20, 3 << 20);
    }
    daemon.process.signal(Signal::SIGKILL);
    let _ = daemon.process.wait();
    for client in &mut clients {
        let mut cookies: Vec<u64> = (0..11)
            .map(|_| {
                let reply = client.reply().expect("every request is answered");
                assert_eq!(reply.error, EIO, "request {}", reply.cookie);
                reply.cookie
            })
            .collect();
        cookies.sort_unstable();
        assert!(cookies.into_iter().eq(0..11));
        assert_eq!(client.write(0, 5000, &[1; 100_000]), EIO);
        assert_eq!(client.read(0, MIB), Err(EIO));
    }
    gateway.stop();
}
