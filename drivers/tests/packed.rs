//! The `virtio-blk-vhost-user` driver against a back-end that serves packed rings: conformance in its variants, and
//! back-ends that lie.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drivers::testing::ram_disk::SERIAL;
use drivers::testing::{Client, Fixture, Setup, conformance};
use drivers::{Errno, RequestFlags, Started, Value};
use fixtures::packed_backend::{Backend, EVENT_IDX, Fault, INDIRECT_DESC, Kind, RING_PACKED};
use fixtures::start;

/// Back-ends of one kind.
struct Backends {
    features: u64,
    queues: u16,
    properties: &'static [&'static str],
    backend: Mutex<Option<Backend>>,
}

impl Backends {
    fn new(features: u64, properties: &'static [&'static str]) -> Backends {
        Backends { features, queues: 4, properties, backend: Mutex::new(None) }
    }
}

fn connect(backend: &Backend, properties: &[&str], workers: usize) -> Arc<dyn Started> {
    let mut words = vec!["virtio-blk-vhost-user".into(), format!("path={}", backend.path)];
    words.extend(properties.iter().map(ToString::to_string));
    start(&words, workers).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

impl Fixture for Backends {
    fn name(&self) -> String {
        format!("virtio-blk-vhost-user, features {:#x} {}", self.features, self.properties.join(" "))
    }

    fn start(&self, setup: Setup) -> Arc<dyn Started> {
        let backend = Backend::start(Kind {
            capacity_bytes: setup.capacity_bytes,
            queues: self.queues,
            features: self.features,
            read_only: setup.read_only,
            fault: Fault::None,
        });
        let started = connect(&backend, self.properties, setup.workers);
        *self.backend.lock().unwrap() = Some(backend);
        started
    }

    fn capacity_unit_bytes(&self) -> u64 {
        512
    }
}

#[test]
fn indirect_descriptors_and_event_index_conform() {
    conformance(&Backends::new(RING_PACKED | INDIRECT_DESC | EVENT_IDX, &[]));
}

#[test]
fn one_queue_for_all_conforms() {
    let one = |features| Backends { queues: 1, ..Backends::new(features, &[]) };
    conformance(&one(RING_PACKED | INDIRECT_DESC | EVENT_IDX));
    conformance(&one(RING_PACKED));
}

#[test]
fn chains_in_the_ring_conform() {
    conformance(&Backends::new(RING_PACKED | EVENT_IDX, &["queue-size=16"]));
}

#[test]
fn notifications_without_event_index_conform() {
    conformance(&Backends::new(RING_PACKED | INDIRECT_DESC, &["queue-size=8"]));
}

#[test]
fn rings_without_any_feature_conform() {
    conformance(&Backends::new(RING_PACKED, &["queue-size=4"]));
}

#[test]
fn polled_queues_conform() {
    conformance(&Backends::new(
        RING_PACKED | INDIRECT_DESC | EVENT_IDX,
        &["num-poll-queues=4", "queue-size=64"],
    ));
}

#[test]
fn split_rings_of_the_same_back_end_conform() {
    conformance(&Backends::new(INDIRECT_DESC | EVENT_IDX, &[]));
}

#[test]
fn the_packed_ring_is_negotiated_where_it_is_offered() {
    let backend = Backend::start(Kind::default());
    let _device = connect(&backend, &[], 1);
    assert_ne!(backend.features() & RING_PACKED, 0);
}

#[test]
fn what_is_written_is_in_the_back_end() {
    let backend = Backend::start(Kind::default());
    let device = connect(&backend, &[], 1);
    assert_eq!(device.property("serial"), Some(Value::Text(SERIAL.into())));
    let mut client = Client::new(&device, 0);
    client.write(4096, &[7; 8192], RequestFlags::default()).unwrap();
    assert!(backend.bytes()[4096..12288].iter().all(|byte| *byte == 7));
}

#[test]
fn a_device_that_lies_fails_its_queue() {
    for fault in [Fault::WrongId, Fault::WrongLength, Fault::EndsTwice] {
        let backend = Backend::start(Kind { fault, ..Kind::default() });
        let mut client = Client::new(&connect(&backend, &[], 1), 0);
        let first = client.read(0, 4096);
        // Of a chain that ends twice, the first end may be seen before the second one.
        assert!(first == Err(Errno::IO) || fault == Fault::EndsTwice, "{fault:?}: {first:?}");
        let is_dead = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            client.queue.reap(&mut Vec::new());
            client.queue.submit(&mut VecDeque::new()).is_err()
        });
        assert!(is_dead, "{fault:?}: the lie is noticed");
    }
}
