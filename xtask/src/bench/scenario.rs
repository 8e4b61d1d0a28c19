//! What is measured, and what the gateway must reach against whom.

use serde::Serialize;

use super::load::{Access, Replies};
use super::peers::Kind;
use super::server::Transport;

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

/// Ratios of the gateway to one peer that must be reached by the medians.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Goal {
    /// The peer.
    #[serde(serialize_with = "peer_name")]
    pub peer: Kind,
    /// Least ratio of the rates.
    pub rate_min: f64,
    /// Greatest ratio of the server CPU per request.
    pub cpu_max: Option<f64>,
}

fn peer_name<S: serde::Serializer>(peer: &Kind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(peer.slug())
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
}

/// A goal, in one line of a table.
const fn goal(peer: Kind, rate_min: f64, cpu_max: f64) -> Goal {
    Goal { peer, rate_min, cpu_max: Some(cpu_max) }
}

const RANDOM_READS: &[Goal] =
    &[goal(Kind::Nbdkit, 2.0, 0.5), goal(Kind::QemuNbd, 2.5, 0.4), goal(Kind::QemuNbdUring, 2.5, 0.4)];
const RANDOM_READS_FIO: &[Goal] = &[Goal { peer: Kind::Nbdkit, rate_min: 1.8, cpu_max: None }];
const MEMORY: &[Goal] = &[goal(Kind::Nbdkit, 2.1, 0.42)];
const TWO_CONNECTIONS: &[Goal] = &[goal(Kind::Nbdkit, 1.8, 0.55)];
const DEPTH_1: &[Goal] = &[goal(Kind::Nbdkit, 1.0, 1.3)];
const LARGE_READS: &[Goal] = &[goal(Kind::Nbdkit, 1.0, 0.9)];
const SMALL_WRITES: &[Goal] = &[goal(Kind::Nbdkit, 1.5, 0.62)];
const LARGE_WRITES: &[Goal] = &[goal(Kind::Nbdkit, 1.15, 0.8)];

const ALL: &[Kind] = &Kind::ALL;
/// For tables that repeat another one in a different dress.
const FEW: &[Kind] = &[Kind::Gateway, Kind::Nbdkit, Kind::QemuNbd, Kind::QemuNbdUring];
/// Those that have a RAM disk.
const RAM: &[Kind] = &[Kind::Gateway, Kind::Nbdkit];

const SMALL: Scenario = Scenario {
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
];

impl Scenario {
    /// Whether rates are told in MB/s rather than requests per second.
    pub(crate) fn in_megabytes(&self) -> bool {
        self.block_bytes >= 64 * 1024
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
        }
    }

    #[test]
    fn only_our_load_generator_makes_several_connections_or_other_sockets() {
        for scenario in all().filter(|scenario| scenario.client == Client::Fio) {
            assert_eq!((scenario.connections, scenario.transport), (1, Transport::Unix), "{}", scenario.name);
        }
    }
}
