//! What clients cost that do nothing, or too little.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::process::{cpu_ticks, resident_bytes};
use tests::{Gateway, Image, Place, Rng};

use crate::raw::{READ, Raw, WRITE};

/// Connections at a time.
const CLIENTS: u64 = 2000;

/// Of them so many stall: every second one inside a write, the others with replies that they do not take.
const STALLED: u64 = 1000;

/// Lets this process have so many connections.
fn room_for_clients() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = CLIENTS + 100;
    assert!(hard >= needed, "this test needs {needed} descriptors, and the hard limit is {hard}: ulimit -Hn");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard).unwrap();
}

#[test]
fn idle_clients_cost_little_memory_and_no_processor_time() {
    room_for_clients();
    let gateway = Gateway::builder().workers(2).start(&["memory", "64M"]);
    let empty = resident_bytes(gateway.pid());
    let mut clients: Vec<Raw> = (0..CLIENTS).map(|_| Raw::open(gateway.socket(), "")).collect();
    let each = resident_bytes(gateway.pid()).saturating_sub(empty) / CLIENTS;
    assert!(each <= 16 << 10, "{each} bytes for each idle client");
    for client in &mut clients {
        client.request(READ, 0, 0, 0);
        assert_eq!(client.reply().map(|reply| reply.error), Some(0));
    }
    for cookie in 0..10_000 {
        clients[0].request(READ, cookie, 0, 0);
        assert_eq!(clients[0].reply().map(|reply| reply.error), Some(0));
    }
    // Straight after the load: even what polls a little longer is within a tick.
    let ticks = cpu_ticks(gateway.pid());
    std::thread::sleep(Duration::from_secs(30));
    let ticks = cpu_ticks(gateway.pid()) - ticks;
    assert!(ticks <= 1, "{ticks} ticks in 30 s while {CLIENTS} clients were idle");
}

#[test]
fn a_busy_client_costs_bounded_memory() {
    let image = Image::sparse(Place::Memory, 256 << 20);
    for direct in ["direct=false", "direct=true"] {
        let gateway = Gateway::builder().workers(2).start(&["io_uring", &image.property(), direct]);
        let mut client = Raw::open(gateway.socket(), "");
        let payload = Rng::new(2).bytes(1 << 20);
        let mut data = vec![0; 1 << 20];
        for round in 0..16 {
            for index in 0..16 {
                client.send(WRITE, 0, index, (round * 16 + index) << 20, &payload);
            }
            client.all_succeed(16);
            (0..16).for_each(|index| client.request(READ, index, (round * 16 + index) << 20, 1 << 20));
            for _ in 0..16 {
                assert_eq!(client.reply().map(|reply| reply.error), Some(0));
                client.stream.read_exact(&mut data).expect("the data follows");
                assert!(data == payload, "{direct}: wrong data");
            }
        }
        let resident = resident_bytes(gateway.pid());
        assert!(resident <= 64 << 20, "{direct}: {resident} bytes resident");
        gateway.stop();
    }
}

#[test]
fn clients_that_stall_hold_up_nobody_and_cost_bounded_memory() {
    room_for_clients();
    let image = Image::sparse(Place::Memory, 64 << 20);
    let file = image.property();
    for driver in [&["memory", "64M"][..], &["io_uring", &file], &["io_uring", &file, "direct=true"]] {
        let gateway = Gateway::builder().workers(2).start(driver);
        let payload = Rng::new(1).bytes(100_000);
        let stalled: Vec<Raw> = (0..STALLED)
            .map(|number| {
                let mut client = Raw::open(gateway.socket(), "");
                if number % 2 == 0 {
                    client.request(WRITE, number, 0, 1 << 20);
                    client.stream.write_all(&payload).expect("the socket has room");
                } else {
                    (0..32).for_each(|cookie| client.request(READ, cookie, 0, 1 << 20));
                }
                client
            })
            .collect();
        let mut other = Raw::open(gateway.socket(), "");
        for cookie in 0..5000 {
            other.request(READ, cookie, cookie * 4096, 4096);
            assert_eq!(other.reply().map(|reply| (reply.error, reply.cookie)), Some((0, cookie)));
            other.stream.read_exact(&mut [0; 4096]).expect("the data follows");
        }
        let resident = resident_bytes(gateway.pid());
        assert!(resident <= 96 << 20, "{resident} bytes resident with {} stalled clients", stalled.len());
        let ticks = cpu_ticks(gateway.pid());
        std::thread::sleep(Duration::from_secs(3));
        let ticks = cpu_ticks(gateway.pid()) - ticks;
        assert!(ticks <= 2, "{ticks} ticks in 3 s for {} clients that do not move", stalled.len());
    }
}
