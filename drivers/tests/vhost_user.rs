//! The `virtio-blk-vhost-user` driver against a back-end of our own: conformance in its variants, and back-ends that
//! lie or die.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;
mod misbehaviour;

use std::sync::{Arc, Mutex};

use drivers::testing::{Client, Fixture, Setup, conformance};
use drivers::{Errno, Started, Value};
use fixtures::backend::{
    BLK_SIZE, Backend, DISCARD, EVENT_IDX, FLUSH, Fault, INDIRECT_DESC, Kind, Protocol, READ_ONLY, SEG_MAX,
    SERIAL, SIZE_MAX, WRITE_ZEROES,
};
use fixtures::start;

/// Back-ends of one kind.
struct Backends {
    name: &'static str,
    kind: Kind,
    properties: &'static [&'static str],
    backend: Mutex<Option<Backend>>,
}

impl Backends {
    fn new(name: &'static str, kind: Kind, properties: &'static [&'static str]) -> Backends {
        Backends { name, kind, properties, backend: Mutex::new(None) }
    }
}

fn connect(backend: &Backend, properties: &[&str], workers: usize) -> Arc<dyn Started> {
    let mut words = vec!["virtio-blk-vhost-user".into(), format!("path={}", backend.path)];
    words.extend(properties.iter().map(ToString::to_string));
    start(&words, workers).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

impl Fixture for Backends {
    fn name(&self) -> String {
        format!("virtio-blk-vhost-user, {} {}", self.name, self.properties.join(" "))
    }

    fn start(&self, setup: Setup) -> Arc<dyn Started> {
        let read_only = if setup.read_only { READ_ONLY } else { 0 };
        let features = self.kind.features | read_only;
        let backend = Backend::start(Kind { capacity_bytes: setup.capacity_bytes, features, ..self.kind });
        let started = connect(&backend, self.properties, setup.workers);
        *self.backend.lock().unwrap() = Some(backend);
        started
    }

    fn capacity_unit_bytes(&self) -> u64 {
        if self.kind.features & BLK_SIZE != 0 { self.kind.blk_size.into() } else { 512 }
    }
}

#[test]
fn indirect_descriptors_and_event_index_conform() {
    conformance(&Backends::new("all features", Kind { queues: 4, ..Kind::default() }, &[]));
}

#[test]
fn one_queue_for_all_conforms() {
    conformance(&Backends::new("one queue", Kind { queues: 1, ..Kind::default() }, &[]));
    let features = FLUSH | DISCARD | WRITE_ZEROES;
    conformance(&Backends::new("one plain queue", Kind { features, queues: 1, ..Kind::default() }, &[]));
}

#[test]
fn chains_in_the_ring_conform() {
    let features = EVENT_IDX | FLUSH | DISCARD | WRITE_ZEROES;
    conformance(&Backends::new(
        "no indirect",
        Kind { features, queues: 4, ..Kind::default() },
        &["queue-size=16"],
    ));
}

#[test]
fn notifications_without_event_index_conform() {
    let features = INDIRECT_DESC | FLUSH | DISCARD | WRITE_ZEROES;
    conformance(&Backends::new("no event index", Kind { features, queues: 4, ..Kind::default() }, &[]));
}

#[test]
fn a_device_with_nothing_but_reads_and_writes_conforms() {
    let protocol = Protocol { reply_ack: false, ..Protocol::FULL };
    let kind = Kind { features: 0, protocol, queues: 4, ..Kind::default() };
    conformance(&Backends::new("no features, no acknowledgements", kind, &["queue-size=4"]));
}

#[test]
fn polled_queues_conform() {
    conformance(&Backends::new(
        "polled",
        Kind { queues: 4, ..Kind::default() },
        &["num-poll-queues=4", "queue-size=64"],
    ));
}

#[test]
fn large_blocks_in_many_small_pieces_conform() {
    let kind = Kind {
        features: INDIRECT_DESC | EVENT_IDX | FLUSH | DISCARD | WRITE_ZEROES | BLK_SIZE | SIZE_MAX | SEG_MAX,
        blk_size: 4096,
        size_max: 3000,
        seg_max: 20,
        range_sectors: 100,
        queues: 4,
        ..Kind::default()
    };
    conformance(&Backends::new("blocks of 4096 in pieces of 3000", kind, &[]));
}

#[test]
fn short_queues_of_a_device_with_short_buffers_conform() {
    for (size_max, seg_max, size) in [(65536, 126, "queue-size=4"), (4096, 126, "queue-size=32")] {
        for indirect in [0, INDIRECT_DESC] {
            let features = indirect | EVENT_IDX | FLUSH | DISCARD | WRITE_ZEROES | SIZE_MAX | SEG_MAX;
            let kind = Kind { features, size_max, seg_max, queues: 4, ..Kind::default() };
            let properties: &'static [&'static str] = match size {
                "queue-size=4" => &["queue-size=4"],
                _ => &["queue-size=32"],
            };
            conformance(&Backends::new("short queues", kind, properties));
        }
    }
}

/// A started device on a back-end that does this wrong.
fn faulty(fault: Fault) -> (Backend, Client) {
    let backend = Backend::start(Kind { fault, ..Kind::default() });
    let device = connect(&backend, &["reconnect=0"], 1);
    let client = Client::new(&device, 0);
    (backend, client)
}

#[test]
fn a_device_that_ends_what_it_does_not_have_fails_its_queue() {
    for fault in [Fault::WrongId, Fault::WrongLength] {
        let (_backend, mut client) = faulty(fault);
        assert_eq!(client.read(0, 4096), Err(Errno::IO), "{fault:?}");
        let mut todo = std::collections::VecDeque::new();
        assert!(client.queue.submit(&mut todo).is_err(), "{fault:?}: the queue is dead");
        assert!(client.pool.lent_bytes() > 0, "{fault:?}: the device may still write to what it was lent");
    }
}

#[test]
fn a_device_that_ends_a_request_twice_fails_its_queue() {
    let (_backend, mut client) = faulty(Fault::EndsTwice);
    // It depends on who is quicker whether the first end still counts.
    let _ = client.read(0, 4096);
    let lie = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        client.queue.reap(&mut Vec::new());
        client.queue.submit(&mut std::collections::VecDeque::new()).is_err()
    });
    assert!(lie, "the second end of a request is noticed");
}

#[test]
fn a_device_that_gives_no_answer_is_not_believed() {
    let (_backend, mut client) = faulty(Fault::NoData);
    assert_eq!(client.read(0, 4096), Err(Errno::IO), "what was not written is not handed out");
    assert_eq!(client.write(0, &[1; 4096], drivers::RequestFlags::default()), Ok(()));
}

#[test]
fn a_back_end_that_dies_fails_what_it_holds_and_what_comes() {
    let (_backend, mut client) = faulty(Fault::DiesAfter(9));
    let good = (0..20).take_while(|index| client.read(index * 4096, 4096).is_ok()).count();
    assert!((1..10).contains(&good), "{good} reads before the back-end died");
    assert_eq!(client.queue.in_flight(), 0);
    let dead = client.queue.submit(&mut std::collections::VecDeque::new()).unwrap_err();
    assert!(dead.reason.contains("is gone") && dead.reason.contains("closed the connection"), "{dead}");
}

#[test]
fn a_disk_tells_its_serial_number_and_size() {
    let backend = Backend::start(Kind::default());
    let device = connect(&backend, &[], 1);
    assert_eq!(device.property("serial"), Some(Value::Text(SERIAL.into())));
    assert_eq!(device.property("capacity"), Some(Value::Size(1 << 20)));
    assert_eq!(device.property("max-queues"), Some(Value::Int(1)));
}

#[test]
fn what_is_written_is_in_the_back_end() {
    let backend = Backend::start(Kind::default());
    let device = connect(&backend, &[], 1);
    let mut client = Client::new(&device, 0);
    client.write(4096, &[7; 8192], drivers::RequestFlags::default()).unwrap();
    assert!(backend.bytes()[4096..12288].iter().all(|byte| *byte == 7));
}

#[test]
fn what_cannot_be_reached_is_told_with_a_way_out() {
    let refused = |words: &[&str]| {
        let mut all = vec!["virtio-blk-vhost-user".to_owned()];
        all.extend(words.iter().map(ToString::to_string));
        start(&all, 1).err().expect("it cannot be started").to_string()
    };
    let said = refused(&["path=/nonexistent/socket"]);
    assert!(said.contains("/nonexistent/socket") && said.contains("start the back-end first"), "{said}");
    assert!(refused(&[]).contains("'path' or 'fd'"));
    assert!(refused(&["path=/a", "fd=3"]).contains("both"));
    let backend = Backend::start(Kind::default());
    let said = refused(&[&format!("path={}", backend.path), "queue-size=100"]);
    assert!(said.contains("queue-size") && said.contains("power of two"), "{said}");
    let backend = Backend::start(Kind { fault: Fault::Stalls, ..Kind::default() });
    let said = refused(&[&format!("path={}", backend.path)]);
    assert!(said.contains("has not answered a request"), "{said}");
    let backend = Backend::start(Kind::default());
    let said = refused(&[&format!("path={}", backend.path), "num-queues=2"]);
    assert!(said.contains("1 queues, not 2"), "{said}");
}
