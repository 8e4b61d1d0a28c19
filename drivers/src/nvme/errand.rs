//! [`Dialect`]: requests of this crate as commands, and statuses as what comes of the requests.

use std::time::Duration;

use super::command::{Command, RANGE_BYTES, range};
use super::disk::Disk;
use super::status::Status;
use crate::device::lane::{Errand, Verdict};
use crate::error::Errno;
use crate::mem::Lease;
use crate::request::Operation;

/// The pause before a command is sent again that did not find its way to the controller.
const WAY_BACK: Duration = Duration::from_secs(1);

/// What the commands to a namespace depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    namespace: u32,
    /// Length of a block, as a power of two.
    block_exponent: u8,
    /// Write zeroes may deallocate.
    zeroes_may_deallocate: bool,
    /// Pauses before a command is sent again, in units of 100 ms.
    retry_delays: [u16; 3],
}

/// What a command carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a> {
    None,
    /// So many bytes from the beginning of a lease.
    Payload(&'a Lease, u64),
    /// The range of a discard, which is to lie in memory until the command ends.
    Range([u32; RANGE_BYTES / 4]),
}

impl Dialect {
    pub(crate) fn of(disk: &Disk) -> Dialect {
        Dialect {
            namespace: disk.number,
            block_exponent: disk.namespace.block_exponent,
            zeroes_may_deallocate: disk.namespace.zeroes_may_deallocate,
            retry_delays: disk.controller.retry_delays,
        }
    }

    /// The command for an errand that is within the disk's limits, and its data.
    pub(crate) fn command<'a>(&self, errand: Errand<'a>) -> (Command, Data<'a>) {
        let Dialect { namespace, block_exponent, .. } = *self;
        let Errand::Request(asked) = errand else { return (Command::flush(namespace), Data::None) };
        // The limits keep both in the range of their fields.
        let (block, blocks) = (asked.offset >> block_exponent, (asked.len >> block_exponent) as u32);
        match &asked.operation {
            Operation::Read(lease) => {
                (Command::read(namespace, block, blocks), Data::Payload(lease, asked.len))
            }
            Operation::Write(lease) => {
                (Command::write(namespace, block, blocks, asked.flags.fua), Data::Payload(lease, asked.len))
            }
            Operation::WriteZeroes => {
                let deallocate = self.zeroes_may_deallocate && !asked.flags.no_unmap;
                (Command::write_zeroes(namespace, block, blocks, deallocate, asked.flags.fua), Data::None)
            }
            Operation::Discard => (Command::discard(namespace), Data::Range(range(block, blocks))),
            Operation::Flush | Operation::BlockStatus => (Command::flush(namespace), Data::None),
        }
    }

    /// What comes of the request in a slot whose command ended so.
    pub(crate) fn verdict(&self, slot: u16, status: Status) -> Verdict {
        if status.is_success() {
            return Verdict::Done { written: None };
        }
        let errno = status.errno();
        if !status.may_retry() {
            tracing::debug!(slot, "a command failed: {status}");
            return Verdict::Failed(errno);
        }
        if status.is_of_the_path() {
            return Verdict::Again { errno, after: WAY_BACK };
        }
        let hundreds = status.retry_delay().and_then(|delay| self.retry_delays.get(delay)).copied();
        Verdict::Again { errno, after: Duration::from_millis(100) * u32::from(hundreds.unwrap_or(0)) }
    }

    /// What comes of a request whose command was cancelled because the controller is reset.
    pub(crate) fn cancelled() -> Verdict {
        Verdict::Again { errno: Errno::IO, after: WAY_BACK }
    }
}
