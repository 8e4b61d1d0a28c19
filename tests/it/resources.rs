//! What clients cost that do nothing, or too little.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use tests::process::{cpu_ticks, resident_bytes};
use tests::{Gateway, Rng};

use crate::raw::{READ, Raw, WRITE};

/// Connections that fit below the usual limit of descriptors of a process.
const CLIENTS: u64 = 800;

#[test]
fn idle_clients_cost_little_memory_and_no_processor_time() {
    let gateway = Gateway::builder().workers(2).start(&["memory", "64M"]);
    let mut busy = Raw::open(gateway.socket(), "");
    for cookie in 0..1000 {
        busy.request(READ, cookie, 0, 0);
        assert_eq!(busy.reply().map(|reply| reply.error), Some(0));
    }
    let before = resident_bytes(gateway.pid());
    let clients: Vec<Raw> = (0..CLIENTS).map(|_| Raw::open(gateway.socket(), "")).collect();
    let each = resident_bytes(gateway.pid()).saturating_sub(before) / CLIENTS;
    assert!(each <= 16 << 10, "{each} bytes for each idle client");
    // Handshakes may still be ending.
    std::thread::sleep(Duration::from_millis(500));
    let ticks = cpu_ticks(gateway.pid());
    std::thread::sleep(Duration::from_secs(5));
    let ticks = cpu_ticks(gateway.pid()) - ticks;
    assert!(ticks <= 1, "{ticks} ticks while {} clients were idle", clients.len());
}

#[test]
fn clients_that_stall_hold_up_nobody_and_cost_bounded_memory() {
    for driver in [&["memory", "64M"][..], &["null", "64M"][..]] {
        let gateway = Gateway::builder().workers(2).start(driver);
        let payload = Rng::new(1).bytes(100_000);
        let stalled: Vec<Raw> = (0..CLIENTS)
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
    }
}
