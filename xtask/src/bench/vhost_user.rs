//! The scenarios in front of a vhost-user back-end.
//!
//! The peers are the two ways in which libblkio serves such a disk over NBD: qemu-nbd's block driver and nbdkit's
//! plugin. fio's engine connects twice, which nbdkit does not survive, so it is left out there.

use super::backend::Backend;
use super::goal::Goal;
use super::load::Access;
use super::peers::Kind;
use super::scenario::{Client, Media, SMALL, Scenario, goal, rate};

const SERVERS: &[Kind] = &[Kind::Gateway, Kind::QemuNbdBlkio, Kind::NbdkitBlkio];
const FIO_SERVERS: &[Kind] = &[Kind::Gateway, Kind::QemuNbdBlkio];
const ITSELF: &[Kind] = &[Kind::Gateway, Kind::GatewayOneConnection];

const SMALL_GOALS: &[Goal] =
    &[goal(Kind::QemuNbdBlkio, 2.0, 0.35), Goal { every_round: true, ..goal(Kind::NbdkitBlkio, 2.0, 0.4) }];
const FIO_GOALS: &[Goal] = &[rate(Kind::QemuNbdBlkio, 1.7)];
const LARGE_GOALS: &[Goal] = &[goal(Kind::QemuNbdBlkio, 1.3, 0.7), rate(Kind::NbdkitBlkio, 1.3)];
const CONNECTIONS_GOALS: &[Goal] = &[rate(Kind::GatewayOneConnection, 1.0)];

const READS: Scenario = Scenario {
    name: "vhost-4k-randread-qd32",
    media: Media::VhostUser(Backend::QemuNull),
    servers: SERVERS,
    goals: SMALL_GOALS,
    batch_min: Some(4.0),
    ..SMALL
};

/// Everything of the group.
pub(super) const SCENARIOS: &[Scenario] = &[
    READS,
    Scenario { name: "vhost-4k-randwrite-qd32", access: Access::RandWrite, ..READS },
    Scenario {
        name: "vhost-4k-randread-qd32-fio",
        client: Client::Fio,
        servers: FIO_SERVERS,
        goals: FIO_GOALS,
        batch_min: None,
        ..READS
    },
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
