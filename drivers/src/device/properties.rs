//! Rows in the tables of drivers whose devices have queues of their own, and what they share about limits.

use crate::error::Error;
use crate::limits::Limits;
use crate::property::{Kind, Phase, Property, Settings, fact_row};

pub(crate) const NUM_POLL_QUEUES: Property = Property {
    name: "num-poll-queues",
    kind: Kind::Int { min: 0, max: 1024 },
    phase: Phase::Start,
    default: "0",
    help: "Queues that look for completions instead of being called",
};

pub(crate) const MAX_QUEUE_SIZE: Property =
    fact_row("max-queue-size", Kind::Int { min: 0, max: i64::MAX }, "Most entries of a queue");

/// The facts about a disk, if they can be and agree with the property `read-only`. `name` is what messages call it.
///
/// # Errors
/// They cannot be, or it is read-only and must not be.
pub(crate) fn agreed(
    limits: Result<Limits, Error>,
    settings: &Settings,
    name: &str,
) -> Result<Limits, Error> {
    let limits = limits.map_err(|error| Error { message: format!("{name}: {}", error.message), ..error })?;
    match limits.read_only && settings.bool("read-only") == Some(false) {
        true => Err(Error::device(format!("{name} is read-only")).hint("leave out read-only=false")),
        false => Ok(limits),
    }
}
