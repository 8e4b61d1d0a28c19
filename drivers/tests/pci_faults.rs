//! The `virtio-blk-vfio-pci` driver on disks that misbehave: a test for each fault shows what comes of it. Before the
//! device is in service that is one clear error; in service all requests end with input/output errors and the device is
//! let go. The device notes whatever the driver does against the rules, which fails a test as well.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod fixtures;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drivers::testing::Client;
use drivers::testing::feature::{ACCESS_PLATFORM, BLK_SIZE, RING_PACKED, VERSION_1};
use drivers::testing::pci::{Fault, Kind};
use drivers::{Completion, Errno, Event, Operation, Request, RequestFlags, Settings, StartOptions, Started};
use fixtures::pci::{Bed, PATIENCE, until};

const PLAIN: RequestFlags = RequestFlags { fua: false, no_unmap: false, fast: false };

/// The device cannot be started, for a reason that has these words, and is let go.
fn is_refused(kind: Kind, words: &str) {
    let bed = Bed::new(kind);
    let started = Instant::now();
    let refusal = bed.start(&[], 1).err().expect("it cannot be started").to_string();
    assert!(refusal.contains(words) && refusal.contains("the PCI device of a test"), "{refusal}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(bed.0.is_released(), "it is let go");
}

fn fault_is_refused(fault: Fault, words: &str) {
    is_refused(Kind { fault, ..Kind::default() }, words);
}

#[test]
fn another_vendor_is_refused() {
    is_refused(Kind { id: (0x8086, 0x1042), ..Kind::default() }, "is no virtio device, but 8086:1042");
}

#[test]
fn another_number_of_the_vendor_is_refused() {
    is_refused(Kind { id: (0x1af4, 0x1110), ..Kind::default() }, "is no virtio device, but 1af4:1110");
}

#[test]
fn network_devices_are_refused() {
    is_refused(Kind { id: (0x1af4, 0x1041), ..Kind::default() }, "a virtio device of type 1, and no disk");
    is_refused(Kind { id: (0x1af4, 0x1000), ..Kind::default() }, "and no disk");
}

#[test]
fn a_device_with_the_old_interface_only_is_refused() {
    let kind = Kind { id: (0x1af4, 0x1001), fault: Fault::NoCapabilities, ..Kind::default() };
    is_refused(kind, "legacy-only");
}

#[test]
fn no_capabilities_are_refused() {
    fault_is_refused(Fault::NoCapabilities, "lacks the structures of a virtio 1 device");
}

#[test]
fn a_loop_of_capabilities_is_refused() {
    fault_is_refused(Fault::CapabilityLoop, "lacks the structures of a virtio 1 device");
}

#[test]
fn a_structure_outside_of_its_memory_is_refused() {
    fault_is_refused(Fault::StructureOutside, "has no 16440 bytes at 0x0 of BAR 4");
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    fault_is_refused(Fault::NotThere, "does not answer");
}

#[test]
fn registers_that_do_not_answer_are_refused() {
    fault_is_refused(Fault::NoRegisters, "does not answer");
}

#[test]
fn a_device_without_version_1_is_refused() {
    let features = Kind::default().features & !VERSION_1;
    is_refused(Kind { features, ..Kind::default() }, "is a legacy device");
}

#[test]
fn a_device_that_goes_around_the_iommu_is_refused() {
    let features = Kind::default().features & !ACCESS_PLATFORM;
    is_refused(Kind { features, ..Kind::default() }, "does not reach memory through the IOMMU");
}

#[test]
fn features_that_are_not_accepted_are_refused() {
    fault_is_refused(Fault::FeaturesRefused, "does not accept the features");
}

#[test]
fn a_reset_that_does_not_end_is_refused() {
    fault_is_refused(Fault::NeverResets, "does not reset itself");
}

#[test]
fn a_device_without_queues_is_refused() {
    is_refused(Kind { queues: 0, ..Kind::default() }, "has no queues");
    is_refused(Kind { queue_size: 0, ..Kind::default() }, "has no queues");
}

#[test]
fn a_queue_that_is_too_short_is_refused() {
    is_refused(Kind { queue_size: 2, ..Kind::default() }, "has queues of 2 entries, which is too few");
}

#[test]
fn a_queue_without_an_interrupt_is_refused() {
    fault_is_refused(Fault::VectorRefused, "has no interrupt for queue 0");
}

#[test]
fn changes_without_an_interrupt_are_refused() {
    fault_is_refused(Fault::ChangesVectorRefused, "has no interrupt for changes of its configuration");
}

#[test]
fn a_queue_that_cannot_be_enabled_is_refused() {
    fault_is_refused(Fault::QueueRefused, "does not take queue 0");
}

#[test]
fn a_queue_that_cannot_be_told_of_is_refused() {
    fault_is_refused(Fault::NotifyOutside, "has no register to tell it of queue 0");
}

#[test]
fn a_configuration_that_changes_all_the_time_is_refused() {
    fault_is_refused(Fault::Restless, "changes its configuration faster than it can be read");
}

#[test]
fn a_configuration_without_a_capacity_is_refused() {
    is_refused(Kind { config_bytes: 4, ..Kind::default() }, "has a configuration of 4 bytes");
    is_refused(Kind { config_bytes: 0, ..Kind::default() }, "has a configuration of 0 bytes");
}

#[test]
fn an_impossible_capacity_is_refused() {
    for sectors in [u64::MAX, 1 << 55, 1 << 54] {
        fault_is_refused(Fault::TellsSectors(sectors), "an impossible capacity");
    }
}

#[test]
fn an_impossible_block_size_is_refused() {
    let features = Kind::default().features | BLK_SIZE;
    for block_bytes in [0, 3, 256] {
        is_refused(Kind { block_bytes, features, ..Kind::default() }, "an impossible block size");
    }
    is_refused(
        Kind { block_bytes: 1 << 30, features, ..Kind::default() },
        "less than its block of 1073741824",
    );
}

#[test]
fn memory_out_of_reach_is_refused() {
    fault_is_refused(Fault::ShortReach, "cannot reach 8 MiB of memory");
}

#[test]
fn memory_that_the_system_does_not_map_is_refused() {
    fault_is_refused(Fault::MapRefused, "cannot let the PCI device of a test reach memory");
}

#[test]
fn no_answer_to_the_first_request_is_refused() {
    for vectors in [2, 0] {
        let kind = Kind { fault: Fault::HoldsAfter(0), vectors, ..Kind::default() };
        is_refused(kind, "has not answered a request");
    }
}

#[test]
fn a_device_that_is_pulled_out_before_it_is_started_is_refused() {
    let bed = Bed::new(Kind::default());
    let connected = bed.connect(&[], PATIENCE).unwrap();
    bed.0.vanish();
    let options = StartOptions { workers: 1, region_bytes: 8 << 20 };
    let refusal = connected.start(&Settings::default(), options).err().unwrap().to_string();
    assert!(refusal.contains("does not answer"), "{refusal}");
    assert!(bed.0.is_released());
}

#[test]
fn a_device_that_is_not_started_is_let_go() {
    let bed = Bed::new(Kind::default());
    let connected = bed.connect(&[], PATIENCE).unwrap();
    assert!(!bed.0.is_released());
    drop(connected);
    assert!(bed.0.is_released());
}

/// A device in service with requests in flight.
struct Service {
    bed: Bed,
    device: Arc<dyn Started>,
    client: Client,
}

/// What the leases of reads hold before.
const BEFORE: [u8; 4096] = [0xa5; 4096];

impl Service {
    /// One that does the first request only, and has sixteen more.
    fn busy(kind: Kind, words: &[&str]) -> Service {
        let fault = if kind.fault == Fault::None { Fault::HoldsAfter(1) } else { kind.fault };
        let bed = Bed::new(Kind { fault, ..kind });
        let device = bed.start(words, 1).unwrap();
        let client = Client::new(&device, 0);
        let mut service = Service { bed, device, client };
        let requests: Vec<_> = (0..16).map(|block| service.read(block)).collect();
        let mut done = Vec::new();
        service.client.submit(requests, &mut done);
        assert!(done.is_empty() && service.client.queue.in_flight() == 16);
        service
    }

    fn read(&mut self, block: u64) -> Request {
        let lease = self.client.lease(4096);
        lease.slice(0, 4096).copy_from(&BEFORE[..]);
        self.client.request(Operation::Read(lease), block * 4096, 4096, PLAIN)
    }

    /// All that is in flight ends with errors, although nobody is called; so does what comes. The device is let go, and
    /// does not touch the memory of what has ended.
    fn dies(mut self, reason: &str) {
        let mut done: Vec<Completion> = Vec::new();
        until("everything ends", || {
            self.client.queue.reap(&mut done);
            done.len() == 16
        });
        let results: Vec<_> = done.iter().map(|completion| completion.result.as_ref().err()).collect();
        assert_eq!(results, [Some(&Errno::IO); 16]);
        let dead = self.client.queue.submit(&mut VecDeque::new()).unwrap_err();
        assert!(dead.reason.contains(reason), "{dead}");
        assert!(self.client.queue.is_dead() && self.client.queue.in_flight() == 0);
        until("it is let go", || self.bed.0.is_released());
        let mut events = Vec::new();
        until("it is told", || {
            events.extend(self.device.next_event());
            !events.is_empty()
        });
        assert!(matches!(&events[..], [Event::Dead { reason: told }] if told.contains(reason)), "{events:?}");
        for completion in &done {
            let lease = completion.lease.as_ref().expect("memory that the device has no more comes back");
            let mut bytes = [0; 4096];
            lease.slice(0, 4096).copy_to(&mut bytes[..]);
            assert!(bytes == BEFORE, "nothing was written there");
        }
        drop(done);
        assert_eq!(self.client.pool.lent_bytes(), 0);
        let Service { bed, device, client } = self;
        let started = Instant::now();
        drop((client, device));
        assert!(started.elapsed() < Duration::from_secs(1), "nobody waits for a dead device");
        drop(bed);
    }

    /// Something wakes whoever waits.
    fn wakes(&self) {
        let event = self.client.queue.event().unwrap();
        assert!(drivers::sys::poll::readable(event, 10_000).unwrap(), "a wake-up comes");
    }
}

/// Both formats: with interrupts, polled but for changes of the configuration, without any interrupt.
fn kinds() -> impl Iterator<Item = Kind> {
    let variants = [0, RING_PACKED].into_iter().flat_map(|ring| [2, 1, 0].map(|vectors| (ring, vectors)));
    variants.map(|(ring, vectors)| {
        let features = Kind::default().features | ring;
        Kind { features, vectors, ..Kind::default() }
    })
}

#[test]
fn a_device_that_is_pulled_out_fails_its_requests() {
    for kind in kinds() {
        let service = Service::busy(kind, &[]);
        service.bed.0.vanish();
        service.wakes();
        service.dies("does not answer any more");
    }
}

#[test]
fn a_device_that_is_pulled_out_while_it_is_looked_at_fails_its_requests() {
    for kind in kinds() {
        let service = Service::busy(Kind { fault: Fault::VanishesWhileRead, ..kind }, &[]);
        service.bed.0.tell_change();
        service.wakes();
        service.dies("does not answer any more");
    }
}

#[test]
fn a_device_that_needs_a_reset_fails_its_requests() {
    for kind in kinds() {
        let service = Service::busy(kind, &[]);
        service.bed.0.need_reset();
        service.wakes();
        service.dies("needs a reset");
    }
}

#[test]
fn a_device_that_the_system_wants_back_is_let_go() {
    for kind in kinds() {
        let service = Service::busy(kind, &[]);
        service.bed.0.want_back();
        service.wakes();
        service.dies("is wanted back by the system");
    }
}

#[test]
fn a_bus_that_breaks_fails_requests() {
    for kind in kinds() {
        let service = Service::busy(kind, &[]);
        service.bed.0.break_bus();
        service.wakes();
        service.dies("had an error on the bus");
    }
}

#[test]
fn a_device_that_ends_nothing_is_given_up_in_time() {
    for kind in kinds() {
        let service = Service::busy(kind, &["request-timeout=1"]);
        service.dies("has ended no request for 1 s");
    }
}

#[test]
fn answers_of_a_device_that_was_given_up_reach_no_memory_of_ours() {
    for kind in kinds() {
        let service = Service::busy(Kind { fault: Fault::AnswersLate, ..kind }, &[]);
        service.bed.0.want_back();
        service.dies("is wanted back by the system");
    }
}

#[test]
fn a_device_that_does_not_reset_itself_any_more_is_let_go_nevertheless() {
    let service = Service::busy(Kind { fault: Fault::NeverResetsAgain, ..Kind::default() }, &[]);
    service.bed.0.need_reset();
    service.dies("needs a reset");
}

#[test]
fn an_idle_device_that_is_wanted_back_is_let_go() {
    let bed = Bed::new(Kind::default());
    let device = bed.start(&[], 1).unwrap();
    let mut client = Client::new(&device, 0);
    client.read(0, 4096).unwrap();
    bed.0.want_back();
    until("it is let go", || bed.0.is_released());
    until("the queue knows", || client.queue.submit(&mut VecDeque::new()).is_err());
    assert!(matches!(device.next_event(), Some(Event::Dead { .. })));
}

#[test]
fn a_device_that_is_wanted_back_before_it_has_a_worker_is_let_go() {
    let bed = Bed::new(Kind::default());
    let device = bed.start(&[], 1).unwrap();
    bed.0.want_back();
    until("it is let go", || bed.0.is_released());
    let mut client = Client::new(&device, 0);
    assert!(client.queue.submit(&mut VecDeque::new()).is_err());
}

#[test]
fn a_capacity_that_cannot_be_is_no_news() {
    let bed = Bed::new(Kind {
        features: Kind::default().features | BLK_SIZE,
        block_bytes: 4096,
        ..Kind::default()
    });
    let device = bed.start(&[], 1).unwrap();
    bed.0.tell_sectors(u64::MAX);
    bed.0.tell_sectors(4096);
    until("something happens", || device.next_event() == Some(Event::CapacityChanged));
    assert_eq!(device.limits().capacity_bytes, 4096 * 512);
    assert_eq!(device.next_event(), None);
}

#[test]
fn requests_end_without_interrupts_for_whoever_looks() {
    for ring in [0, RING_PACKED] {
        let features = Kind::default().features | ring;
        let bed = Bed::new(Kind { fault: Fault::NoCalls, features, ..Kind::default() });
        let device = bed.start(&[], 1).unwrap();
        let mut client = Client::new(&device, 0);
        let lease = client.lease(4096);
        let request = client.request(Operation::Read(lease), 0, 4096, PLAIN);
        let mut done = Vec::new();
        client.submit(vec![request], &mut done);
        until("it ends", || {
            client.queue.reap(&mut done);
            !done.is_empty()
        });
        assert!(done[0].result.is_ok());
    }
}

#[test]
fn a_queue_that_ends_with_requests_in_flight_waits_for_the_device_no_longer_than_it_lives() {
    let service = Service::busy(Kind::default(), &[]);
    service.bed.0.want_back();
    let Service { bed, device, client } = service;
    let started = Instant::now();
    drop((client, device));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    until("it is let go", || bed.0.is_released());
}
