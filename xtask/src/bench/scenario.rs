//! What is measured, and what the gateway must reach against whom.

use anyhow::Context as _;
use serde::Serialize;

use super::backend::Backend;
use super::goal::Goal;
use super::load::{Access, Replies};
use super::peers::Kind;
use super::server::Transport;
use super::vhost_user;

/// Where the served data lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Media {
    /// A file on tmpfs.
    Tmpfs,
    /// A file on the file system of the build folder, in the page cache.
    File,
    /// The server's own RAM disk.
    Memory,
    /// Nowhere: reads are zeroes.
    Null,
    /// Nowhere, behind a vhost-user back-end: what reads give is undefined.
    #[serde(untagged)]
    VhostUser(Backend),
}

/// Who puts the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Client {
    /// Our load generator.
    Own,
    /// fio's nbd engine (libnbd).
    Fio,
}

/// One load on one kind of disk, for several servers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Scenario {
    /// Name for `--filter` and reports.
    pub name: &'static str,
    /// Who puts the load.
    pub client: Client,
    /// Where the data lies.
    pub media: Media,
    /// Socket.
    pub transport: Transport,
    /// Form of the replies. fio takes structured ones where the server has them.
    pub replies: Replies,
    /// Order and direction.
    pub access: Access,
    /// Number of connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub depth: usize,
    /// Length of each request in bytes.
    pub block_bytes: u32,
    /// Servers to compare.
    #[serde(skip)]
    pub servers: &'static [Kind],
    /// What must be reached.
    pub goals: &'static [Goal],
    /// Least number of requests per kick and per wake-up of the gateway.
    pub batch_min: Option<f64>,
    /// Greatest CPU per request of the parts among the servers, divided by the gateway's.
    pub share_max: Option<f64>,
}

/// A goal for the medians, in one line of a table.
pub(super) const fn goal(peer: Kind, rate_min: f64, cpu_max: f64) -> Goal {
    Goal { cpu_max: Some(cpu_max), ..rate(peer, rate_min) }
}

/// The same without a word about CPU.
pub(super) const fn rate(peer: Kind, rate_min: f64) -> Goal {
    Goal { peer, rate_min, cpu_max: None, every_round: false, cheaper: None, client_may_bound: false }
}

const RANDOM_READS: &[Goal] =
    &[goal(Kind::Nbdkit, 2.0, 0.5), goal(Kind::QemuNbd, 2.5, 0.4), goal(Kind::QemuNbdUring, 2.5, 0.4)];
const RANDOM_READS_FIO: &[Goal] = &[rate(Kind::Nbdkit, 1.8)];
const MEMORY: &[Goal] = &[goal(Kind::Nbdkit, 2.1, 0.42)];
const TWO_CONNECTIONS: &[Goal] = &[goal(Kind::Nbdkit, 1.8, 0.55)];
const DEPTH_1: &[Goal] = &[goal(Kind::Nbdkit, 1.0, 1.3)];
const LARGE_READS: &[Goal] = &[goal(Kind::Nbdkit, 1.0, 0.9)];
const SMALL_WRITES: &[Goal] = &[goal(Kind::Nbdkit, 1.5, 0.62)];
const LARGE_WRITES: &[Goal] = &[goal(Kind::Nbdkit, 1.15, 0.8)];

const ALL: &[Kind] = &[
    Kind::Gateway,
    Kind::Nbdkit,
    Kind::NbdkitBlkio,
    Kind::QemuNbd,
    Kind::QemuNbdUring,
    Kind::QemuStorageDaemon,
];
/// For tables that repeat another one in a different dress.
const FEW: &[Kind] = &[Kind::Gateway, Kind::Nbdkit, Kind::QemuNbd, Kind::QemuNbdUring];
/// Those that have a RAM disk.
const RAM: &[Kind] = &[Kind::Gateway, Kind::Nbdkit];

pub(super) const SMALL: Scenario = Scenario {
    name: "4k-randread-qd32",
    client: Client::Own,
    media: Media::Tmpfs,
    transport: Transport::Unix,
    replies: Replies::Simple,
    access: Access::RandRead,
    connections: 1,
    depth: 32,
    block_bytes: 4096,
    servers: ALL,
    goals: RANDOM_READS,
    batch_min: None,
    share_max: None,
};
const LARGE: Scenario = Scenario {
    name: "1m-read-qd4",
    access: Access::Read,
    depth: 4,
    block_bytes: 1 << 20,
    goals: LARGE_READS,
    ..SMALL
};

/// The loads of the comparison over a Unix socket with simple replies.
const SIMPLE: &[Scenario] = &[
    SMALL,
    Scenario { name: "4k-randread-qd32-file", media: Media::File, ..SMALL },
    Scenario { name: "4k-randread-qd32-fio", client: Client::Fio, goals: RANDOM_READS_FIO, ..SMALL },
    Scenario { name: "4k-randread-qd32-memory", media: Media::Memory, servers: RAM, goals: MEMORY, ..SMALL },
    Scenario { name: "4k-randread-qd32-2conn", connections: 2, goals: TWO_CONNECTIONS, ..SMALL },
    Scenario { name: "4k-randread-qd1", depth: 1, goals: DEPTH_1, ..SMALL },
    LARGE,
    Scenario { name: "1m-read-qd4-file", media: Media::File, ..LARGE },
    Scenario { name: "4k-randwrite-qd32", access: Access::RandWrite, goals: SMALL_WRITES, ..SMALL },
    Scenario { name: "1m-write-qd4", access: Access::Write, goals: LARGE_WRITES, ..LARGE },
    Scenario { name: "4k-randread-qd32-null", media: Media::Null, servers: RAM, goals: &[], ..SMALL },
];

const STRUCTURED: Scenario = Scenario { replies: Replies::Structured, servers: FEW, ..SMALL };
const STRUCTURED_LARGE: Scenario = Scenario { replies: Replies::Structured, servers: FEW, ..LARGE };

/// The same with structured replies.
const WITH_STRUCTURED: &[Scenario] = &[
    Scenario { name: "sr-4k-randread-qd32", ..STRUCTURED },
    Scenario { name: "sr-4k-randread-qd32-file", media: Media::File, ..STRUCTURED },
    Scenario {
        name: "sr-4k-randread-qd32-memory",
        media: Media::Memory,
        servers: RAM,
        goals: MEMORY,
        ..STRUCTURED
    },
    Scenario { name: "sr-4k-randread-qd32-2conn", connections: 2, goals: TWO_CONNECTIONS, ..STRUCTURED },
    Scenario { name: "sr-4k-randread-qd1", depth: 1, goals: DEPTH_1, ..STRUCTURED },
    Scenario { name: "sr-1m-read-qd4", ..STRUCTURED_LARGE },
    Scenario { name: "sr-4k-randwrite-qd32", access: Access::RandWrite, goals: SMALL_WRITES, ..STRUCTURED },
    Scenario { name: "sr-1m-write-qd4", access: Access::Write, goals: LARGE_WRITES, ..STRUCTURED_LARGE },
];

const TCP: Scenario = Scenario { transport: Transport::Tcp, servers: FEW, goals: &[], ..SMALL };
const TCP_LARGE: Scenario = Scenario { transport: Transport::Tcp, servers: FEW, goals: &[], ..LARGE };

/// Over TCP on loopback; printed, without goals.
const OVER_TCP: &[Scenario] = &[
    Scenario { name: "tcp-4k-randread-qd32", ..TCP },
    Scenario { name: "tcp-4k-randread-qd32-2conn", connections: 2, ..TCP },
    Scenario { name: "tcp-4k-randread-qd1", depth: 1, ..TCP },
    Scenario { name: "tcp-1m-read-qd4", ..TCP_LARGE },
    Scenario { name: "tcp-4k-randwrite-qd32", access: Access::RandWrite, ..TCP },
    Scenario { name: "tcp-1m-write-qd4", access: Access::Write, ..TCP_LARGE },
];

/// The same where the client, which decrypts as much as the server encrypts, may be what bounds the rate.
const fn tls_goal(peer: Kind, rate_min: f64, cpu_max: f64) -> Goal {
    Goal { client_may_bound: true, ..goal(peer, rate_min, cpu_max) }
}

const TLS_SMALL: &[Goal] = &[tls_goal(Kind::Nbdkit, 1.2, 0.6), tls_goal(Kind::QemuNbd, 1.2, 0.6)];
const TLS_BIG: &[Goal] = &[tls_goal(Kind::Nbdkit, 1.0, 1.0), tls_goal(Kind::QemuNbd, 1.0, 1.0)];

const TLS: Scenario = Scenario { transport: Transport::Tls, servers: FEW, goals: TLS_SMALL, ..SMALL };
const TLS_LARGE: Scenario = Scenario { transport: Transport::Tls, servers: FEW, goals: TLS_BIG, ..LARGE };

/// Through TLS 1.3 over TCP on loopback.
const OVER_TLS: &[Scenario] = &[
    Scenario { name: "tls-4k-randread-qd32", ..TLS },
    Scenario { name: "tls-4k-randwrite-qd32", access: Access::RandWrite, ..TLS },
    Scenario { name: "tls-1m-read-qd4", ..TLS_LARGE },
    Scenario { name: "tls-1m-write-qd4", access: Access::Write, ..TLS_LARGE },
];

/// The NVMe driver's queue must not be what limits the gateway, so it may cost a small part of what all the rest costs
/// where the disk costs next to nothing.
const PARTS: &[Scenario] = &[Scenario {
    name: "nvme-driver-4k-randread-qd32",
    media: Media::Memory,
    servers: &[Kind::Gateway, Kind::NvmeDriver],
    goals: &[],
    share_max: Some(0.25),
    ..SMALL
}];

/// A titled table of the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// Title.
    pub title: &'static str,
    /// Its scenarios.
    pub scenarios: &'static [Scenario],
}

/// Everything that is measured.
pub(crate) const GROUPS: &[Group] = &[
    Group { title: "Unix socket, simple replies", scenarios: SIMPLE },
    Group { title: "Unix socket, structured replies", scenarios: WITH_STRUCTURED },
    Group { title: "TCP on loopback, simple replies", scenarios: OVER_TCP },
    Group {
        title: "TLS 1.3 (AES-256-GCM, certificates) over TCP on loopback, simple replies",
        scenarios: OVER_TLS,
    },
    Group { title: "vhost-user, Unix socket, simple replies", scenarios: vhost_user::SCENARIOS },
    Group { title: "A driver alone beside the whole gateway", scenarios: PARTS },
];

/// The scenario of this name.
///
/// # Errors
/// There is none.
pub(super) fn named(name: &str) -> anyhow::Result<&'static Scenario> {
    let mut all = GROUPS.iter().flat_map(|group| group.scenarios);
    all.find(|scenario| scenario.name == name)
        .with_context(|| format!("there is no scenario {name}; see `cargo xtask bench --list`"))
}

impl Scenario {
    /// Whether rates are told in MB/s rather than requests per second.
    pub(crate) fn in_megabytes(&self) -> bool {
        self.block_bytes >= 64 * 1024
    }

    /// The vhost-user back-end that the servers need.
    pub(crate) fn backend(&self) -> Option<Backend> {
        match self.media {
            Media::VhostUser(backend) => Some(backend),
            _ => None,
        }
    }

    /// Whether reads give what was written.
    pub(crate) fn keeps_data(&self) -> bool {
        !matches!(self.media, Media::Null | Media::VhostUser(_))
    }

    /// One line for people.
    pub(crate) fn description(&self, file_system: &str) -> String {
        let access = match self.access {
            Access::RandRead => "random reads",
            Access::RandWrite => "random writes",
            Access::Read => "sequential reads",
            Access::Write => "sequential writes",
        };
        let block = match self.block_bytes {
            bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
            bytes => format!("{} KiB", bytes >> 10),
        };
        let connections = if self.connections == 1 {
            String::new()
        } else {
            format!(" on {} connections", self.connections)
        };
        let media = match self.media {
            Media::Tmpfs => "file on tmpfs",
            Media::File => &format!("file on {file_system}"),
            Media::Memory => "RAM disk",
            Media::Null => "null disk",
            Media::VhostUser(backend) => backend.title(),
        };
        let client = if self.client == Client::Fio { ", by fio" } else { "" };
        format!("{block} {access}, depth {}{connections}, {media}{client}", self.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Scenario> {
        GROUPS.iter().flat_map(|group| group.scenarios)
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn every_goal_names_a_server_of_its_scenario() {
        for scenario in all() {
            assert_eq!(scenario.servers.first(), Some(&Kind::Gateway), "{}", scenario.name);
            for goal in scenario.goals {
                assert!(scenario.servers.contains(&goal.peer), "{}: {}", scenario.name, goal.peer);
            }
            assert!(scenario.batch_min.is_none() || scenario.backend().is_some(), "{}", scenario.name);
            let has_part = scenario.servers.iter().any(|kind| kind.is_part());
            assert_eq!(scenario.share_max.is_some(), has_part, "{}", scenario.name);
        }
    }

    #[test]
    fn a_cheaper_back_end_bears_the_same_load_for_the_same_server() {
        for scenario in all() {
            for cheaper in scenario.goals.iter().filter_map(|goal| goal.cheaper) {
                let other = all().find(|other| other.name == cheaper.scenario).expect("it is measured");
                let load = |of: &Scenario| (of.client, of.access, of.connections, of.depth, of.block_bytes);
                assert_eq!(load(scenario), load(other), "{}", scenario.name);
                assert!(other.backend().is_some() && scenario.servers == other.servers, "{}", scenario.name);
            }
        }
    }

    #[test]
    fn a_part_bears_the_load_that_it_can_make() {
        for scenario in all().filter(|scenario| scenario.share_max.is_some()) {
            assert_eq!(
                (scenario.client, scenario.access),
                (Client::Own, Access::RandRead),
                "{}",
                scenario.name
            );
            assert_eq!((scenario.connections, scenario.backend()), (1, None), "{}", scenario.name);
        }
    }

    #[test]
    fn only_our_load_generator_makes_several_connections_or_other_sockets() {
        for scenario in all().filter(|scenario| scenario.client == Client::Fio) {
            assert_eq!((scenario.connections, scenario.transport), (1, Transport::Unix), "{}", scenario.name);
        }
    }
}
