//! The scenarios in front of a vhost-user back-end.
//!
//! The peers are the two ways in which libblkio serves such a disk over NBD: qemu-nbd's block driver and nbdkit's
//! plugin. fio's engine connects twice, which nbdkit does not survive, so it is left out there.
//!
//! Where qemu-storage-daemon's thread is busy throughout, it bounds the rate of whatever is in front of it. (Its I/O
//! thread polls, so it may look busy without bounding anything.) What the gateway reaches then is seen in front of our
//! own back-end, which comes first so that its result is there when it is asked for.

use super::backend::Backend;
use super::goal::{Cheaper, Goal};
use super::load::Access;
use super::peers::Kind;
use super::scenario::{Client, Media, SMALL, Scenario, goal, rate};

const SERVERS: &[Kind] = &[Kind::Gateway, Kind::QemuNbdBlkio, Kind::NbdkitBlkio];
const FIO_SERVERS: &[Kind] = &[Kind::Gateway, Kind::QemuNbdBlkio];
const ITSELF: &[Kind] = &[Kind::Gateway, Kind::GatewayOneConnection];

const NULL_READS: &str = "vhost-null-4k-randread-qd32";
const NULL_WRITES: &str = "vhost-null-4k-randwrite-qd32";
const NULL_READS_FIO: &str = "vhost-null-4k-randread-qd32-fio";

/// A goal that counts by the cheaper back-end where qemu-storage-daemon is the bound.
const fn or(goal: Goal, scenario: &'static str) -> Goal {
    Goal { cheaper: Some(Cheaper { scenario, rate_min: 2.5 }), ..goal }
}

const QEMU: Goal = goal(Kind::QemuNbdBlkio, 2.0, 0.35);
const NBDKIT: Goal = Goal { every_round: true, ..goal(Kind::NbdkitBlkio, 2.0, 0.4) };
const READ_GOALS: &[Goal] = &[or(QEMU, NULL_READS), or(NBDKIT, NULL_READS)];
const WRITE_GOALS: &[Goal] = &[or(QEMU, NULL_WRITES), or(NBDKIT, NULL_WRITES)];
const FIO_GOALS: &[Goal] = &[or(rate(Kind::QemuNbdBlkio, 1.7), NULL_READS_FIO)];
const LARGE_GOALS: &[Goal] = &[goal(Kind::QemuNbdBlkio, 1.3, 0.7), rate(Kind::NbdkitBlkio, 1.3)];
const CONNECTIONS_GOALS: &[Goal] = &[rate(Kind::GatewayOneConnection, 1.0)];

const READS: Scenario = Scenario {
    name: "vhost-4k-randread-qd32",
    media: Media::VhostUser(Backend::QemuNull),
    servers: SERVERS,
    goals: READ_GOALS,
    batch_min: Some(4.0),
    ..SMALL
};

const FIO: Scenario = Scenario {
    name: "vhost-4k-randread-qd32-fio",
    client: Client::Fio,
    servers: FIO_SERVERS,
    goals: FIO_GOALS,
    batch_min: None,
    ..READS
};

/// The same in front of our own back-end.
const fn on_null(name: &'static str, scenario: Scenario) -> Scenario {
    Scenario { name, media: Media::VhostUser(Backend::OwnNull), goals: &[], ..scenario }
}

/// Everything of the group.
pub(super) const SCENARIOS: &[Scenario] = &[
    on_null(NULL_READS, READS),
    on_null(NULL_WRITES, Scenario { access: Access::RandWrite, ..READS }),
    on_null(NULL_READS_FIO, FIO),
    READS,
    Scenario { name: "vhost-4k-randwrite-qd32", access: Access::RandWrite, goals: WRITE_GOALS, ..READS },
    FIO,
    Scenario {
        name: "vhost-4k-randread-qd32-4conn",
        connections: 4,
        servers: ITSELF,
        goals: CONNECTIONS_GOALS,
        ..READS
    },
    Scenario {
        name: "vhost-1m-read-qd4",
        access: Access::Read,
        depth: 4,
        block_bytes: 1 << 20,
        goals: LARGE_GOALS,
        batch_min: None,
        ..READS
    },
];
