//! The rows that every driver's table has, and their values out of [`Limits`].
//!
//! Names, types and meanings follow libblkio 1.5 ("Properties"), except that limits are the device's real ones: a
//! `max-…` of 0 means that there is no limit, and what a device cannot do is told by its own row, not by a 0.

use super::{Kind, Phase, Property, Value};
use crate::limits::Limits;

const ANY_SIZE: Kind = Kind::Size { min: 0, max: u64::MAX };
const ANY_INT: Kind = Kind::Int { min: 0, max: i64::MAX };

/// A row for a fact, which cannot be set.
pub(crate) const fn fact_row(name: &'static str, kind: Kind, help: &'static str) -> Property {
    Property { name, kind, phase: Phase::Fact, default: "", help }
}

/// The rows of all drivers.
pub(crate) const COMMON: [Property; 31] = [
    Property {
        name: "read-only",
        kind: Kind::Bool,
        phase: Phase::Connect,
        default: "found out",
        help: "Refuse writes. False asks for write access and fails without it",
    },
    Property {
        name: "num-queues",
        kind: Kind::Int { min: 1, max: 1024 },
        phase: Phase::Start,
        default: "one per worker",
        help: "Queues for requests of all kinds, one per worker at most",
    },
    fact_row("driver", Kind::Text, "Name of the driver"),
    fact_row("capacity", ANY_SIZE, "Size of the disk in bytes"),
    fact_row("can-grow", Kind::Bool, "The capacity may grow while the disk is open"),
    fact_row("can-add-queues", Kind::Bool, "Queues can be added after the start"),
    fact_row("max-queues", ANY_INT, "Most queues the device takes"),
    fact_row("supports-poll-queues", Kind::Bool, "num-poll-queues may be above 0"),
    fact_row("max-mem-regions", ANY_SIZE, "Most memory regions the device takes"),
    fact_row("may-pin-mem-regions", Kind::Bool, "Payload memory may be locked into RAM"),
    fact_row("mem-region-alignment", ANY_SIZE, "Address and length of a memory region are multiples of this"),
    fact_row("needs-mem-regions", Kind::Bool, "Payloads must lie in mapped memory regions"),
    fact_row("needs-mem-region-fd", Kind::Bool, "Memory regions must be backed by a file"),
    fact_row("request-alignment", ANY_INT, "Offset and length of requests are multiples of this"),
    fact_row("buf-alignment", ANY_INT, "Addresses of payloads are multiples of this"),
    fact_row("optimal-io-alignment", ANY_INT, "Requests are fastest on multiples of this"),
    fact_row("optimal-io-size", ANY_INT, "Requests are fastest at this length; 0 if unknown"),
    fact_row("optimal-buf-alignment", ANY_INT, "Payload addresses are fastest on multiples of this"),
    fact_row("max-segments", ANY_INT, "Most pieces of memory in one request"),
    fact_row("max-segment-len", ANY_INT, "Longest piece of memory in bytes; 0 if unlimited"),
    fact_row("max-transfer", ANY_INT, "Longest read or write in bytes"),
    fact_row("supports-write-zeroes", Kind::Bool, "The device writes zeroes without being sent them"),
    fact_row("max-write-zeroes-len", ANY_SIZE, "Longest write-zeroes request in bytes; 0 if unlimited"),
    fact_row("supports-discard", Kind::Bool, "The device discards"),
    fact_row("max-discard-len", ANY_SIZE, "Longest discard in bytes; 0 if unlimited"),
    fact_row("discard-alignment", ANY_INT, "Discards that are no multiples of this may have no effect"),
    fact_row("discard-alignment-offset", ANY_INT, "Where the first discardable block begins, in bytes"),
    fact_row("supports-fua-natively", Kind::Bool, "A write with FUA needs no flush after it"),
    fact_row("supports-block-status", Kind::Bool, "Holes and zeroes can be told from data"),
    fact_row("flush-needed", Kind::Bool, "Completed writes may be lost by a power failure until a flush"),
    fact_row("rotational", Kind::Bool, "Seeks cost time"),
];

/// What the common rows say besides [`Limits`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extra {
    /// Value of `driver`.
    pub driver: &'static str,
    /// Value of `num-queues`.
    pub num_queues: usize,
    /// Value of `max-queues`.
    pub max_queues: usize,
    /// Value of `supports-poll-queues`.
    pub poll_queues: bool,
    /// Value of `may-pin-mem-regions`.
    pub may_pin: bool,
    /// Value of `discard-alignment` and `discard-alignment-offset`.
    pub discard_alignment: (u32, u32),
}

/// The value of a common row; `None` for a name that is not one.
pub(crate) fn fact(name: &str, limits: &Limits, extra: &Extra) -> Option<Value> {
    let count = |value: usize| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
    Some(match name {
        "driver" => Value::Text(extra.driver.into()),
        "read-only" => Value::Bool(limits.read_only),
        "num-queues" => count(extra.num_queues),
        "capacity" => Value::Size(limits.capacity_bytes),
        "can-grow" => Value::Bool(limits.can_grow),
        "can-add-queues" | "needs-mem-regions" | "needs-mem-region-fd" => Value::Bool(false),
        "max-queues" => count(extra.max_queues),
        "supports-poll-queues" => Value::Bool(extra.poll_queues),
        "max-mem-regions" => Value::Size(u64::MAX),
        "may-pin-mem-regions" => Value::Bool(extra.may_pin),
        "mem-region-alignment" => Value::Size(limits.buffer_alignment_bytes.into()),
        "request-alignment" => Value::Int(limits.request_alignment_bytes.into()),
        "buf-alignment" => Value::Int(limits.buffer_alignment_bytes.into()),
        "optimal-io-alignment" => Value::Int(limits.optimal_io_alignment_bytes.into()),
        "optimal-io-size" => Value::Int(limits.optimal_io_bytes.into()),
        "optimal-buf-alignment" => Value::Int(limits.buffer_alignment_bytes.max(4096).into()),
        "max-segments" => Value::Int(1),
        "max-segment-len" => Value::Int(0),
        "max-transfer" => Value::Int(limits.max_transfer_bytes.into()),
        "supports-write-zeroes" => Value::Bool(limits.write_zeroes.is_some()),
        "max-write-zeroes-len" => Value::Size(limits.write_zeroes.map_or(0, |zeroes| zeroes.max_bytes)),
        "supports-discard" => Value::Bool(limits.discard.is_some()),
        "max-discard-len" => Value::Size(limits.discard.map_or(0, |discard| discard.max_bytes)),
        "discard-alignment" => Value::Int(extra.discard_alignment.0.into()),
        "discard-alignment-offset" => Value::Int(extra.discard_alignment.1.into()),
        "supports-fua-natively" => Value::Bool(limits.fua),
        "supports-block-status" => Value::Bool(limits.block_status),
        "flush-needed" => Value::Bool(limits.flush_needed),
        "rotational" => Value::Bool(limits.rotational),
        _ => return None,
    })
}

/// A driver's own rows followed by the common ones. `N` is the sum of both numbers, checked at compile time.
pub(crate) const fn join<const A: usize, const N: usize>(own: [Property; A]) -> [Property; N] {
    assert!(A + COMMON.len() == N, "N is the number of own rows plus that of the common ones");
    let mut all = [COMMON[0]; N];
    let mut index = 0;
    while index < N {
        all[index] = if index < A { own[index] } else { COMMON[index - A] };
        index += 1;
    }
    all
}
