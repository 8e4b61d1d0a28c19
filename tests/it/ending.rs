//! The end of a server, and clients that are slow or many.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::signal::Signal;
use tests::process::{descriptor_limit, open_descriptors};
use tests::{Gateway, Server, wait_until};

use crate::raw::{ESHUTDOWN, READ, Raw, Reply, WRITE, header, hello};

/// Reads until the other end closes.
fn is_closed(stream: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    // A reset is an end too.
    stream.read_to_end(&mut rest).map_or(true, |_| rest.is_empty())
}

#[test]
fn signals_end_the_server_with_success() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // These tests may run under nohup(1) themselves.
        let builder = Gateway::builder().wrapped_in(&["env", "--default-signal=HUP"]);
        let mut gateway = builder.start(&["memory", "1M"]);
        let mut idle = Raw::open(gateway.socket(), "");
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(0), "{signal}");
        assert!(!gateway.socket().exists());
        assert!(is_closed(&mut idle.stream));
    }
}

#[test]
fn nohup_protects_from_the_end_of_a_terminal() {
    let mut gateway = Gateway::builder().wrapped_in(&["nohup"]).start(&["memory", "1M"]);
    gateway.signal(Signal::SIGHUP);
    assert_eq!(Raw::open(gateway.socket(), "").size_bytes, 1 << 20);
    assert!(gateway.is_running());
    gateway.stop();
}

#[test]
fn a_request_that_has_begun_is_answered_and_later_ones_are_refused() {
    let mut gateway = Gateway::builder().workers(1).start(&["memory", "1M"]);
    let mut idle = Raw::open(gateway.socket(), "");
    let mut busy = Raw::open(gateway.socket(), "");
    busy.request(WRITE, 1, 0, 128 << 10);
    busy.stream.write_all(&[1; 64 << 10]).unwrap();
    // An answer to a later client shows that the payload's beginning has been received.
    drop(Raw::open(gateway.socket(), ""));
    gateway.signal(Signal::SIGTERM);
    assert!(is_closed(&mut idle.stream), "a client without requests is sent away at once");
    assert!(gateway.is_running());
    busy.stream.write_all(&[1; 64 << 10]).unwrap();
    busy.request(READ, 2, 0, 512);
    busy.request(WRITE, 3, 0, 512);
    busy.stream.write_all(&[2; 512]).unwrap();
    assert_eq!(busy.reply(), Some(Reply { error: 0, cookie: 1 }));
    assert_eq!(busy.reply(), Some(Reply { error: ESHUTDOWN, cookie: 2 }));
    // The server may close before the last request arrives, but not fail it otherwise.
    let last = busy.reply();
    assert!(last.is_none() || last == Some(Reply { error: ESHUTDOWN, cookie: 3 }), "{last:?}");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn what_was_written_is_in_the_file_after_the_end() {
    let builder = Gateway::builder();
    let image = builder.path("image");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let mut gateway = builder.start(&["io_uring", image.to_str().unwrap()]);
    let mut client = Raw::open(gateway.socket(), "");
    client.request(WRITE, 1, 4096, 4096);
    client.stream.write_all(&[7; 4096]).unwrap();
    assert_eq!(client.reply().unwrap().error, 0);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(std::fs::read(&image).unwrap()[4096..8192], [7; 4096]);
}

/// A client that asks for much and takes next to nothing.
fn glutton(gateway: &Server) -> Raw {
    let mut client = Raw::open(gateway.socket(), "");
    for cookie in 0..64 {
        client.request(READ, cookie, 0, 1 << 20);
    }
    // All but this: the server has taken the requests then.
    assert_eq!(client.reply().unwrap().error, 0);
    client
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    for (second, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut gateway = Gateway::start(&["memory", "1M"]);
        let _glutton = glutton(&gateway);
        gateway.signal(Signal::SIGTERM);
        let socket = gateway.socket().to_owned();
        wait_until("the end has begun", || !socket.exists());
        gateway.signal(second);
        assert_eq!(gateway.wait().code(), Some(code));
    }
}

#[test]
fn a_client_that_takes_no_replies_does_not_hold_the_end_up_for_ever() {
    let mut gateway = Gateway::start(&["memory", "1M"]);
    let _glutton = glutton(&gateway);
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(gateway.stderr().contains("do not finish their requests: 1\n"), "{}", gateway.stderr());
}

#[test]
fn a_client_that_never_finishes_the_handshake_does_not_hold_the_end_up() {
    let mut gateway = Gateway::start(&["memory", "1M"]);
    let mut silent = UnixStream::connect(gateway.socket()).unwrap();
    let mut greeting = [0; 18];
    silent.read_exact(&mut greeting).unwrap();
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(is_closed(&mut silent));
    assert!(!gateway.stderr().contains("closing connections"), "{}", gateway.stderr());
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let gateway = Gateway::start(&["memory", "1M"]);
    let mut slow = UnixStream::connect(gateway.socket()).unwrap();
    for byte in hello("") {
        slow.write_all(&[byte]).unwrap();
    }
    let mut reply = [0; 28];
    slow.read_exact(&mut reply).unwrap();
    assert_eq!(reply[18..26], (1_u64 << 20).to_be_bytes());
    drop(slow);
    gateway.stop();
}

#[test]
fn a_request_may_come_with_the_handshake() {
    let gateway = Gateway::start(&["memory", "1M"]);
    let mut hasty = UnixStream::connect(gateway.socket()).unwrap();
    hasty.write_all(&[hello(""), header(READ, 9, 0, 512)].concat()).unwrap();
    let mut reply = [0; 28 + 16 + 512];
    hasty.read_exact(&mut reply).unwrap();
    assert_eq!(reply[36..44], 9_u64.to_be_bytes());
    drop(hasty);
    gateway.stop();
}

#[test]
fn a_thousand_clients_at_once_are_served_and_forgotten() {
    const CLIENTS: usize = 1000;
    // Sockets of this process count against its own limit.
    let raise = format!("prlimit --nofile={}: --pid {}", 4 * CLIENTS, std::process::id());
    if !Command::new("/bin/sh").arg("-c").arg(&raise).status().is_ok_and(|status| status.success()) {
        tests::skip!("{} open files are not possible", 4 * CLIENTS);
    }
    let gateway = Gateway::start(&["memory", "1M"]);
    drop(Raw::open(gateway.socket(), ""));
    let before = open_descriptors(gateway.pid());
    let mut clients: Vec<UnixStream> =
        (0..CLIENTS).map(|_| UnixStream::connect(gateway.socket()).unwrap()).collect();
    for client in &mut clients {
        client.write_all(&[hello(""), header(READ, 1, 0, 512)].concat()).unwrap();
    }
    for client in &mut clients {
        let mut reply = [0; 28 + 16 + 512];
        client.read_exact(&mut reply).unwrap();
    }
    drop(clients);
    wait_until("all descriptors are closed", || open_descriptors(gateway.pid()) <= before);
    gateway.stop();
}

#[test]
fn the_limit_of_descriptors_is_raised_as_far_as_possible() {
    let gateway = Gateway::builder().wrapped_in(&["prlimit", "--nofile=64:300"]).start(&["memory", "1M"]);
    assert_eq!(descriptor_limit(gateway.pid()), 300);
    gateway.stop();
}

#[test]
fn a_server_without_free_descriptors_goes_on_when_there_are_some_again() {
    let gateway =
        Gateway::builder().workers(1).wrapped_in(&["prlimit", "--nofile=64:64"]).start(&["memory", "1M"]);
    let crowd: Vec<UnixStream> = (0..80)
        .map(|_| {
            let mut client = UnixStream::connect(gateway.socket()).unwrap();
            // Past the handshake, of which there may be fewer.
            client.write_all(&hello("")).unwrap();
            client
        })
        .collect();
    wait_until("the server is at its limit", || gateway.stderr().contains("Too many open files"));
    drop(crowd);
    assert_eq!(Raw::open(gateway.socket(), "").size_bytes, 1 << 20);
    assert_eq!(gateway.stderr().matches("cannot accept").count(), 1, "{}", gateway.stderr());
    gateway.stop();
}

#[test]
fn hostile_clients_cannot_flood_the_log() {
    let gateway = Gateway::start(&["memory", "1M"]);
    for _ in 0..500 {
        let mut hostile = Raw::open(gateway.socket(), "");
        hostile.stream.write_all(&[0xff; 28]).unwrap();
        assert!(is_closed(&mut hostile.stream));
    }
    let complaints = gateway.stderr().matches("closing the connection of process").count();
    assert!((1..250).contains(&complaints), "{complaints} complaints");
    gateway.stop();
}
