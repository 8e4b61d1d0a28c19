//! Back-ends of `virtio-blk-vhost-user` that die and come back, or do not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tests::{BackEnd, Gateway, Image, Place, Rng, Server, requires, tool, wait_until};

use crate::raw::{EIO, FLUSH, FUA, READ, Raw, WRITE};

const MIB: usize = 1 << 20;

/// A place where one back-end after the other listens.
pub(crate) struct Spot {
    folder: TempDir,
    options: &'static str,
}

impl Spot {
    pub(crate) fn new(options: &'static str) -> Spot {
        Spot { folder: Server::folder(), options }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("vhost")
    }

    /// Starts a back-end over a raw image, and waits until it listens.
    pub(crate) fn start(&self, image: &Path) -> Server {
        let folder = Server::folder();
        let mut command = Command::new(tool("qemu-storage-daemon").expect("the test asked for it before"));
        let file = format!("driver=file,node-name=file,filename={},discard=unmap", image.display());
        let socket = self.socket();
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path={}{}",
            socket.display(),
            self.options
        );
        // The back-end serves one connection at a time, so looking whether it listens must be done elsewhere.
        let ready = folder.path().join("ready");
        let nbd = format!("addr.type=unix,addr.path={}", ready.display());
        let node = "driver=raw,node-name=disk,file=file,discard=unmap";
        command.args(["--blockdev", &file, "--blockdev", node, "--export", &export, "--nbd-server", &nbd]);
        Server::start_unix(command, folder, &ready)
    }

    fn gateway(&self, properties: &[&str]) -> Gateway {
        let path = format!("path={}", self.socket().display());
        Gateway::start(&[&["virtio-blk-vhost-user", &path], properties].concat())
    }
}

fn end(mut backend: Server) {
    backend.signal(Signal::SIGKILL);
    let _ = backend.wait();
}

/// How often the log says this.
fn count(gateway: &Gateway, words: &str) -> usize {
    gateway.stderr().matches(words).count()
}

#[test]
fn fio_notices_nothing_of_ten_back_ends_that_are_killed_under_it() {
    requires!("qemu-storage-daemon", "fio");
    let image = Image::sparse(Place::Memory, 64 << 20);
    let spot = Spot::new(",num-queues=2");
    let mut backend = spot.start(image.path());
    let gateway = spot.gateway(&["reconnect=forever"]);
    let mut command = Command::new(tool("fio").unwrap());
    let uri = format!("--uri={}", gateway.uri());
    command.args(["--name=verify", "--ioengine=nbd", &uri, "--size=64M", "--iodepth=64", "--verify=crc32c"]);
    command.args(["--verify_fatal=1", "--verify_state_save=0", "--randseed=1", "--rw=randwrite"]);
    command.args([
        "--bsrange=4k-64k",
        "--blockalign=4k",
        "--fsync=64",
        "--verify_backlog=200",
        "--loops=1000",
    ]);
    command.args(["--time_based", "--runtime=12"]);
    let fio = thread::spawn(move || tests::run(&mut command));
    for round in 1..=10 {
        thread::sleep(Duration::from_millis(600));
        assert!(!fio.is_finished(), "fio ended before round {round}");
        end(backend);
        wait_until("the end of the back-end is noticed", || count(&gateway, "is gone") == round);
        backend = spot.start(image.path());
        wait_until("the back-end is taken up", || count(&gateway, "the device is back") == round);
    }
    let output = fio.join().unwrap();
    let good = output.status.success() && output.stdout.contains("err= 0");
    assert!(good, "{}{}", output.stdout, output.stderr);
    gateway.stop();
}

#[test]
fn requests_wait_for_a_back_end_that_comes_back() {
    requires!("qemu-storage-daemon");
    let bytes = Rng::new(7).bytes(16 << 20);
    let image = Image::with(Place::Memory, &bytes);
    let spot = Spot::new("");
    let mut backend = spot.start(image.path());
    let gateway = spot.gateway(&["reconnect=forever", "--memory", "4M"]);
    let mut clients: Vec<Raw> = (0..4).map(|_| Raw::open(gateway.socket(), "")).collect();
    // Stopped first, so that all of it is in flight when it dies.
    backend.signal(Signal::SIGSTOP);
    for (index, client) in clients.iter_mut().enumerate() {
        (0..6).for_each(|cookie| client.request(READ, cookie, cookie << 20, 1 << 20));
        client.send(WRITE, 0, 6, (12 << 20) + 100 + 1000 * index as u64, &[index as u8; 300]);
        client.send(WRITE, FUA, 7, (13 << 20) + 8192 * index as u64, &[index as u8; 8192]);
        client.request(FLUSH, 8, 0, 0);
    }
    end(backend);
    wait_until("the end of the back-end is noticed", || count(&gateway, "is gone") == 1);
    let mut late = Raw::open(gateway.socket(), "");
    late.request(READ, 77, 5000, 3000);
    let _backend = spot.start(image.path());
    for client in &mut clients {
        let mut cookies = Vec::new();
        for _ in 0..9 {
            let reply = client.reply().expect("every request is answered");
            assert_eq!(reply.error, 0, "request {}", reply.cookie);
            if reply.cookie < 6 {
                let mut data = vec![0; MIB];
                std::io::Read::read_exact(&mut client.stream, &mut data).unwrap();
                let at = reply.cookie as usize * MIB;
                assert!(data == bytes[at..at + MIB], "the data of request {}", reply.cookie);
            }
            cookies.push(reply.cookie);
        }
        cookies.sort_unstable();
        assert!(cookies.into_iter().eq(0..9));
    }
    assert_eq!(late.reply().map(|reply| (reply.cookie, reply.error)), Some((77, 0)));
    let mut reader = Raw::open(gateway.socket(), "");
    for index in 0..4_u8 {
        let at = |base: u64, step: u64| base + step * u64::from(index);
        assert!(reader.read(at((12 << 20) + 100, 1000), 300) == Ok(vec![index; 300]));
        assert!(reader.read(at(13 << 20, 8192), 8192) == Ok(vec![index; 8192]));
    }
    drop(clients);
    gateway.stop();
}

#[test]
fn a_back_end_that_stays_away_fails_requests_until_a_client_comes_to_a_new_one() {
    requires!("qemu-storage-daemon");
    let image = Image::with(Place::Memory, &Rng::new(1).bytes(16 << 20));
    let spot = Spot::new(",num-queues=2");
    let backend = spot.start(image.path());
    let gateway = spot.gateway(&["reconnect=1"]);
    let mut client = Raw::open(gateway.socket(), "");
    assert!(client.read(0, MIB).is_ok());
    end(backend);
    let start = Instant::now();
    assert_eq!(client.read(0, 4096), Err(EIO));
    assert!(start.elapsed() > Duration::from_millis(500), "it was waited for");
    wait_until("it is given up", || count(&gateway, "has not come back") >= 1);
    for _ in 0..100 {
        assert_eq!(client.write(0, 0, &[1; 4096]), EIO);
        assert_eq!(client.read(0, MIB), Err(EIO));
        assert_eq!(client.ask(FLUSH, 0, 0, 0), EIO);
    }
    // Nobody is there: it is looked for, and given up again.
    let mut early = Raw::open(gateway.socket(), "");
    assert_eq!(early.read(0, MIB), Err(EIO));
    let _backend = spot.start(image.path());
    let mut late = Raw::open(gateway.socket(), "");
    assert!(late.read(0, MIB).is_ok());
    assert_eq!(client.write(0, 0, &[1; 4096]), 0, "the others are served again, too");
    assert!(early.read(0, 4096) == Ok(vec![1; 4096]));
    gateway.stop();
}

#[test]
fn another_disk_is_not_taken_for_the_one_that_is_gone() {
    requires!("qemu-storage-daemon");
    let image = Image::with(Place::Memory, &Rng::new(2).bytes(16 << 20));
    let small = Image::sparse(Place::Memory, 8 << 20);
    let spot = Spot::new("");
    let backend = spot.start(image.path());
    let gateway = spot.gateway(&["reconnect=forever"]);
    let mut client = Raw::open(gateway.socket(), "");
    end(backend);
    wait_until("the end of the back-end is noticed", || count(&gateway, "is gone") == 1);
    client.request(READ, 5, 0, 4096);
    let wrong = spot.start(small.path());
    wait_until("it is told from the right one", || {
        count(&gateway, "another disk than before: it is smaller") == 1
    });
    end(wrong);
    let _backend = spot.start(image.path());
    assert_eq!(client.reply().map(|reply| reply.error), Some(0));
    drop(client);
    gateway.stop();
}

#[test]
fn a_disk_that_has_grown_is_shown_to_new_clients() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 16 << 20);
    let spot = Spot::new("");
    let backend = spot.start(image.path());
    let gateway = spot.gateway(&[]);
    let mut old = Raw::open(gateway.socket(), "");
    assert_eq!(old.size_bytes, 16 << 20);
    end(backend);
    std::fs::File::options().write(true).open(image.path()).unwrap().set_len(32 << 20).unwrap();
    let _backend = spot.start(image.path());
    assert!(old.read(0, 4096).is_ok());
    wait_until("the growth is noticed", || count(&gateway, "has 33554432 bytes now") == 1);
    let mut new = Raw::open(gateway.socket(), "");
    assert_eq!(new.size_bytes, 32 << 20);
    assert_eq!(new.write(0, 31 << 20, &[1; 4096]), 0);
    gateway.stop();
}

#[test]
fn writes_lost_with_a_cache_fail_one_flush_of_every_client() {
    requires!("qemu-storage-daemon");
    for (properties, loses) in [(&["reconnect-cache=lost"][..], true), (&[], false)] {
        let image = Image::sparse(Place::Memory, 16 << 20);
        let spot = Spot::new(",num-queues=2");
        let backend = spot.start(image.path());
        let gateway = spot.gateway(properties);
        let mut clients: Vec<Raw> = (0..3).map(|_| Raw::open(gateway.socket(), "")).collect();
        assert_eq!(clients[0].write(0, 0, &[1; 4096]), 0);
        assert_eq!(clients[1].ask(FLUSH, 0, 0, 0), 0);
        let swap = |backend: Server, round: usize| {
            end(backend);
            wait_until("the end of the back-end is noticed", || count(&gateway, "is gone") == round);
            let backend = spot.start(image.path());
            wait_until("the back-end is taken up", || count(&gateway, "the device is back") == round);
            backend
        };
        let backend = swap(backend, 1);
        for client in &mut clients {
            assert_eq!(client.ask(FLUSH, 0, 0, 0), 0, "all that was written had been flushed");
        }
        assert_eq!(clients[0].write(0, 0, &[2; 4096]), 0);
        let _backend = swap(backend, 2);
        let expected = if loses { EIO } else { 0 };
        assert_eq!(clients[0].ask(FLUSH, 0, 0, 0), expected);
        assert_eq!(clients[1].write(FUA, 8192, &[3; 4096]), expected, "a write with FUA is told as well");
        assert_eq!(clients[2].ask(FLUSH, 0, 0, 0), expected);
        let mut new = Raw::open(gateway.socket(), "");
        for client in clients.iter_mut().chain([&mut new]) {
            assert_eq!(client.ask(FLUSH, 0, 0, 0), 0, "it is told once, and to those whom it concerns");
        }
        assert_eq!(count(&gateway, "writes were lost"), usize::from(loses));
        gateway.stop();
    }
}

#[test]
fn a_server_that_waits_for_its_back_end_ends_when_it_is_told_to() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 16 << 20);
    let spot = Spot::new("");
    let backend = spot.start(image.path());
    let gateway = spot.gateway(&["reconnect=forever"]);
    let mut client = Raw::open(gateway.socket(), "");
    assert_eq!(client.write(FUA, 0, &[1; 4096]), 0);
    end(backend);
    wait_until("the end of the back-end is noticed", || count(&gateway, "is gone") == 1);
    client.request(READ, 5, 0, 4096);
    // One that cannot be is refused at once, so the one before has been taken when its answer is here.
    client.request(READ, 6, 1 << 40, 4096);
    assert_eq!(client.reply().map(|reply| reply.cookie), Some(6));
    // It ends in order: the request is answered, and nothing is lost.
    gateway.stop();
    assert_eq!(client.reply().map(|reply| (reply.cookie, reply.error)), Some((5, EIO)));
}

#[test]
fn a_server_whose_back_end_is_gone_ends_well_if_everything_is_flushed() {
    requires!("qemu-storage-daemon");
    for property in ["reconnect=0", "reconnect=forever"] {
        let image = Image::sparse(Place::Memory, 16 << 20);
        let spot = Spot::new("");
        let backend = spot.start(image.path());
        let gateway = spot.gateway(&[property]);
        let mut client = Raw::open(gateway.socket(), "");
        assert_eq!(client.write(0, 0, &[1; 4096]), 0);
        assert_eq!(client.ask(FLUSH, 0, 0, 0), 0);
        drop(client);
        end(backend);
        wait_until("the end of the back-end is noticed", || count(&gateway, "is gone") >= 1);
        gateway.stop();
    }
}

#[test]
fn a_server_whose_back_end_is_gone_says_what_was_not_flushed() {
    requires!("qemu-storage-daemon");
    let image = Image::sparse(Place::Memory, 16 << 20);
    let spot = Spot::new("");
    let backend = spot.start(image.path());
    let mut gateway = spot.gateway(&["reconnect=0"]);
    let mut client = Raw::open(gateway.socket(), "");
    assert_eq!(client.write(0, 0, &[1; 4096]), 0);
    drop(client);
    end(backend);
    wait_until("the end of the back-end is noticed", || count(&gateway, "is gone") >= 1);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait().code(), Some(1));
    assert_eq!(count(&gateway, "the last flush failed"), 1);
}

/// Our own back-end on a socket of our choosing.
fn own_back_end(socket: &Path, file: &Path, more: &[&str]) -> Server {
    let mut command = Command::new(BackEnd::program());
    command.arg("--socket").arg(socket).arg("--file").arg(file).args(more);
    Server::start_unix(command, Server::folder(), socket)
}

#[test]
fn pieces_of_blocks_are_written_again_after_a_back_end_that_lied() {
    let image = Image::sparse(Place::Memory, 16 << 20);
    let spot = Spot::new("");
    let blocks = ["--features", "indirect-desc,event-idx,flush,blk-size", "--block-size", "4096"];
    let liar = own_back_end(&spot.socket(), image.path(), &[&blocks[..], &["--fault", "wrong-id"]].concat());
    let gateway = spot.gateway(&[]);
    let mut client = Raw::open(gateway.socket(), "");
    for _ in 0..3 {
        assert_eq!(client.write(0, 100, &[1; 300]), EIO);
    }
    end(liar);
    wait_until("the end of the back-end is noticed", || count(&gateway, "is gone") == 1);
    let _backend = own_back_end(&spot.socket(), image.path(), &blocks);
    wait_until("the back-end is taken up", || count(&gateway, "the device is back") == 1);
    for round in 0..20_u64 {
        assert_eq!(client.write(0, round * 5000 + 100, &[round as u8; 300]), 0, "round {round}");
        assert!(client.read(round * 5000 + 100, 300) == Ok(vec![round as u8; 300]));
    }
    gateway.stop();
}
