//! The `virtio-blk-vhost-user` driver over many lives of its back-end.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use drivers::testing::backend::{BLK_SIZE, Fault, Kind, SEG_MAX, SIZE_MAX, Server, Store};
use drivers::testing::{Client, Random};
use drivers::{Event, Operation, RequestFlags, Started};
use fixtures::start;

const PLAIN: RequestFlags = RequestFlags { fua: false, no_unmap: false, fast: false };
const FUA: RequestFlags = RequestFlags { fua: true, no_unmap: false, fast: false };

/// A place for back-ends that share one disk.
struct Spot {
    folder: tempfile::TempDir,
    store: Store,
    last: Mutex<Option<JoinHandle<()>>>,
}

impl Spot {
    fn new() -> Spot {
        let store = Store::memory(Kind::default().capacity_bytes);
        Spot { folder: tempfile::tempdir().unwrap(), store, last: Mutex::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Serves so many connections, one after the other, and is gone. The one before is gone already, or soon.
    fn serve(&self, kind: Kind, connections: usize) {
        let mut last = self.last.lock().unwrap();
        if let Some(last) = last.take() {
            // Its end removes the socket.
            last.join().unwrap();
        }
        let mut server = Server::bind(&self.path(), kind, self.store.clone()).unwrap();
        *last = Some(thread::spawn(move || {
            for _ in 0..connections {
                // One that is not served as it should be is seen on the other side.
                let _ = server.serve_one();
            }
        }));
    }

    /// Serves one connection; whoever connects then hears nothing.
    fn serve_before_silence(&self, kind: Kind) {
        let mut server = Server::bind(&self.path(), kind, self.store.clone()).unwrap();
        thread::spawn(move || {
            let _ = server.serve_one();
            std::mem::forget(server);
        });
    }

    fn connect(&self, properties: &[&str], workers: usize) -> Arc<dyn Started> {
        let mut words = vec!["virtio-blk-vhost-user".into(), format!("path={}", self.path().display())];
        words.extend(properties.iter().map(ToString::to_string));
        start(&words, workers).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

/// Writes and reads with up to 16 requests in flight, and compares with a model.
fn use_disk(client: &mut Client, model: &mut [u8], rounds: u64, random: &mut Random) {
    for _ in 0..rounds {
        let blocks: Vec<u64> = (0..16).map(|index| index * 16 + random.below(16)).collect();
        let writes = blocks.iter().map(|block| {
            let byte = random.below(256) as u8;
            model[*block as usize * 4096..][..4096].fill(byte);
            let lease = client.lease(4096);
            lease.slice(0, 4096).copy_from(&[byte; 4096]);
            let flags = if random.below(4) == 0 { FUA } else { PLAIN };
            (lease, block * 4096, flags)
        });
        let writes: Vec<_> = writes.collect();
        let requests = writes
            .into_iter()
            .map(|(lease, offset, flags)| client.request(Operation::Write(lease), offset, 4096, flags))
            .collect();
        assert!(client.run(requests).iter().all(|completion| completion.result.is_ok()));
        let block = blocks[random.below(16) as usize] as usize * 4096;
        assert!(client.read(block as u64, 4096).unwrap() == model[block..][..4096], "block at {block}");
    }
    client.flush().unwrap();
}

#[test]
fn requests_outlive_back_ends_that_die_again_and_again() {
    let sizes =
        Kind { features: Kind::default().features | BLK_SIZE | SIZE_MAX | SEG_MAX, ..Kind::default() };
    let sizes = Kind { blk_size: 4096, size_max: 3000, seg_max: 20, ..sizes };
    for (kind, properties) in [
        (Kind { queues: 2, ..Kind::default() }, &["reconnect=forever"][..]),
        (Kind { queues: 2, ..Kind::default() }, &["reconnect=forever", "num-poll-queues=2"]),
        (sizes, &["reconnect=forever", "reconnect-cache=lost"]),
    ] {
        let spot = Spot::new();
        spot.serve(Kind { fault: Fault::DiesAfter(60), ..kind }, 1000);
        let device = spot.connect(properties, usize::from(kind.queues));
        let seed = Random::new(1).below(u64::MAX);
        thread::scope(|scope| {
            for index in 0..device.queues() {
                let device = device.clone();
                scope.spawn(move || {
                    let mut client = Client::new(&device, index);
                    let mut random = Random::new(seed + index as u64);
                    // Each has half of the disk's blocks only if it has the disk for itself.
                    if index == 0 {
                        use_disk(&mut client, &mut vec![0; 1 << 20], 20, &mut random);
                    } else {
                        for _ in 0..60 {
                            client.read(random.below(256) * 4096, 4096).unwrap();
                        }
                    }
                });
            }
        });
        let events: Vec<Event> = std::iter::from_fn(|| device.next_event()).collect();
        let count = events.iter().filter(|event| **event == Event::Resumed).count();
        assert!(count >= 3, "{properties:?}: it came back {count} times: {events:?}");
    }
}

#[test]
fn many_clients_that_come_at_once_revive_a_device_once() {
    let spot = Spot::new();
    let kind = Kind { queues: 2, ..Kind::default() };
    spot.serve(Kind { fault: Fault::DiesAfter(9), ..kind }, 1);
    let device = spot.connect(&["reconnect=1"], 2);
    let mut clients = [Client::new(&device, 0), Client::new(&device, 1)];
    let mut model = vec![0; 1 << 20];
    for round in 0..3_u8 {
        while clients[0].read(0, 4096).is_ok() {}
        let dead = clients[1].queue.submit(&mut VecDeque::new()).unwrap_err();
        assert!(dead.reason.contains("has not come back"), "{dead}");
        // They come while the next back-end is about to be there.
        let last = round == 2;
        let (spot, device) = (&spot, &device);
        thread::scope(|scope| {
            for delay in 0..8_u64 {
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(delay / 2));
                    device.try_again();
                });
            }
            scope.spawn(move || {
                spot.serve(Kind { fault: if last { Fault::None } else { Fault::DiesAfter(9) }, ..kind }, 1);
            });
        });
        let byte = 10 + round;
        clients[1].write(8192, &[byte; 4096], PLAIN).unwrap();
        assert_eq!(clients[0].read(8192, 4096), Ok(vec![byte; 4096]), "round {round}");
    }
    model[8192..12_288].fill(12);
    use_disk(&mut clients[1], &mut model, 10, &mut Random::new(3));
}

#[test]
fn a_silent_peer_is_not_waited_for_longer_than_was_said() {
    let spot = Spot::new();
    spot.serve_before_silence(Kind { fault: Fault::DiesAfter(5), ..Kind::default() });
    let device = spot.connect(&["reconnect=2"], 1);
    let mut client = Client::new(&device, 0);
    let started = Instant::now();
    while client.read(0, 4096).is_ok() {}
    assert!(started.elapsed() > Duration::from_secs(1), "it was waited for");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_device_is_closed_at_once_while_it_talks_to_a_silent_peer() {
    let spot = Spot::new();
    spot.serve_before_silence(Kind { fault: Fault::DiesAfter(2), ..Kind::default() });
    let device = spot.connect(&["reconnect=forever"], 1);
    let mut client = Client::new(&device, 0);
    client.read(0, 4096).unwrap();
    let mut done = Vec::new();
    let lease = client.lease(4096);
    let request = client.request(Operation::Read(lease), 0, 4096, PLAIN);
    client.submit(vec![request], &mut done);
    thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    drop((client, device));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
