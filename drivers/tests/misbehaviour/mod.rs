//! Back-ends that misbehave: a test for each [`Fault`] shows the outcome that its documentation states.
//!
//! Those for `WrongId`, `EndsTwice`, `WrongLength`, `NoData` and `Stalls` are beside the other tests of the driver.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drivers::testing::{Client, conformance};
use drivers::{Completion, Errno, Operation, Outcome, Request, RequestFlags, Started};

use crate::fixtures::backend::{Backend, Fault, Kind, Protocol};
use crate::fixtures::start;
use crate::{Backends, connect, faulty};

const PLAIN: RequestFlags = RequestFlags { fua: false, no_unmap: false, fast: false };

/// Kinds of the conformance suite with this fault.
fn kind(fault: Fault) -> Kind {
    Kind { fault, queues: 4, ..Kind::default() }
}

/// Why a device on such a back-end cannot be connected or started.
fn refusal(kind: Kind) -> String {
    let backend = Backend::start(kind);
    let words = ["virtio-blk-vhost-user".to_owned(), format!("path={}", backend.path)];
    start(&words, 1).err().expect("it cannot be started").to_string()
}

/// Reads of one block each, all in flight together.
fn reads(client: &mut Client, count: u64) -> Vec<Request> {
    (0..count)
        .map(|index| {
            let lease = client.lease(4096);
            client.request(Operation::Read(lease), index * 4096, 4096, PLAIN)
        })
        .collect()
}

fn is_good(completion: &Completion) -> bool {
    matches!(completion.result, Ok(Outcome::Done))
}

/// Submits one read and looks at nothing.
fn send_read(client: &mut Client) {
    let mut todo = VecDeque::from(reads(client, 1));
    client.queue.submit(&mut todo).unwrap();
    assert!(todo.is_empty());
}

fn fails_its_queue(fault: Fault) {
    let (_backend, mut client) = faulty(fault);
    assert_eq!(client.read(0, 4096), Err(Errno::IO));
    let dead = client.queue.submit(&mut VecDeque::new()).unwrap_err();
    assert!(dead.reason.contains("broke the rules of its queue"), "{dead}");
    assert_eq!(client.queue.in_flight(), 0);
    assert!(client.pool.lent_bytes() > 0, "the device may still write to what it was lent");
}

#[test]
fn index_ahead_fails_the_queue() {
    fails_its_queue(Fault::IndexAhead);
}

#[test]
fn index_back_fails_the_queue() {
    fails_its_queue(Fault::IndexBack);
}

#[test]
fn no_status_fails_requests_and_leaves_the_queue_alive() {
    let (_backend, mut client) = faulty(Fault::NoStatus);
    for _ in 0..3 {
        assert_eq!(client.read(0, 4096), Err(Errno::IO));
        assert_eq!(client.write(0, &[1; 4096], PLAIN), Err(Errno::IO));
    }
    assert!(client.queue.submit(&mut VecDeque::new()).is_ok());
}

#[test]
fn out_of_order_conforms() {
    conformance(&Backends::new("answers the last first", kind(Fault::OutOfOrder), &[]));
}

#[test]
fn out_of_order_answers_are_matched_with_their_requests() {
    let (backend, mut client) = faulty(Fault::OutOfOrder);
    for index in 0..32_u8 {
        client.write(u64::from(index) * 4096, &[index + 1; 4096], PLAIN).unwrap();
    }
    let requests = reads(&mut client, 32);
    let mut done = Vec::new();
    client.submit(requests, &mut done);
    while client.waiting() > 0 {
        client.wait(&mut done);
    }
    let ids: Vec<u64> = done.iter().map(|completion| completion.id.0).collect();
    assert!(!ids.is_sorted(), "they came out of order: {ids:?}");
    done.sort_by_key(|completion| completion.id.0);
    for (completion, expected) in done.iter().zip(1_u8..) {
        assert!(is_good(completion));
        let mut bytes = [0; 4096];
        completion.lease.as_ref().unwrap().slice(0, 4096).copy_to(&mut bytes[..]);
        assert!(bytes.iter().all(|byte| *byte == expected), "read {expected}");
    }
    assert_eq!(backend.bytes()[..4096], [1; 4096]);
}

#[test]
fn late_answers_are_answers() {
    let (_backend, mut client) = faulty(Fault::Late(50));
    client.write(0, &[7; 8192], PLAIN).unwrap();
    assert_eq!(client.read(0, 8192), Ok(vec![7; 8192]));
    let started = Instant::now();
    let requests = reads(&mut client, 16);
    assert!(client.run(requests).iter().all(is_good));
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(50), "{took:?}: late");
    assert!(took < Duration::from_millis(16 * 50), "{took:?}: but all of them together");
}

#[test]
fn stalls_after_keeps_requests_in_flight_and_the_end_bounded() {
    let (_backend, mut client) = faulty(Fault::StallsAfter(3));
    assert!(client.read(0, 4096).is_ok() && client.read(0, 4096).is_ok(), "after the serial number");
    send_read(&mut client);
    let mut done = Vec::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(300) {
        client.queue.reap(&mut done);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(done.is_empty());
    assert_eq!(client.queue.in_flight(), 1, "it may still come");
    assert!(!client.queue.is_dead(), "nothing says that it will not");
    let Client { queue, pool, .. } = client;
    let lent_bytes = pool.lent_bytes();
    let ending = Instant::now();
    drop(queue);
    assert!(ending.elapsed() < Duration::from_secs(30), "the end waits no longer than it must");
    assert_eq!(pool.lent_bytes(), lent_bytes, "the memory is given up");
}

#[test]
fn dies_after_fails_what_is_in_flight_and_what_comes() {
    let (_backend, mut client) = faulty(Fault::DiesAfter(3));
    let good = (0..10).take_while(|index| client.read(index * 4096, 4096).is_ok()).count();
    assert_eq!(good, 2, "one was the serial number");
    assert_eq!(client.queue.in_flight(), 0);
    assert!(client.queue.submit(&mut VecDeque::new()).unwrap_err().reason.contains("is gone"));
}

#[test]
fn no_calls_is_nothing_to_polled_queues() {
    conformance(&Backends::new("never calls", kind(Fault::NoCalls), &["num-poll-queues=4"]));
}

#[test]
fn no_calls_leaves_a_request_in_flight_until_somebody_looks() {
    let (_backend, mut client) = faulty(Fault::NoCalls);
    send_read(&mut client);
    let mut done = Vec::new();
    while client.queue.arm() {
        client.queue.reap(&mut done);
    }
    if done.is_empty() {
        let event = client.queue.event().expect("the queue is not polled");
        let is_called = drivers::sys::poll::readable(event, 300).unwrap();
        assert!(!is_called, "nobody calls");
        assert_eq!(client.queue.in_flight(), 1);
        client.queue.reap(&mut done);
    }
    assert!(is_good(&done[0]), "the answer was there all the time");
    assert_eq!(client.queue.in_flight(), 0);
}

#[test]
fn no_calls_does_not_hold_the_end_up() {
    let (_backend, mut client) = faulty(Fault::NoCalls);
    send_read(&mut client);
    let ending = Instant::now();
    drop(client);
    assert!(ending.elapsed() < Duration::from_secs(5), "the end looks by itself");
}

#[test]
fn late_calls_wake_all_the_same() {
    let (_backend, mut client) = faulty(Fault::LateCalls(50));
    client.write(4096, &[3; 4096], PLAIN).unwrap();
    assert_eq!(client.read(4096, 4096), Ok(vec![3; 4096]));
    let requests = reads(&mut client, 16);
    assert!(client.run(requests).iter().all(is_good));
}

#[test]
fn short_config_is_taken_as_far_as_it_goes() {
    for (bytes, discards) in [(8, false), (47, false), (48, true), (59, true)] {
        let backend = Backend::start(kind(Fault::ShortConfig(bytes)));
        let device = connect(&backend, &[], 1);
        assert_eq!(device.limits().capacity_bytes, Kind::default().capacity_bytes, "{bytes}");
        assert_eq!(device.limits().discard.is_some(), discards, "{bytes}");
        assert!(device.limits().write_zeroes.is_none(), "{bytes}");
        assert!(Client::new(&device, 0).read(0, 4096).is_ok(), "{bytes}");
    }
}

#[test]
fn short_config_without_a_capacity_is_refused() {
    for bytes in [0, 7] {
        let said = refusal(kind(Fault::ShortConfig(bytes)));
        assert!(said.contains("configuration") && !said.contains("has not answered"), "{bytes}: {said}");
    }
}

#[test]
fn config_storm_is_borne() {
    let backend = Backend::start(kind(Fault::ConfigStorm(10_000)));
    let device = connect(&backend, &[], 2);
    assert!(device.limits().can_grow, "there is a channel for it");
    let mut client = Client::new(&device, 0);
    for round in 0..200 {
        let requests = reads(&mut client, 16);
        assert!(client.run(requests).iter().all(is_good), "round {round}");
    }
    assert_eq!(device.next_event(), None, "nothing has changed");
}

#[test]
fn closes_during_the_negotiation_is_told() {
    let said = refusal(kind(Fault::Closes));
    assert!(said.contains("read the configuration") && said.contains("closed the connection"), "{said}");
}

#[test]
fn silent_during_the_negotiation_is_bounded() {
    let started = Instant::now();
    let said = refusal(kind(Fault::Silent));
    assert!(said.contains("has not answered for"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_back_end_without_config_needs_to_be_told_the_size() {
    for protocol in [Protocol { config: false, ..Protocol::FULL }, Protocol { any: false, ..Protocol::FULL }]
    {
        let said = refusal(Kind { protocol, ..Kind::default() });
        assert!(said.contains("protocol feature CONFIG") && said.contains("size=BYTES"), "{said}");
        let backend = Backend::start(Kind { protocol, ..Kind::default() });
        let device = connect(&backend, &["size=1M"], 1);
        assert_eq!(device.limits().capacity_bytes, 1 << 20);
        let mut client = Client::new(&device, 0);
        client.write((1 << 20) - 4096, &[9; 4096], PLAIN).unwrap();
        assert_eq!(client.read((1 << 20) - 4096, 4096), Ok(vec![9; 4096]), "{protocol:?}");
    }
}

/// A device of one queue and what it says of its queues.
fn with_protocol(protocol: Protocol) -> (Backend, Arc<dyn Started>) {
    let backend = Backend::start(Kind { protocol, queues: 4, ..Kind::default() });
    let device = connect(&backend, &[], 4);
    (backend, device)
}

#[test]
fn a_back_end_without_mq_has_one_queue() {
    let (_backend, device) = with_protocol(Protocol { mq: false, ..Protocol::FULL });
    assert_eq!(device.queues(), 1);
    assert!(Client::new(&device, 0).read(0, 4096).is_ok());
}

#[test]
fn a_back_end_without_reply_ack_works() {
    let (_backend, device) = with_protocol(Protocol { reply_ack: false, ..Protocol::FULL });
    assert_eq!(device.queues(), 4);
    for index in 0..4 {
        assert!(Client::new(&device, index).read(0, 4096).is_ok(), "queue {index}");
    }
}
