//! The driver `virtio-blk-vhost-user` with qemu-storage-daemon as back-end.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;
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
        Daemon::start_in(Server::folder(), image, format, options, &[])
    }

    fn start_in(folder: TempDir, image: &Path, format: &str, options: &str, more: &[&str]) -> Daemon {
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
        command.args(more);
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

/// How many bytes of payload the gateway copied by itself, as it says at its end.
fn copied_bytes(mut gateway: Gateway) -> u64 {
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.wait().success());
    let said = gateway.stderr();
    let number = said.split("payload bytes copied: ").nth(1).expect("it says so");
    number.lines().next().and_then(|number| number.trim().parse().ok()).expect("a number")
}

#[test]
fn payloads_of_64_kib_and_more_are_not_copied() {
    requires!("qemu-storage-daemon");
    for (len, copies) in
        [(64 << 10, false), (100_352, false), (1 << 20, false), (4 << 20, false), (4096, true)]
    {
        let image = Image::sparse(Place::Memory, 64 << 20);
        let daemon = Daemon::start(image.path(), "raw", ",writable=on");
        let gateway = Gateway::builder().env("GATEWAY_LOG", "debug").start(&[
            "virtio-blk-vhost-user",
            &daemon.property(),
            // So much that leases are never scarce: then the first bytes of a payload wait in the receive buffer.
            "--memory",
            "128M",
        ]);
        let mut client = Raw::open(gateway.socket(), "");
        let data = Rng::new(len as u64).bytes(len);
        // Several in flight, so that they lie one behind the other in the socket.
        for round in 0..4_u64 {
            (0..3).for_each(|cookie| client.send(WRITE, 0, cookie, (round * 3 + cookie) * (5 << 20), &data));
            client.all_succeed(3);
            assert!(client.read((round * 15) << 20, len).as_ref() == Ok(&data));
        }
        drop(client);
        let copied = copied_bytes(gateway);
        assert_eq!(copied > 0, copies, "{copied} bytes were copied of requests of {len} bytes");
    }
}

#[test]
fn a_connected_socket_is_taken_over() {
    requires!("qemu-storage-daemon");
    let image = Image::with(Place::Memory, &Rng::new(3).bytes(16 << 20));
    let daemon = Daemon::start(image.path(), "raw", ",writable=on");
    let socket = UnixStream::connect(daemon.process.path("vhost")).unwrap();
    // A duplicate that the gateway inherits.
    let inherited = nix::unistd::dup(&socket).unwrap();
    drop(socket);
    let fd = format!("fd={}", inherited.as_raw_fd());
    let gateway = Gateway::start(&["virtio-blk-vhost-user", &fd]);
    drop(inherited);
    let mut client = Raw::open(gateway.socket(), "");
    assert!(client.read(0, MIB).as_deref() == Ok(&Rng::new(3).bytes(16 << 20)[..MIB]));
    assert_eq!(client.write(0, 0, &[1; 4096]), 0);
    gateway.stop();
    let mut command = Command::new(Gateway::program());
    let said = tests::run(command.args(["virtio-blk-vhost-user", "fd=3", "reconnect=5"])).failure();
    assert!(said.contains("no place to connect to"), "{said}");
}

#[test]
fn a_busy_client_costs_no_more_memory_than_was_allowed() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 64 << 20);
    let daemon = Daemon::start(image.path(), "raw", ",writable=on");
    let gateway = daemon.gateway(&["--memory", "8M"]);
    let mut client = Raw::open(gateway.socket(), "");
    let data = vec![1; 4 << 20];
    for round in 0..8_u64 {
        (0..4).for_each(|cookie| {
            client.send(WRITE, 0, cookie, (round % 4 * 4 + cookie) << 20, &data[..1 << 20])
        });
        client.all_succeed(4);
        assert!(client.read(0, 4 << 20).is_ok());
    }
    let resident = tests::process::resident_bytes(gateway.pid());
    assert!(resident < 40 << 20, "{} MiB are resident", resident >> 20);
    gateway.stop();
}

#[test]
fn a_new_size_is_noticed_while_serving() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 16 << 20);
    let folder = Server::folder();
    let monitor = folder.path().join("monitor");
    let chardev = format!("socket,id=monitor,server=on,wait=off,path={}", monitor.display());
    let options = ["--chardev", &chardev, "--monitor", "chardev=monitor"];
    let daemon = Daemon::start_in(folder, image.path(), "raw", ",writable=on", &options);
    let gateway = daemon.gateway(&[]);
    let mut old = Raw::open(gateway.socket(), "");
    let mut monitor = UnixStream::connect(monitor).unwrap();
    monitor.write_all(br#"{"execute":"qmp_capabilities"}"#).unwrap();
    let mut resize = |bytes: u64| {
        let command =
            format!(r#"{{"execute":"block_resize","arguments":{{"node-name":"disk","size":{bytes}}}}}"#);
        monitor.write_all(command.as_bytes()).unwrap();
    };
    for mebibytes in [32_u64, 24] {
        let bytes = mebibytes << 20;
        resize(bytes);
        wait_until("the new size is noticed", || {
            gateway.stderr().contains(&format!("has {bytes} bytes now"))
        });
        let mut new = Raw::open(gateway.socket(), "");
        assert_eq!(new.size_bytes, bytes);
        assert_eq!(new.write(0, bytes - 4096, &[1; 4096]), 0);
        assert!(old.read(0, MIB).is_ok(), "who is connected goes on");
    }
    gateway.stop();
}

#[test]
fn polled_queues_are_never_called() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 16 << 20);
    let daemon = Daemon::start(image.path(), "raw", ",writable=on,num-queues=2");
    let gateway = daemon.gateway(&["num-poll-queues=2"]);
    let mut client = Raw::open(gateway.socket(), "");
    // More requests than an index has numbers: a call at any of them would end the daemon.
    for _ in 0..550 {
        (0..128).for_each(|cookie| client.send(WRITE, 0, cookie, cookie * 4096, &[1; 4096]));
        client.all_succeed(128);
    }
    gateway.stop();
}
