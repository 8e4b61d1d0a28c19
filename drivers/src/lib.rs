//! Block drivers: one contract, many ways to reach a disk.
//!
//! This crate opens block devices of the virtualisation world and moves data to and from them through queues that
//! are driven by the caller's threads. It knows Linux interfaces (io_uring, vhost, VFIO, …) and nothing of NBD, of
//! any other front-end, or of any asynchronous runtime.
//!
//! # Control plane
//!
//! States are types; there is no way back.
//!
//! ```text
//! DriverType --connect--> Connected --start--> Started --queue(n)--> Queue
//!  property table          limits known          region mapped        one per worker thread
//! ```
//!
//! A [`Property`] is a row of one static table per driver: the command line, `--help`, `gateway info` and the
//! messages for wrong values all come from that table. Everything that can fail fails in `connect`, `start` or
//! `queue`, with an [`Error`] that says what was tried, on what, why it failed, and what to do.
//!
//! # Data plane
//!
//! A [`Queue`] belongs to one thread. It is called once per batch, never per byte:
//!
//! * the `*_now` methods finish a request at once where that cannot block (page cache, RAM), without lease or slot;
//! * [`Queue::submit`] takes [`Request`]s until the device is full, [`Queue::reap`] gives every one of them back
//!   exactly once as a [`Completion`], together with the lease it carried;
//! * [`Queue::event`] and [`Queue::arm`] are how a thread sleeps until there is something to reap.
//!
//! # Memory
//!
//! Payloads lie in [`Lease`]s of a [`Region`] that is mapped to the device once, at start. Memory that a device or
//! another thread may change is only ever seen as a [`vm_memory::VolatileSlice`], never as a `&[u8]`.
//!
//! # Drivers, filters, tests
//!
//! A new driver implements [`DriverType`], [`Connected`], [`Started`] and [`Queue`], takes its place in [`DRIVERS`],
//! and
//! passes the conformance suite (`testing::conformance`, cargo feature `testing`) with a fixture of a few lines. One
//! that never waits only says what its operations do (module `instant`). A filter is a driver that wraps a driver:
//! `testing::faulty` is the pattern. Blocking system calls go to a bounded pool of helper threads (module `helpers`),
//! never to the thread of a queue.
//!
//! # Trust
//!
//! Callers check nothing twice: a queue rejects a request outside the limits with an error completion and never
//! panics on any offset or length. What a device answers is checked before it is believed.

#[macro_use]
mod planted;

mod device;
pub mod driver;
pub mod error;
mod helpers;
mod instant;
mod io_uring;
pub mod limits;
pub mod mem;
mod memory;
mod null;
mod nvme;
mod nvme_pci;
mod nvme_uring;
mod opened;
mod pci;
pub mod property;
pub mod queue;
pub mod request;
mod slots;
pub mod sys;
mod sysfs;
mod tally;
#[cfg(feature = "testing")]
pub mod testing;
mod vhost_user;
mod vhost_vdpa;
mod virtio;
mod virtio_pci;

pub use driver::{Connected, DriverType, Event, OpenMode, Opener, StartOptions, Started, SystemOpener};
pub use error::{Errno, Error, ErrorKind};
pub use limits::{DiscardLimits, Limits, ZeroesLimits};
pub use mem::{Lease, Pool, Region};
pub use property::{Phase, Property, Settings, Value};
pub use queue::{Now, Queue, QueueDead, Store, View};
pub use request::{Completion, Extent, Operation, Outcome, Request, RequestFlags, RequestId};
pub use tally::{Counter, Tally};

/// Every driver of this crate, in the order `gateway drivers` lists them.
pub static DRIVERS: &[&dyn DriverType] = &[
    &io_uring::IO_URING,
    &memory::MEMORY,
    &null::NULL,
    &nvme_uring::NVME_URING,
    &nvme_pci::NVME_PCI,
    &vhost_user::VHOST_USER,
    &vhost_vdpa::VHOST_VDPA,
    &virtio_pci::VIRTIO_PCI,
    #[cfg(feature = "testing")]
    &testing::FAULTY,
];

/// The driver called `name`.
///
/// # Errors
/// A usage error that names the nearest driver, or all of them.
pub fn find(name: &str) -> Result<&'static dyn DriverType, Error> {
    if let Some(driver) = DRIVERS.iter().find(|driver| driver.name() == name) {
        return Ok(*driver);
    }
    let names = || DRIVERS.iter().map(|driver| driver.name());
    let hint = match property::nearest(name, names()) {
        Some(known) => format!("did you mean '{known}'?"),
        None => format!("the drivers are {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(Error::usage(format!("there is no driver '{name}'")).hint(hint))
}
