//! The driver `virtio-blk-vhost-user` with our own back-end as another process, sound and misbehaving.

use std::process::Command;

use tests::{BackEnd, Gateway, Image, Place, Rng};

use crate::raw::{FLUSH, Raw, WRITE};
use crate::vhost_user::conforms;

fn gateway(back_end: &BackEnd, properties: &[&str]) -> Gateway {
    Gateway::start(&[&["virtio-blk-vhost-user", &back_end.property()], properties].concat())
}

#[test]
fn a_file_behind_our_back_end_passes_the_suite() {
    let image = Image::sparse(Place::Memory, 64 << 20);
    let path = image.path().to_str().unwrap();
    let back_end = BackEnd::start(&["--file", path, "--queues", "2"]);
    let gateway = gateway(&back_end, &[]);
    conforms(&gateway);
    gateway.stop();
}

#[test]
fn one_connection_after_the_other_finds_the_same_data() {
    let back_end = BackEnd::start(&["--memory", "16M"]);
    let data = Rng::new(7).bytes(1 << 20);
    let first = gateway(&back_end, &[]);
    let mut client = Raw::open(first.socket(), "");
    assert_eq!(client.write(0, 4096, &data), 0);
    first.stop();
    let second = gateway(&back_end, &[]);
    assert!(Raw::open(second.socket(), "").read(4096, 1 << 20) == Ok(data));
    second.stop();
}

#[test]
fn a_null_disk_answers_and_says_nothing_about_data() {
    let back_end = BackEnd::start(&["--null", "1G", "--queues", "2"]);
    let gateway = gateway(&back_end, &[]);
    let mut client = Raw::open(gateway.socket(), "");
    assert_eq!(client.size_bytes, 1 << 30);
    for round in 0..100 {
        assert_eq!(client.write(0, round * 12_345, &[1; 70_000]), 0);
        assert!(client.read(round * 54_321, 70_000).is_ok());
    }
    assert_eq!(client.ask(FLUSH, 0, 0, 0), 0);
    gateway.stop();
}

#[test]
fn a_back_end_that_never_calls_is_looked_at_all_the_same() {
    let back_end = BackEnd::start(&["--memory", "16M", "--fault", "no-calls"]);
    let gateway = gateway(&back_end, &[]);
    let mut client = Raw::open(gateway.socket(), "");
    (0..8).for_each(|cookie| client.send(WRITE, 0, cookie, cookie << 20, &[1; 4096]));
    client.all_succeed(8);
    assert!(client.read(1 << 20, 4096) == Ok(vec![1; 4096]));
    gateway.stop();
}

#[test]
fn a_back_end_that_never_calls_serves_polled_queues() {
    let back_end = BackEnd::start(&["--memory", "16M", "--queues", "2", "--fault", "no-calls"]);
    let gateway = gateway(&back_end, &["num-poll-queues=2"]);
    let mut client = Raw::open(gateway.socket(), "");
    let data = Rng::new(8).bytes(1 << 20);
    assert_eq!(client.write(0, 999, &data), 0);
    assert!(client.read(999, 1 << 20) == Ok(data));
    gateway.stop();
}

#[test]
fn the_program_teaches_its_use() {
    let said = tests::run(Command::new(BackEnd::program()).arg("--help")).success();
    for word in ["--socket", "--null", "dies-after=N", "write-zeroes", "virtio-blk-vhost-user path="] {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }
    for (arguments, hint) in [
        (&["--socket", "s", "--memory", "1M", "--fault", "sleeps"][..], "stalls-after"),
        (&["--socket", "s", "--memory", "1000"], "multiple of 512"),
        (&["--socket", "s"], "--memory"),
    ] {
        let output = Command::new(BackEnd::program()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(hint), "{arguments:?}: {said}");
    }
}
