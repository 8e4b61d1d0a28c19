//! [`Traffic`]: what clients ask of an export, and what they get.

use drivers::Counter;

use super::latency::{Latency, LatencySum};
use super::moment::Moment;
use crate::disk::{Ticket, Verb};

/// What clients can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    Trim,
    WriteZeroes,
    Cache,
    BlockStatus,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] =
        [Kind::Read, Kind::Write, Kind::Flush, Kind::Trim, Kind::WriteZeroes, Kind::Cache, Kind::BlockStatus];

    /// What a client asked for; `None`: a session asked for itself.
    pub(crate) fn of(verb: Verb) -> Option<Kind> {
        Some(match verb {
            Verb::Read { .. } => Kind::Read,
            Verb::Write { .. } => Kind::Write,
            Verb::Flush => Kind::Flush,
            Verb::Trim { .. } => Kind::Trim,
            Verb::Zero { .. } => Kind::WriteZeroes,
            Verb::Cache => Kind::Cache,
            Verb::Status => Kind::BlockStatus,
            Verb::Refill => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Flush => "flush",
            Kind::Trim => "trim",
            Kind::WriteZeroes => "write_zeroes",
            Kind::Cache => "cache",
            Kind::BlockStatus => "block_status",
        }
    }
}

/// A request whose answer is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    kind: Kind,
    failed: bool,
    len: u64,
    since: Moment,
}

impl Answered {
    /// `None`: no client asked for it.
    pub(crate) fn of(ticket: &Ticket, failed: bool) -> Option<Answered> {
        Some(Answered { kind: Kind::of(ticket.verb)?, failed, len: ticket.len, since: ticket.since })
    }
}

/// The requests of one kind on one worker.
#[derive(Debug, Default)]
struct Requests {
    asked: Counter,
    /// Bytes of those that went well.
    bytes: Counter,
    failed: Counter,
    /// Their clients left before they were answered.
    abandoned: Counter,
    /// Of those that were answered, from the receive that brought the request to the send that ended the reply.
    latency: Latency,
}

/// The clients of one export on one worker: its own numbers, in cache lines that no other worker writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Traffic {
    requests: [Requests; Kind::ALL.len()],
    refused: Counter,
    sessions: Counter,
    depth: Counter,
}

impl Traffic {
    /// A request was refused without being looked at any further: it makes no sense, or the export is about to go.
    pub(crate) fn refused(&self) {
        self.refused.add(1);
    }

    /// A client came.
    pub(crate) fn session_began(&self) {
        self.sessions.add(1);
    }

    /// So many requests are with the device.
    pub(crate) fn set_depth(&self, requests: usize) {
        self.depth.set(requests as u64);
    }
}

/// The requests of one client that are not answered.
#[derive(Debug, Default)]
pub(crate) struct Open([u32; Kind::ALL.len()]);

impl Open {
    /// A request was taken.
    pub(crate) fn asked(&mut self, traffic: &Traffic, kind: Kind) {
        self.0[kind as usize] += 1;
        traffic.requests[kind as usize].asked.add(1);
    }

    /// The last byte of a reply was sent at `now`.
    pub(crate) fn answered(&mut self, traffic: &Traffic, answered: &Answered, now: Moment) {
        let Answered { kind, failed, len, since } = *answered;
        let requests = &traffic.requests[kind as usize];
        self.0[kind as usize] = self.0[kind as usize].saturating_sub(1);
        requests.latency.record(now.ns_since(since));
        if failed {
            requests.failed.add(1);
        } else {
            requests.bytes.add(len);
        }
    }

    /// The client has left.
    pub(crate) fn abandon(&mut self, traffic: &Traffic) {
        for (open, requests) in std::mem::take(self).0.into_iter().zip(&traffic.requests) {
            requests.abandoned.add(open.into());
        }
    }
}

/// The requests of one kind of an export, on all workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RequestSum {
    pub(crate) asked: u64,
    pub(crate) bytes: u64,
    pub(crate) failed: u64,
    pub(crate) abandoned: u64,
    pub(crate) latency: LatencySum,
}

impl RequestSum {
    /// Requests that are not answered.
    pub(crate) fn in_flight(&self) -> u64 {
        // The numbers were not read at one moment.
        self.asked.saturating_sub(self.abandoned + self.latency.count())
    }

    fn add(&mut self, requests: &Requests) {
        // What ends is read before what begins, so that no more ends than began.
        self.latency.add(&requests.latency);
        self.abandoned += requests.abandoned.get();
        self.failed += requests.failed.get();
        self.bytes += requests.bytes.get();
        self.asked += requests.asked.get();
    }
}

/// The clients of one export, on all workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TrafficSum {
    requests: [RequestSum; Kind::ALL.len()],
    pub(crate) refused: u64,
    /// Clients that came.
    pub(crate) sessions: u64,
    /// Requests that are with the device.
    pub(crate) depth: u64,
}

impl TrafficSum {
    pub(crate) fn of<'a>(all: impl IntoIterator<Item = &'a Traffic>) -> TrafficSum {
        let mut sum = TrafficSum::default();
        for traffic in all {
            for (sum, requests) in sum.requests.iter_mut().zip(&traffic.requests) {
                sum.add(requests);
            }
            sum.refused += traffic.refused.get();
            sum.sessions += traffic.sessions.get();
            sum.depth += traffic.depth.get();
        }
        sum
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> &RequestSum {
        &self.requests[kind as usize]
    }
}
