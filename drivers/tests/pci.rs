//! The `virtio-blk-vfio-pci` driver on a disk in this process: conformance in its variants, and what is negotiated.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;

use drivers::testing::feature::{
    ACCESS_PLATFORM, BLK_SIZE, DISCARD, EVENT_IDX, INDIRECT_DESC, READ_ONLY, RING_PACKED, VERSION_1,
    WRITE_ZEROES,
};
use drivers::testing::pci::Kind;
use drivers::testing::ram_disk::SERIAL;
use drivers::testing::{Client, conformance};
use drivers::{Event, RequestFlags, Started, Value};
use fixtures::pci::{Bed, Disks, until};

const PLAIN: RequestFlags = RequestFlags { fua: false, no_unmap: false, fast: false };

/// Runs the suite on disks with these features of rings: with one queue and with four, with interrupts and without.
fn conforms(ring: u64, properties: &'static [&'static str]) {
    let basic = Kind::default().features & !(INDIRECT_DESC | EVENT_IDX);
    for queues in [1, 4] {
        for vectors in [queues + 1, 0] {
            let kind = Kind { features: basic | ring, queues, vectors, ..Kind::default() };
            conformance(&Disks::new(kind, properties));
        }
    }
}

#[test]
fn split_rings_conform() {
    conforms(INDIRECT_DESC | EVENT_IDX, &[]);
}

#[test]
fn split_rings_without_event_index_conform() {
    conforms(INDIRECT_DESC, &["queue-size=8"]);
}

#[test]
fn split_rings_without_indirect_descriptors_conform() {
    conforms(EVENT_IDX, &["queue-size=16"]);
}

#[test]
fn split_rings_without_any_feature_conform() {
    conforms(0, &["queue-size=4"]);
}

#[test]
fn packed_rings_conform() {
    conforms(RING_PACKED | INDIRECT_DESC | EVENT_IDX, &[]);
}

#[test]
fn packed_rings_without_event_index_conform() {
    conforms(RING_PACKED | INDIRECT_DESC, &["queue-size=8"]);
}

#[test]
fn packed_rings_without_indirect_descriptors_conform() {
    conforms(RING_PACKED | EVENT_IDX, &["queue-size=16"]);
}

#[test]
fn packed_rings_without_any_feature_conform() {
    conforms(RING_PACKED, &["queue-size=4"]);
}

#[test]
fn queues_that_are_polled_beside_others_conform() {
    let kind = Kind { queues: 2, vectors: 3, ..Kind::default() };
    conformance(&Disks::new(kind, &["num-poll-queues=1"]));
}

#[test]
fn a_device_is_told_what_it_is_to_know() {
    let kind = Kind { features: Kind::default().features | RING_PACKED, ..Kind::default() };
    let bed = Bed::new(kind);
    let device = bed.start(&[], 1).unwrap();
    assert_eq!(bed.0.features(), kind.features, "everything that was offered is of use");
    assert_eq!(device.property("serial"), Some(Value::Text(SERIAL.into())));
    let mut client = Client::new(&device, 0);
    client.write(4096, &[7; 8192], PLAIN).unwrap();
    assert!(bed.0.bytes()[4096..12_288].iter().all(|byte| *byte == 7));
    drop((client, device));
    assert!(bed.0.is_released());
}

#[test]
fn a_device_with_both_interfaces_is_driven_by_the_new_one() {
    let bed = Bed::new(Kind { id: (0x1af4, 0x1001), ..Kind::default() });
    assert!(Client::new(&bed.start(&[], 1).unwrap(), 0).read(0, 4096).is_ok());
}

#[test]
fn queues_are_as_many_as_there_are_interrupts() {
    for (vectors, queues) in [(0, 4), (1, 4), (2, 1), (3, 2), (5, 4), (9, 4)] {
        let bed = Bed::new(Kind { queues: 4, vectors, ..Kind::default() });
        let device = bed.start(&[], 8).unwrap();
        assert_eq!(device.queues(), queues, "{vectors} interrupts");
        for index in 0..queues {
            Client::new(&device, index).read(0, 8192).unwrap();
        }
    }
}

#[test]
fn a_queue_is_as_long_as_a_power_of_two_can_be() {
    for packed in [0, RING_PACKED] {
        let features = Kind::default().features | packed;
        let bed = Bed::new(Kind { queue_size: 100, features, ..Kind::default() });
        let device = bed.start(&[], 1).unwrap();
        assert_eq!(device.property("queue-size"), Some(Value::Int(64)));
        Client::new(&device, 0).read(0, 8192).unwrap();
    }
}

#[test]
fn what_a_short_configuration_does_not_tell_is_not_used() {
    let features = Kind::default().features | BLK_SIZE;
    for (config_bytes, missing) in
        [(8, BLK_SIZE | DISCARD | WRITE_ZEROES), (36, DISCARD | WRITE_ZEROES), (59, WRITE_ZEROES)]
    {
        let bed = Bed::new(Kind { config_bytes, features, block_bytes: 4096, ..Kind::default() });
        let device = bed.start(&[], 1).unwrap();
        assert_eq!(bed.0.features(), features & !missing, "{config_bytes} bytes");
        let block = if config_bytes < 24 { 512 } else { 4096 };
        assert_eq!(device.limits().request_alignment_bytes, block);
        assert_eq!(device.limits().capacity_bytes, 1 << 20);
    }
}

#[test]
fn a_disk_without_features_works() {
    let bed = Bed::new(Kind { features: VERSION_1 | ACCESS_PLATFORM, ..Kind::default() });
    let mut client = Client::new(&bed.start(&[], 1).unwrap(), 0);
    client.write(0, &[3; 4096], PLAIN).unwrap();
    client.flush().unwrap();
    assert_eq!(client.read(0, 4096).unwrap(), [3; 4096]);
}

#[test]
fn a_read_only_disk_is_one() {
    let bed = Bed::new(Kind { features: Kind::default().features | READ_ONLY, ..Kind::default() });
    let refusal = bed.start(&["read-only=false"], 1).err().unwrap().to_string();
    assert!(refusal.contains("is read-only"), "{refusal}");
}

/// What has happened, once something has.
fn next_event(device: &dyn Started) -> Event {
    let mut event = None;
    until("something happens", || {
        event = device.next_event();
        event.is_some()
    });
    event.unwrap()
}

#[test]
fn a_new_capacity_is_told_and_used() {
    a_new_capacity_is_used(Kind::default());
}

#[test]
fn a_new_capacity_is_found_without_interrupts() {
    a_new_capacity_is_used(Kind { vectors: 0, ..Kind::default() });
}

fn a_new_capacity_is_used(kind: Kind) {
    let bed = Bed::new(kind);
    let device = bed.start(&[], 1).unwrap();
    assert!(device.limits().can_grow);
    bed.0.resize(2 << 20);
    assert_eq!(next_event(&*device), Event::CapacityChanged);
    assert_eq!(device.limits().capacity_bytes, 2 << 20);
    let mut client = Client::new(&device, 0);
    client.write((2 << 20) - 4096, &[5; 4096], PLAIN).unwrap();
    bed.0.resize(1 << 20);
    assert_eq!(next_event(&*device), Event::CapacityChanged);
    assert_eq!(device.limits().capacity_bytes, 1 << 20);
    assert!(client.read(1 << 20, 4096).is_err() && client.read(0, 4096).is_ok());
}

#[test]
fn an_interrupt_without_a_change_is_no_news() {
    let bed = Bed::new(Kind::default());
    let device = bed.start(&[], 1).unwrap();
    bed.0.tell_change();
    bed.0.resize(3 << 20);
    assert_eq!(next_event(&*device), Event::CapacityChanged);
    assert_eq!(device.next_event(), None);
}
