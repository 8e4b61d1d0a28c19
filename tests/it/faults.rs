//! Disks that fail while they are served: each client learns what concerns it, and the server goes on.

use std::fs::File;
use std::io::{Read as _, Write as _};

use tests::binary::gateway_with;
use tests::{Gateway, Image, Place};

use crate::raw::{EIO, ENOSPC, FLUSH, FUA, READ, Raw, TRIM, WRITE};

const MIB: usize = 1 << 20;

/// A gateway that has the driver `faulty`.
fn with_faults(words: &[&str]) -> Gateway {
    let binary = gateway_with("planted").expect("a gateway with the driver 'faulty' can be built");
    Gateway::builder().binary(&binary).start(&[&["faulty"], words].concat())
}

/// How often the server has said something.
fn count(gateway: &Gateway, text: &str) -> usize {
    gateway.stderr().matches(text).count()
}

#[test]
fn a_flush_that_failed_is_told_once_to_every_client_that_was_there() {
    let image = Image::sparse(Place::Memory, 16 << 20);
    for direct in ["direct=false", "direct=true"] {
        for at_once in ["at-once=true", "at-once=false"] {
            let inner = format!("inner=io_uring {} {direct}", image.property());
            let gateway = with_faults(&[&inner, "fail-flush=1", at_once]);
            let open = || Raw::open(gateway.socket(), "");
            let (mut first, mut second, mut third) = (open(), open(), open());
            for (client, offset) in [(&mut first, 0), (&mut second, 4096), (&mut third, 8192)] {
                assert_eq!(client.write(0, offset, &[7; 512]), 0, "what the cache takes is no error");
            }
            assert_eq!(first.ask(FLUSH, 0, 0, 0), EIO, "the flush that failed");
            let mut late = open();
            assert_eq!(second.ask(FLUSH, 0, 0, 0), EIO, "its data may be lost as well");
            assert_eq!(third.write(FUA, 0, &[8; 512]), EIO, "so may that of a write with FUA");
            assert_eq!(late.ask(FLUSH, 0, 0, 0), 0, "who came later has nothing to lose");
            for client in [&mut first, &mut second, &mut third, &mut late] {
                assert_eq!(client.ask(FLUSH, 0, 0, 0), 0, "{direct} {at_once}: nobody is told twice");
            }
            gateway.stop();
        }
    }
}

#[test]
fn a_bad_place_fails_requests_that_touch_it_and_no_others() {
    for at_once in ["at-once=true", "at-once=false"] {
        let gateway = with_faults(&["inner=memory 16M", "fail-offset=1M", at_once]);
        let mut client = Raw::open(gateway.socket(), "");
        let bad = MIB as u64;
        for (offset, len, error) in
            [(0, MIB, 0), (bad - 1, 1, 0), (bad - 1, 2, EIO), (bad, 1, EIO), (bad + 1, 99, 0)]
        {
            assert_eq!(client.read(offset, len).err().unwrap_or(0), error, "{len} bytes at {offset}");
            assert_eq!(client.write(0, offset, &vec![1; len]), error, "{len} bytes to {offset}");
        }
        // Many parts, one of them bad.
        assert_eq!(client.write(0, 0, &vec![2; 4 * MIB]), EIO);
        gateway.stop();
    }
}

#[test]
fn a_disk_that_says_it_is_full_is_told_as_full() {
    let gateway = with_faults(&["inner=memory 16M", "full-after=1M"]);
    let mut client = Raw::open(gateway.socket(), "");
    assert_eq!(client.write(0, 0, &vec![1; MIB]), 0);
    assert_eq!(client.write(0, MIB as u64, &[1; 512]), ENOSPC);
    assert_eq!(client.read(0, MIB), Ok(vec![1; MIB]));
    gateway.stop();
}

/// Starts a gateway on an image of 8 MiB in a file system of 2 MiB, which goes with it.
fn on_a_small_file_system(direct: &str) -> Gateway {
    let builder = Gateway::builder();
    let folder = builder.path("small");
    std::fs::create_dir(&folder).expect("the folder is ours");
    let image = folder.join("image");
    let script = format!(
        "mount -t tmpfs -o size=2m small {} && truncate -s 8M {} && exec \"$@\"",
        folder.display(),
        image.display()
    );
    let unshare: &[&str] = if nix::unistd::geteuid().is_root() {
        &["unshare", "--mount"]
    } else {
        &["unshare", "--map-root-user", "--mount"]
    };
    let wrapper = [unshare, &["sh", "-c", &script, "sh"]].concat();
    builder.wrapped_in(&wrapper).start(&["io_uring", &format!("path={}", image.display()), direct])
}

#[test]
fn a_full_file_system_is_told_as_full_until_there_is_space() {
    for direct in ["direct=false", "direct=true"] {
        let gateway = on_a_small_file_system(direct);
        let mut client = Raw::open(gateway.socket(), "");
        let mut full = 0;
        for index in 0..8 {
            match client.write(0, index * MIB as u64, &vec![index as u8 + 1; MIB]) {
                0 => assert_eq!(full, 0, "{direct}: a write went through although the file system was full"),
                error => {
                    assert_eq!(error, ENOSPC, "{direct}: MiB {index}");
                    full += 1;
                }
            }
        }
        assert!(full >= 6, "{direct}: only {full} of 8 MiB did not fit into 2");
        assert_eq!(client.read(0, MIB), Ok(vec![1; MIB]), "what was acknowledged is there");
        let mut other = Raw::open(gateway.socket(), "");
        assert_eq!(other.ask(TRIM, 0, 0, 8 * MIB as u32), 0);
        assert_eq!(other.write(0, 7 * MIB as u64, &vec![9; MIB]), 0, "{direct}: there is space again");
        assert_eq!(client.read(7 * MIB as u64, MIB), Ok(vec![9; MIB]));
        gateway.stop();
    }
}

#[test]
fn a_file_that_shrank_fails_beyond_its_end_and_is_told_once() {
    for direct in ["direct=false", "direct=true"] {
        let image = Image::with(Place::Memory, &vec![5; 8 * MIB]);
        let gateway = Gateway::start(&["io_uring", &image.property(), direct]);
        let mut client = Raw::open(gateway.socket(), "");
        let mut other = Raw::open(gateway.socket(), "");
        assert_eq!(client.read(4 * MIB as u64, MIB), Ok(vec![5; MIB]));
        File::options().write(true).open(image.path()).unwrap().set_len(4 * MIB as u64).unwrap();
        for client in [&mut client, &mut other] {
            assert_eq!(client.read(4 * MIB as u64, 4096), Err(EIO), "{direct}");
            assert_eq!(client.read(7 * MIB as u64, MIB), Err(EIO), "{direct}");
            assert_eq!(client.read(4 * MIB as u64 - 4096, 8192), Err(EIO), "{direct}: across the end");
            assert_eq!(client.read(4 * MIB as u64 - 4096, 4096), Ok(vec![5; 4096]), "{direct}");
        }
        assert_eq!(count(&gateway, "has become shorter"), 1, "{direct}: {}", gateway.stderr());
        gateway.stop();
    }
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_write_leaves_the_others_alone() {
    let image = Image::sparse(Place::Memory, 8 * MIB as u64);
    let gateway = Gateway::start(&["io_uring", &image.property(), "direct=true"]);
    let mut other = Raw::open(gateway.socket(), "");
    for round in 0..50 {
        let mut client = Raw::open(gateway.socket(), "");
        client.request(WRITE, 1, 0, MIB as u32);
        client.stream.write_all(&vec![1; 1000 * (round + 1)]).expect("the server receives");
        client.request(READ, 2, 0, 512);
        drop(client);
        assert_eq!(other.write(0, 4 * MIB as u64, &[round as u8; 4096]), 0);
        assert_eq!(other.read(4 * MIB as u64, 4096), Ok(vec![round as u8; 4096]));
    }
    gateway.stop();
}

#[test]
fn replies_of_a_disk_that_is_slow_come_when_they_are_ready() {
    let gateway = with_faults(&["inner=memory 16M", "delay-ms=20", "at-once=false"]);
    let mut client = Raw::open(gateway.socket(), "");
    for cookie in 0..64 {
        client.request(READ, cookie, cookie * 4096, 4096);
    }
    let mut seen = [false; 64];
    for _ in 0..64 {
        let reply = client.reply().expect("a reply");
        assert_eq!(reply.error, 0);
        assert!(!std::mem::replace(&mut seen[reply.cookie as usize], true), "a reply came twice");
        client.stream.read_exact(&mut [0; 4096]).expect("the data follows");
    }
    gateway.stop();
}
