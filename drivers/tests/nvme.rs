//! The `nvme-vfio-pci` driver on a controller in this process: conformance in its variants, and what it makes of the
//! controller.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;

use std::time::Duration;

use drivers::testing::client::PLAIN;
use drivers::testing::nvme::{Kind, Topic};
use drivers::testing::{Client, conformance};
use drivers::{Event, Value};
use fixtures::nvme::{Bed, Disks};
use fixtures::pci::until;

/// Runs the suite with one queue and with four, with interrupts and without.
fn conforms(kind: Kind, properties: &'static [&'static str]) {
    for queues in [1, 4] {
        for vectors in [queues + 1, 0] {
            conformance(&Disks::new(Kind { queues, vectors, ..kind }, properties));
        }
    }
}

#[test]
fn blocks_of_512_bytes_conform() {
    conforms(Kind::default(), &[]);
}

#[test]
fn blocks_of_4096_bytes_conform() {
    conforms(Kind { block_exponent: 12, stride_exponent: 2, ..Kind::default() }, &["queue-size=8"]);
}

#[test]
fn doorbells_in_memory_conform() {
    conforms(Kind { shadow: true, ..Kind::default() }, &["queue-size=4"]);
}

#[test]
fn doorbells_in_memory_with_blocks_of_4096_bytes_conform() {
    conforms(Kind { shadow: true, block_exponent: 12, stride_exponent: 1, ..Kind::default() }, &[]);
}

#[test]
fn short_queues_and_transfers_conform() {
    conforms(Kind { entries: 2, mdts: 1, ..Kind::default() }, &[]);
}

#[test]
fn queues_that_are_polled_beside_others_conform() {
    let kind = Kind { queues: 2, vectors: 3, ..Kind::default() };
    conformance(&Disks::new(kind, &["num-poll-queues=1"]));
}

#[test]
fn the_second_namespace_is_served_when_it_is_asked_for() {
    let bed = Bed::new(Kind { namespaces: 2, ..Kind::default() });
    let device = bed.start(&["namespace=2"], 1).unwrap();
    assert_eq!(device.property("serial"), Some(Value::Text("model-1".into())));
    let mut client = Client::new(&device, 0);
    client.write(4096, &[7; 8192], PLAIN).unwrap();
    client.flush().unwrap();
    assert!(bed.0.bytes(2)[4096..12_288].iter().all(|byte| *byte == 7));
    assert!(bed.0.bytes(1).iter().all(|byte| *byte == 0));
    drop((client, device));
    assert!(bed.0.is_released() && bed.0.was_shut_down());
}

#[test]
fn one_of_several_namespaces_is_asked_for_when_number_1_is_not_among_them() {
    let bed = Bed::new(Kind { namespaces: 3, ..Kind::default() });
    assert!(bed.connect(&[], fixtures::nvme::PATIENCE).is_ok(), "number 1 is among them");
    let bed = Bed::new(Kind { namespaces: 3, ..Kind::default() });
    // The list is 2, 3.
    for (at, byte) in [(0, 2), (4, 3), (8, 0)] {
        bed.0.say(Topic::Identity(2), at, byte);
    }
    let refusal = bed.connect(&[], fixtures::nvme::PATIENCE).err().unwrap();
    assert!(refusal.message.ends_with("has several namespaces: 2, 3"), "{refusal}");
    assert!(refusal.to_string().contains("namespace=2"), "{refusal}");
    let bed = Bed::new(Kind { namespaces: 3, ..Kind::default() });
    // The list is 3 alone.
    for (at, byte) in [(0, 3), (4, 0)] {
        bed.0.say(Topic::Identity(2), at, byte);
    }
    let connected = bed.connect(&[], fixtures::nvme::PATIENCE).unwrap();
    assert_eq!(connected.property("namespace"), Some(Value::Int(3)));
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
fn doorbells_in_memory_spare_registers() {
    let kicks = |shadow: bool| {
        let bed = Bed::new(Kind { shadow, ..Kind::default() });
        let device = bed.start(&[], 1).unwrap();
        let mut client = Client::new(&device, 0);
        for block in 0..64 {
            client.read(block * 4096, 4096).unwrap();
        }
        bed.0.kicks()
    };
    assert_eq!(kicks(false), 64);
    assert!((1..=64).contains(&kicks(true)));
}

#[test]
fn more_queues_than_doorbells_fit_into_a_page_work() {
    let kind = Kind { queues: 40, vectors: 0, shadow: true, stride_exponent: 4, ..Kind::default() };
    let bed = Bed::new(kind);
    let device = bed.start(&[], 40).unwrap();
    for index in [0, 31, 39] {
        Client::new(&device, index).read(0, 8192).unwrap();
    }
}

#[test]
fn an_idle_controller_is_left_alone() {
    let bed = Bed::new(Kind::default());
    let device = bed.start(&[], 1).unwrap();
    let before = bed.0.commands(true);
    std::thread::sleep(Duration::from_millis(2200));
    let asked = bed.0.commands(true) - before;
    assert!((1..=3).contains(&asked), "{asked} commands of administration in two seconds");
    drop(device);
}

#[test]
fn a_new_capacity_is_told_and_used() {
    let bed = Bed::new(Kind::default());
    let device = bed.start(&[], 1).unwrap();
    bed.0.resize(2 << 20);
    until("something happens", || device.next_event() == Some(Event::CapacityChanged));
    assert_eq!(device.limits().capacity_bytes, 2 << 20);
    let mut client = Client::new(&device, 0);
    client.write((2 << 20) - 4096, &[5; 4096], PLAIN).unwrap();
}

#[test]
fn a_new_capacity_that_cannot_be_is_not_believed() {
    // 2^54 blocks of 512 bytes; blocks of 4096 bytes.
    for (at, byte) in [(6, 0x40), (130, 12)] {
        let bed = Bed::new(Kind::default());
        let device = bed.start(&[], 1).unwrap();
        let before = bed.0.commands(true);
        bed.0.say(Topic::Identity(0), at, byte);
        until("it is asked", || bed.0.commands(true) > before + 1);
        assert_eq!(device.limits().capacity_bytes, 1 << 20);
        assert_eq!(device.next_event(), None);
        Client::new(&device, 0).read(0, 8192).unwrap();
    }
}

#[test]
fn what_the_controller_has_not_is_not_asked_for() {
    let refusal = |words: &[&str]| {
        let bed = Bed::new(Kind { entries: 64, ..Kind::default() });
        bed.start(words, 4).err().unwrap().to_string()
    };
    assert!(refusal(&["queue-size=65"]).contains("has queues of at most 64 entries, not 65"));
    assert!(refusal(&["num-queues=2"]).contains("has 1 queues, not 2"));
    assert!(refusal(&["namespace=2"]).contains("has 1 namespaces at most, not 2"));
}

#[test]
fn a_short_longest_transfer_is_kept() {
    let bed = Bed::new(Kind { mdts: 2, ..Kind::default() });
    let device = bed.start(&[], 1).unwrap();
    assert_eq!(device.limits().max_transfer_bytes, 16 << 10);
    Client::new(&device, 0).read(0, 64 << 10).unwrap();
}
