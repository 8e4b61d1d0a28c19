//! What clients are held to: how many, and how long they may do nothing.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::{Gateway, requires, run, tool, wait_until};

use crate::raw::{READ, Raw, header, hello};

/// Whether the server has closed the connection, after whatever it sent before.
fn is_closed(stream: &mut UnixStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            // A reset is an end too.
            Err(cause) => return cause.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn one_client_too_many_is_sent_away_until_another_leaves() {
    let gateway = Gateway::start(&["--max-clients", "2", "memory", "1M"]);
    let first = {
        // The test's own look whether the server listens may still count.
        wait_until("there is room", || {
            let mut probe = UnixStream::connect(gateway.socket()).unwrap();
            probe.read_exact(&mut [0; 18]).is_ok()
        });
        let mut open = Vec::new();
        wait_until("two clients are served", || {
            let mut stream = UnixStream::connect(gateway.socket()).unwrap();
            if stream.write_all(&hello("")).is_ok() && stream.read_exact(&mut [0; 28]).is_ok() {
                open.push(stream);
            }
            open.len() == 2
        });
        open
    };
    let mut third = UnixStream::connect(gateway.socket()).unwrap();
    assert!(third.read_exact(&mut [0; 18]).is_err(), "there are two");
    assert!(gateway.stderr().contains("there are 2 clients already"), "{}", gateway.stderr());
    drop(first);
    wait_until("there is room again", || {
        let mut stream = UnixStream::connect(gateway.socket()).unwrap();
        stream.read_exact(&mut [0; 18]).is_ok()
    });
    gateway.stop();
}

#[test]
fn clients_that_only_connect_keep_nobody_out() {
    let gateway = Gateway::start(&["--max-clients", "2", "memory", "1M"]);
    for round in 0..3 {
        // The greeting tells that the server has each of them; an older one may make room for it.
        let _silent = [0, 1].map(|_| {
            let mut stream = UnixStream::connect(gateway.socket()).unwrap();
            stream.read_exact(&mut [0; 18]).unwrap();
            stream
        });
        let mut client = Raw::open(gateway.socket(), "");
        assert_eq!(client.read(0, 1), Ok(vec![0]), "round {round}");
    }
    assert!(gateway.stderr().contains("whose handshake is the oldest"), "{}", gateway.stderr());
    gateway.stop();
}

#[test]
fn a_client_that_could_have_several_connections_knows_that_one_is_allowed() {
    requires!("nbdcopy");
    let script = format!("'{}' \"$uri\" null:", tool("nbdcopy").unwrap().display());
    let line = ["--max-clients", "1", "memory", "16M", "--run", &script];
    assert_eq!(run(Command::new(Gateway::program()).args(line)).success(), "");
}

#[test]
fn a_handshake_that_takes_too_long_is_ended() {
    let gateway = Gateway::start(&["--handshake-timeout", "1", "memory", "1M"]);
    let mut client = Raw::open(gateway.socket(), "");
    let mut silent = UnixStream::connect(gateway.socket()).unwrap();
    let start = Instant::now();
    wait_until("the silent client is sent away", || is_closed(&mut silent));
    assert!(start.elapsed() >= Duration::from_millis(900));
    assert!(gateway.stderr().contains("did not finish the handshake in 1 s"), "{}", gateway.stderr());
    assert_eq!(client.ask(READ, 0, 0, 0), 0, "a client that is through may take its time");
    gateway.stop();
}

#[test]
fn clients_that_do_nothing_are_sent_away_and_others_are_not() {
    let gateway = Gateway::builder().workers(1).start(&["--idle-timeout", "2", "memory", "1M"]);
    let mut idle = Raw::open(gateway.socket(), "");
    let mut busy = Raw::open(gateway.socket(), "");
    // It takes no replies, but waits for them.
    let mut waiting = Raw::open(gateway.socket(), "");
    for cookie in 0..64 {
        waiting.request(READ, cookie, 0, 1 << 20);
    }
    let start = Instant::now();
    let mut closed = None;
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(busy.ask(READ, 0, 0, 0), 0);
        if closed.is_none() && is_closed(&mut idle.stream) {
            closed = Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let closed = closed.expect("the idle client is sent away");
    assert!(closed >= Duration::from_millis(1900), "{closed:?}");
    assert!(gateway.stderr().contains("which was idle for 2 s"), "{}", gateway.stderr());
    assert_eq!(gateway.stderr().matches("which was idle").count(), 1, "{}", gateway.stderr());
    for _ in 0..64 {
        assert_eq!(waiting.reply().unwrap().error, 0);
        waiting.stream.read_exact(&mut vec![0; 1 << 20]).unwrap();
    }
    gateway.stop();
}

#[test]
fn the_oldest_of_too_many_handshakes_makes_room() {
    let gateway = Gateway::builder().workers(1).start(&["--max-handshakes", "4", "memory", "1M"]);
    let mut silent: Vec<UnixStream> = Vec::new();
    for _ in 0..6 {
        let mut stream = UnixStream::connect(gateway.socket()).unwrap();
        // Its handshake is under way.
        stream.read_exact(&mut [0; 18]).unwrap();
        silent.push(stream);
    }
    wait_until("the first two are closed", || is_closed(&mut silent[0]) && is_closed(&mut silent[1]));
    assert!(!silent[2..].iter_mut().any(is_closed));
    assert!(gateway.stderr().contains("oldest of too many"), "{}", gateway.stderr());
    silent[5].write_all(&[hello(""), header(READ, 1, 0, 512)].concat()).unwrap();
    silent[5].set_read_timeout(None).unwrap();
    silent[5].read_exact(&mut [0; 10 + 16 + 512]).unwrap();
    gateway.stop();
}

#[test]
fn clients_that_never_finish_the_handshake_leave_room_for_others() {
    let gateway =
        Gateway::builder().workers(1).wrapped_in(&["prlimit", "--nofile=64:64"]).start(&["memory", "1M"]);
    let crowd: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(gateway.socket()).unwrap()).collect();
    let start = Instant::now();
    assert_eq!(Raw::open(gateway.socket(), "").size_bytes, 1 << 20);
    assert!(start.elapsed() < Duration::from_secs(20), "nobody waited for a time-out of the crowd");
    assert!(gateway.stderr().contains("oldest of too many"), "{}", gateway.stderr());
    drop(crowd);
    gateway.stop();
}
