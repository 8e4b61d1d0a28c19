//! The `nvme-vfio-pci` driver on controllers that misbehave: a test for each fault shows what comes of it. Before the
//! disk is in service that is one clear error. In service a command that fails is the matter of its request; a
//! controller that cannot be trusted any more is reset, and what was in flight is sent again, once. One that cannot be
//! reset is dead: all requests end with input/output errors. The controller notes whatever the driver does against the
//! rules, which fails a test as well.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drivers::testing::Client;
use drivers::testing::client::PLAIN;
use drivers::testing::nvme::{Act, Fault, Kind, Mishap, Topic, opcode};
use drivers::{Completion, Errno, Event, Operation, Started};
use fixtures::nvme::{Bed, PATIENCE};
use fixtures::pci::until;

/// The controller cannot be started, for a reason that has these words, and is let go.
fn is_refused(kind: Kind, words: &str) {
    let bed = Bed::new(kind);
    let started = Instant::now();
    let refusal = bed.start(&[], 1).err().expect("it cannot be started").to_string();
    assert!(refusal.contains(words) && refusal.contains("the NVMe controller of a test"), "{refusal}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(bed.0.is_released(), "it is let go");
}

#[test]
fn what_is_no_disk_is_refused() {
    let of = |fault: Fault| Kind { fault, ..Kind::default() };
    let sized = |block_exponent: u8| Kind { block_exponent, capacity_bytes: 4 << 20, ..Kind::default() };
    let table = [
        (Kind { class: [0x02, 0x06, 0x01], ..Kind::default() }, "is no NVMe controller, but 1b36:0010"),
        (of(Fault::NotThere), "does not answer"),
        (of(Fault::NoRegisters), "does not answer"),
        (of(Fault::OtherCommandSet), "does not have the NVM command set"),
        (of(Fault::NoMaps), "cannot let the NVMe controller of a test reach memory"),
        (of(Fault::NeverReady), "has not started for"),
        (of(Fault::NeverStops), "has not stopped for"),
        (of(Fault::StopsByReset), "has not stopped for"),
        (of(Fault::FatalStart), "is in a fatal state"),
        (of(Fault::AdminHangs), "does not identify itself: it does not answer"),
        (of(Fault::AdminFails(0x06)), "does not identify itself: internal error"),
        (of(Fault::AdminFails(0x09)), "does not grant queues: internal error"),
        (of(Fault::AdminFails(0x05)), "does not make a queue: internal error"),
        (of(Fault::AdminFails(0x01)), "does not make a queue: internal error"),
        (of(Fault::NoNamespace), "has no namespaces"),
        (of(Fault::CommandSet(2)), "is zoned"),
        (of(Fault::CommandSet(1)), "is a key value namespace"),
        (of(Fault::Metadata(8)), "8 bytes of metadata"),
        (of(Fault::Protection(1)), "protection information of type 1"),
        (sized(8), "an impossible block size of 2^8"),
        (sized(21), "an impossible block size of 2^21"),
        (Kind { entries: 1, ..Kind::default() }, "has capabilities that cannot be"),
    ];
    for (kind, words) in table {
        is_refused(kind, words);
    }
}

/// A controller that lies cannot be started, for a reason that has these words.
fn is_refused_with(kind: Kind, lie: impl Fn(&Bed), words: &str) {
    let bed = Bed::new(kind);
    lie(&bed);
    let refusal = bed.start(&[], 1).err().expect("it cannot be started").to_string();
    assert!(refusal.contains(words) && refusal.contains("the NVMe controller of a test"), "{refusal}");
    assert!(bed.0.is_released(), "it is let go");
}

#[test]
fn what_it_says_of_itself_and_cannot_be_is_refused() {
    let (namespace, controller, descriptors) = (Topic::Identity(0), Topic::Identity(1), Topic::Identity(3));
    for (topic, at, byte, words) in [
        (controller, 111, 2, "is a discovery controller, and serves no disks"),
        (controller, 111, 3, "is an administrative controller, and serves no disks"),
        (controller, 111, 4, "is a controller of an unknown kind"),
        (controller, 512, 0x55, "reports impossible sizes of queue entries"),
        (controller, 513, 0x55, "reports impossible sizes of queue entries"),
        (namespace, 7, 0xff, "the device reports an impossible capacity"),
        (namespace, 6, 0x40, "the device reports an impossible capacity"),
        (descriptors, 24, 9, "has the unknown command set 9"),
    ] {
        is_refused_with(Kind::default(), |bed| bed.0.say(topic, at, byte), words);
    }
    // Blocks that are longer than the longest transfer.
    let long = Kind { mdts: 1, block_exponent: 14, ..Kind::default() };
    is_refused_with(long, |_| {}, "the device reports an impossible maximum transfer of 0");
}

#[test]
fn registers_that_cannot_be_are_refused() {
    for (at, value, words) in [
        // Pages of 128 KiB at least; doorbells 128 KiB apart.
        (4, 0x0005_0020, "has capabilities that cannot be"),
        (4, 0x0000_002f, "bytes at 0x1000 of BAR 0"),
        (0x1c, u32::MAX, "does not answer"),
    ] {
        is_refused_with(Kind::default(), |bed| bed.0.show(at, value, u32::MAX), words);
    }
}

#[test]
fn answers_of_administration_that_cannot_be_are_refused() {
    const IDENTIFY: u8 = 6;
    for (block, act, words) in [
        (Some(1), Act::Twice, "broke the rules of its queue: it ended command"),
        (Some(1), Act::Stranger, "broke the rules of its queue: it ended command 0xffff"),
        (Some(1), Act::Hold, "does not identify itself: it does not answer"),
        // Nobody needs the descriptors of a namespace, but nothing is asked after that.
        (Some(3), Act::Hold, "does not grant queues: it did not answer before"),
    ] {
        let mishap = Mishap { opcode: IDENTIFY, block, times: 1, act };
        is_refused_with(Kind::default(), |bed| bed.0.admin_mishap(mishap), words);
    }
}

#[test]
fn a_disk_that_is_read_only_is_not_served_for_writing() {
    let bed = Bed::new(Kind { read_only: true, ..Kind::default() });
    let refusal = bed.connect(&["read-only=false"], PATIENCE).err().unwrap().to_string();
    assert!(refusal.contains("is read-only (leave out read-only=false)"), "{refusal}");
    let mut service = Service::new(Kind { read_only: true, ..Kind::default() }, &[]);
    assert_eq!(service.client.write(0, &[1; 4096], PLAIN), Err(Errno::READ_ONLY));
}

#[test]
fn a_queue_is_had_once() {
    let service = Service::new(Kind::default(), &[]);
    let refusal = service.device.queue(0).err().expect("somebody has it").to_string();
    assert!(refusal.contains("queue 0 of the NVMe controller of a test is in use"), "{refusal}");
}

#[test]
fn doorbells_in_memory_that_are_not_taken_are_refused() {
    let fault = Fault::AdminFails(0x7c);
    is_refused(Kind { shadow: true, fault, ..Kind::default() }, "does not take doorbells in memory");
}

#[test]
fn a_health_log_that_is_not_told_is_no_matter() {
    let bed = Bed::new(Kind { fault: Fault::AdminFails(0x02), ..Kind::default() });
    Client::new(&bed.start(&[], 1).unwrap(), 0).read(0, 4096).unwrap();
}

#[test]
fn a_namespace_that_is_not_active_is_refused() {
    let bed = Bed::new(Kind { fault: Fault::NoNamespace, ..Kind::default() });
    let refusal = bed.start(&["namespace=1"], 1).err().unwrap().to_string();
    assert!(refusal.contains("is not there, or has no blocks"), "{refusal}");
}

/// A controller in service.
struct Service {
    bed: Bed,
    device: Arc<dyn Started>,
    client: Client,
    events: Vec<Event>,
}

/// What the leases of reads hold before.
const BEFORE: [u8; 4096] = [0xa5; 4096];

/// Statuses as commands end with them: type and code, do not retry.
const READ_ERROR: u16 = 0x281;
const NOT_READY: u16 = 0x082;
const DO_NOT_RETRY: u16 = 1 << 14;

impl Service {
    fn new(kind: Kind, words: &[&str]) -> Service {
        let bed = Bed::new(kind);
        let device = bed.start(words, 1).unwrap();
        let client = Client::new(&device, 0);
        Service { bed, device, client, events: Vec::new() }
    }

    fn mishap(&self, opcode: u8, block: Option<u64>, times: u32, act: Act) {
        self.bed.0.mishap(Mishap { opcode, block, times, act });
    }

    /// Reads of the first pages, one request each, are given to the queue.
    fn send_reads(&mut self, count: u64, done: &mut Vec<Completion>) {
        let requests = (0..count)
            .map(|page| {
                let lease = self.client.lease(4096);
                lease.slice(0, 4096).copy_from(&BEFORE[..]);
                self.client.request(Operation::Read(lease), page * 4096, 4096, PLAIN)
            })
            .collect();
        self.client.submit(requests, done);
    }

    /// Takes what ends until there are so many, as a worker does that looks at its queue now and then.
    fn finish(&mut self, count: usize, done: &mut Vec<Completion>) {
        until("everything ends", || {
            self.client.queue.reap(done);
            self.events.extend(self.device.next_event());
            done.len() == count
        });
        done.sort_by_key(|completion| completion.id.0);
    }

    /// What becomes of reads of the first pages. What succeeds has read.
    fn reads(&mut self, count: u64) -> Vec<Option<Errno>> {
        let mut done = Vec::new();
        self.send_reads(count, &mut done);
        self.finish(count as usize, &mut done);
        check(&done);
        done.iter().map(|completion| completion.result.as_ref().err().copied()).collect()
    }

    /// Waits for an event.
    fn sees(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) {
        until(what, || {
            self.events.extend(self.device.next_event());
            self.events.iter().any(&is_it)
        });
    }

    /// It was reset so many times, and goes on.
    fn was_reset(&mut self, times: u32) {
        let resumed = |events: &[Event]| events.iter().filter(|event| **event == Event::Resumed).count();
        let mut done = Vec::new();
        until("it is reset", || {
            self.client.queue.reap(&mut done);
            self.events.extend(self.device.next_event());
            resumed(&self.events) == times as usize
        });
        assert_eq!(self.bed.0.starts(), 1 + times);
        assert!(!self.events.iter().any(|event| matches!(event, Event::Dead { .. })), "{:?}", self.events);
        self.bed.0.no_mishaps();
        assert_eq!(self.reads(4), [None; 4]);
    }

    /// It is dead, for a reason that has these words, and is let go.
    fn ends_dead(mut self, words: &str) {
        self.sees("it is dead", |event| matches!(event, Event::Dead { reason } if reason.contains(words)));
        until("the queue knows", || {
            self.client.queue.submit(&mut std::collections::VecDeque::new()).is_err()
        });
        until("it is let go", || self.bed.0.is_released());
        assert_eq!(self.client.pool.lent_bytes(), 0);
    }
}

/// What succeeded has read the zeroes of the disk; what failed has written nothing.
fn check(done: &[Completion]) {
    for completion in done {
        let mut bytes = [1; 4096];
        completion.lease.as_ref().expect("leases come back").slice(0, 4096).copy_to(&mut bytes[..]);
        let is_read = completion.result.is_ok();
        assert!(bytes == if is_read { [0; 4096] } else { BEFORE }, "{:?}", completion.result);
    }
}

/// With interrupts and polled; doorbells in registers and in memory.
fn kinds() -> impl Iterator<Item = Kind> {
    [(2, false), (0, false), (2, true)].into_iter().map(|(vectors, shadow)| Kind {
        vectors,
        shadow,
        ..Kind::default()
    })
}

#[test]
fn an_error_of_the_medium_fails_its_request_only() {
    for kind in kinds() {
        let mut service = Service::new(kind, &[]);
        service.mishap(opcode::READ, Some(16), u32::MAX, Act::Status(READ_ERROR | DO_NOT_RETRY));
        assert_eq!(service.reads(4), [None, None, Some(Errno::IO), None]);
        assert_eq!(service.bed.0.commands(false), 4, "it is not tried again");
    }
}

#[test]
fn each_command_may_fail() {
    let mut service = Service::new(Kind::default(), &[]);
    let failed = |service: &Service, opcode: u8, status: u16| {
        service.mishap(opcode, None, 1, Act::Status(status | DO_NOT_RETRY));
    };
    failed(&service, opcode::WRITE, 0x081);
    assert_eq!(service.client.write(0, &[1; 4096], PLAIN), Err(Errno::NO_SPACE));
    failed(&service, opcode::FLUSH, 0x006);
    assert_eq!(service.client.flush(), Err(Errno::IO));
    failed(&service, opcode::WRITE_ZEROES, 0x020);
    assert_eq!(service.client.zero(0, 4096, PLAIN), Err(Errno::READ_ONLY));
    failed(&service, opcode::DATASET_MANAGEMENT, 0x002);
    assert_eq!(service.client.discard(0, 4096), Err(Errno::INVALID));
    assert_eq!(service.reads(2), [None; 2]);
}

#[test]
fn what_may_succeed_later_is_tried_again() {
    for kind in kinds() {
        let mut service = Service::new(kind, &[]);
        service.mishap(opcode::READ, Some(0), 3, Act::Status(NOT_READY));
        assert_eq!(service.reads(2), [None; 2]);
        assert_eq!(service.bed.0.commands(false), 5);
    }
}

#[test]
fn what_never_succeeds_is_not_tried_for_ever() {
    for kind in kinds() {
        let mut service = Service::new(kind, &[]);
        service.mishap(opcode::READ, Some(0), u32::MAX, Act::Status(NOT_READY));
        assert_eq!(service.reads(2), [Some(Errno::IO), None]);
        assert_eq!(service.bed.0.commands(false), 2 + 5, "five tries more");
    }
}

#[test]
fn a_pause_that_the_controller_asks_for_is_made() {
    for timeout in ["request-timeout=2", "request-timeout=forever"] {
        let kind = Kind { retry_delays: [0, 15, 0], ..Kind::default() };
        let mut service = Service::new(kind, &[timeout]);
        service.mishap(opcode::READ, Some(0), 1, Act::Status(NOT_READY | 2 << 11));
        let started = Instant::now();
        assert_eq!(service.reads(1), [None]);
        assert!(started.elapsed() >= Duration::from_millis(1500), "{:?}", started.elapsed());
        assert_eq!(service.bed.0.starts(), 1);
    }
}

#[test]
fn pauses_that_are_longer_than_the_timeout_are_not_made() {
    for kind in kinds() {
        // 0.9 s, and nearly two hours.
        let mut service = Service::new(Kind { retry_delays: [0, 9, 0xffff], ..kind }, &["request-timeout=2"]);
        let commands = |service: &Service| service.bed.0.commands(false);
        let started = Instant::now();
        service.mishap(opcode::READ, Some(0), u32::MAX, Act::Status(NOT_READY | 3 << 11));
        assert_eq!(service.reads(2), [Some(Errno::IO), None]);
        assert_eq!(commands(&service), 2);
        assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
        service.bed.0.no_mishaps();
        service.mishap(opcode::READ, Some(0), u32::MAX, Act::Status(NOT_READY | 2 << 11));
        assert_eq!(service.reads(1), [Some(Errno::IO)]);
        assert_eq!(commands(&service), 2 + 3, "there is time for two pauses");
        assert_eq!(service.bed.0.starts(), 1);
    }
}

#[test]
fn what_is_late_is_waited_for() {
    for kind in kinds() {
        let mut service = Service::new(kind, &["request-timeout=5"]);
        service.mishap(opcode::READ, Some(8), 1, Act::Late(Duration::from_millis(300)));
        assert_eq!(service.reads(4), [None; 4]);
        assert_eq!(service.bed.0.starts(), 1);
    }
}

#[test]
fn a_command_that_does_not_end_is_sent_again_after_a_reset() {
    for kind in kinds() {
        let mut service = Service::new(kind, &["request-timeout=1"]);
        service.mishap(opcode::READ, Some(8), 1, Act::Hold);
        assert_eq!(service.reads(4), [None; 4]);
        service.was_reset(1);
    }
}

#[test]
fn a_command_that_does_not_end_after_a_reset_either_fails() {
    let mut service = Service::new(Kind::default(), &["request-timeout=1"]);
    service.mishap(opcode::READ, Some(8), u32::MAX, Act::Hold);
    assert_eq!(service.reads(4), [None, Some(Errno::IO), None, None]);
    service.was_reset(2);
}

#[test]
fn completions_that_cannot_be_lead_to_a_reset() {
    for kind in kinds() {
        for act in [Act::Twice, Act::Stranger] {
            let mut service = Service::new(kind, &[]);
            service.mishap(opcode::READ, Some(8), 1, act);
            assert_eq!(service.reads(4), [None; 4], "{act:?}");
            service.was_reset(1);
        }
    }
}

#[test]
fn a_controller_that_needs_a_reset_all_the_time_is_dead() {
    let mut service = Service::new(Kind::default(), &[]);
    for _ in 0..5 {
        service.mishap(opcode::READ, Some(0), 1, Act::Stranger);
        assert_eq!(service.reads(1), [None]);
    }
    service.mishap(opcode::READ, Some(0), 1, Act::Stranger);
    let mut done = Vec::new();
    service.send_reads(1, &mut done);
    service.finish(1, &mut done);
    assert_eq!(done.remove(0).result.unwrap_err(), Errno::IO);
    service.ends_dead("after 5 resets within a minute");
}

#[test]
fn a_fatal_state_leads_to_a_reset() {
    for kind in kinds() {
        let mut service = Service::new(kind, &[]);
        service.mishap(opcode::READ, None, 4, Act::Hold);
        let mut done = Vec::new();
        service.send_reads(4, &mut done);
        until("it has them", || service.bed.0.commands(false) == 4);
        service.bed.0.go_fatal();
        service.finish(4, &mut done);
        check(&done);
        assert!(done.iter().all(|completion| completion.result.is_ok()), "{done:?}");
        service.was_reset(1);
    }
}

#[test]
fn a_controller_that_somebody_else_reset_is_started_again() {
    let mut service = Service::new(Kind::default(), &[]);
    service.bed.0.halt();
    assert_eq!(service.reads(4), [None; 4]);
    service.was_reset(1);
}

#[test]
fn commands_of_administration_that_do_not_end_lead_to_a_reset() {
    let mut service = Service::new(Kind::default(), &[]);
    service.bed.0.fault(Fault::AdminHangs);
    service.sees("it is reset", |event| matches!(event, Event::Suspended { .. }));
    service.bed.0.fault(Fault::None);
    service.was_reset(1);
}

#[test]
fn a_controller_that_stops_only_by_a_reset_of_the_function_goes_on() {
    let mut service = Service::new(Kind::default(), &["request-timeout=1"]);
    service.mishap(opcode::READ, Some(8), 1, Act::Hold);
    service.bed.0.fault(Fault::StopsByReset);
    assert_eq!(service.reads(4), [None; 4]);
    service.was_reset(1);
    // It would not end in order.
    service.bed.0.fault(Fault::None);
}

/// Four requests that the controller holds end with errors, and it is dead.
fn dies(kind: Kind, words: &[&str], befall: impl Fn(&Bed), reason: &str) {
    let mut service = Service::new(kind, words);
    service.mishap(opcode::READ, None, u32::MAX, Act::Hold);
    let mut done = Vec::new();
    service.send_reads(4, &mut done);
    until("it has them", || service.bed.0.commands(false) == 4);
    befall(&service.bed);
    service.finish(4, &mut done);
    assert!(done.iter().all(|completion| completion.result.as_ref().err() == Some(&Errno::IO)), "{done:?}");
    // A controller that is not under control may still write to what it knows, which is not ours any more.
    until("it is let go", || service.bed.0.is_released());
    check(&done);
    drop(done);
    service.ends_dead(reason);
}

#[test]
fn a_controller_that_is_pulled_out_fails_requests() {
    for kind in kinds() {
        dies(kind, &[], |bed| bed.0.vanish(), "does not answer any more");
    }
}

#[test]
fn a_controller_that_the_system_wants_back_is_let_go() {
    for kind in kinds() {
        dies(kind, &[], |bed| bed.0.want_back(), "is wanted back by the system");
    }
}

#[test]
fn a_bus_that_breaks_fails_requests() {
    dies(Kind::default(), &[], |bed| bed.0.break_bus(), "had an error on the bus");
}

#[test]
fn a_controller_that_does_not_stop_is_dead() {
    for kind in kinds() {
        let befall = |bed: &Bed| bed.0.fault(Fault::NeverStops);
        dies(kind, &["request-timeout=1"], befall, "and a reset does not help");
    }
}

#[test]
fn a_controller_that_does_not_start_again_is_dead() {
    for (fault, reason) in [
        (Fault::NeverReady, "has not started for"),
        (Fault::FatalStart, "is in a fatal state"),
        (Fault::AdminFails(6), "does not identify itself"),
        (Fault::AdminFails(1), "does not make a queue"),
        (Fault::OtherSerial, "is another disk than before"),
        (Fault::NoNamespace, "is not there, or has no blocks"),
    ] {
        dies(Kind::default(), &["request-timeout=1"], |bed| bed.0.fault(fault), reason);
    }
}

#[test]
fn a_controller_that_is_another_one_after_a_reset_is_dead() {
    let timeout = &["request-timeout=1"];
    let befall = |bed: &Bed| bed.0.say(Topic::Identity(0), 130, 12);
    dies(Kind::default(), timeout, befall, "is another disk than before");
    let bed = Bed::new(Kind { queues: 2, vectors: 3, ..Kind::default() });
    let device = bed.start(&[], 2).unwrap();
    assert_eq!(device.queues(), 2);
    bed.0.grant(0);
    bed.0.go_fatal();
    until("it is dead", || match device.next_event() {
        Some(Event::Dead { reason }) => reason.contains("grants fewer queues than before"),
        _ => false,
    });
}

#[test]
fn a_controller_that_does_not_shut_down_is_let_go() {
    let service = Service::new(Kind::default(), &[]);
    service.bed.0.fault(Fault::NeverShutsDown);
    let Service { bed, device, client, .. } = service;
    let started = Instant::now();
    drop((device, client));
    assert!(bed.0.is_stopped(), "it is stopped all the same");
    assert!(bed.0.is_released() && started.elapsed() < PATIENCE + Duration::from_secs(2));
}

#[test]
fn a_controller_that_is_not_started_is_let_go() {
    let bed = Bed::new(Kind::default());
    let connected = bed.connect(&[], PATIENCE).unwrap();
    assert!(!bed.0.is_released());
    drop(connected);
    assert!(bed.0.is_released() && bed.0.was_shut_down());
}

#[test]
fn a_queue_that_ends_with_requests_in_flight_waits_no_longer_than_its_controller_lives() {
    let mut service = Service::new(Kind::default(), &[]);
    service.mishap(opcode::READ, None, u32::MAX, Act::Hold);
    service.send_reads(4, &mut Vec::new());
    service.bed.0.want_back();
    let Service { bed, device, client, .. } = service;
    let started = Instant::now();
    drop((client, device));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    until("it is let go", || bed.0.is_released());
}

#[test]
fn memory_stays_on_loan_when_a_queue_is_closed_while_its_controller_is_stopped() {
    let mut service = Service::new(Kind::default(), &["request-timeout=1"]);
    service.mishap(opcode::READ, None, u32::MAX, Act::Hold);
    service.bed.0.fault(Fault::StopsByReset);
    service.send_reads(4, &mut Vec::new());
    let mut done = Vec::new();
    until("it is being reset", || {
        service.client.queue.reap(&mut done);
        matches!(service.device.next_event(), Some(Event::Suspended { .. }))
    });
    service.client.queue.reap(&mut done);
    let Service { bed, device, client, .. } = service;
    let Client { queue, pool, .. } = client;
    drop(queue);
    assert!(done.is_empty());
    assert_eq!(pool.lent_bytes(), 4 * 4096);
    until("it is started again", || device.next_event() == Some(Event::Resumed));
    bed.0.fault(Fault::None);
    drop(device);
    assert!(bed.0.is_released());
}

/// Writes and reads back, in its own part of the disk, until it is enough.
fn works(device: &Arc<dyn Started>, index: usize, rounds: &AtomicU64, is_enough: &AtomicBool) {
    let mut client = Client::new(device, index);
    let start = index as u64 * (64 << 10);
    while !is_enough.load(Ordering::Relaxed) {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        let bytes = vec![(round % 251) as u8; 32 << 10];
        client.write(start, &bytes, PLAIN).unwrap();
        assert!(client.read(start, bytes.len()).unwrap() == bytes, "round {round} of queue {index}");
    }
}

/// It is enough, even if a test has failed.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Four queues, one of them polled, that are reset three times. What is in flight may be sent again once, so all of
/// them have to get something done between two resets.
fn goes_on(shadow: bool) {
    let bed = Bed::new(Kind { queues: 4, vectors: 5, shadow, ..Kind::default() });
    let device = bed.start(&["num-poll-queues=1"], 4).unwrap();
    let is_enough = AtomicBool::new(false);
    let rounds = [const { AtomicU64::new(0) }; 4];
    let work_goes_on = || {
        let before = rounds.each_ref().map(|rounds| rounds.load(Ordering::Relaxed));
        until("work goes on", || {
            rounds.iter().zip(before).all(|(now, before)| now.load(Ordering::Relaxed) > before + 2)
        });
    };
    std::thread::scope(|scope| {
        let _end = End(&is_enough);
        for (index, rounds) in rounds.iter().enumerate() {
            let (device, is_enough) = (&device, &is_enough);
            scope.spawn(move || works(device, index, rounds, is_enough));
        }
        for _ in 0..3 {
            work_goes_on();
            bed.0.go_fatal();
            until("it is started again", || device.next_event() == Some(Event::Resumed));
        }
        work_goes_on();
    });
    assert_eq!(bed.0.starts(), 4);
}

#[test]
fn work_goes_on_through_resets() {
    goes_on(false);
    goes_on(true);
}
