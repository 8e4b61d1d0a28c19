//! For tests: the conformance suite every driver must pass, a driver that makes faults, both sides of a virtqueue, a
//! virtio disk and an NVMe controller on the PCI bus, and (cargo feature `testing-backend`) a vhost-user back-end. For
//! measurements: a load on a queue by itself, and an NVMe controller that costs next to nothing.
//!
//! The suite knows a driver only by the contract of this crate. A driver comes with a [`Fixture`], which makes a fresh
//! disk of a given size; [`conformance`] runs every check of [`CHECKS`] on it and fails with the names of those that
//! failed. A wait that a lost wake-up would make endless fails after [`client::PATIENCE_MS`].

#[cfg(feature = "testing-backend")]
pub mod backend;
mod bus;
mod checks;
pub mod client;
pub mod device_ring;
pub mod faulty;
pub mod feature;
pub mod load;
pub mod nvme;
pub mod pci;
pub mod ram_disk;
pub mod random;
pub mod rings;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use checks::CHECKS;
pub use client::Client;
pub use faulty::FAULTY;
pub use random::Random;

use crate::driver::Started;

/// How a disk is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Its capacity.
    pub capacity_bytes: u64,
    /// Threads that will drive queues.
    pub workers: usize,
    /// Writes are to be refused.
    pub read_only: bool,
}

/// A way to make disks of one kind.
pub trait Fixture: Sync {
    /// What the messages call it.
    fn name(&self) -> String;

    /// A fresh disk, all zeroes, that replaces the one made before. What lies under it stays until the next call.
    fn start(&self, setup: Setup) -> Arc<dyn Started>;

    /// Whether what is written can be read.
    fn keeps_data(&self) -> bool {
        true
    }

    /// Every capacity is a multiple of this.
    fn capacity_unit_bytes(&self) -> u64 {
        1
    }

    /// Whether there are disks of no bytes.
    fn can_be_empty(&self) -> bool {
        true
    }

    /// The capacity that every disk has, whatever it was to be: for a device that is there. Checks that need another
    /// one are left out, and those of the whole disk look at its beginning.
    fn fixed_capacity_bytes(&self) -> Option<u64> {
        None
    }

    /// How much storage the disk takes at the moment, where that can be found out.
    fn allocated_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether the device announces by itself when its size has changed. Tests of the driver see to that.
    fn tells_size(&self) -> bool {
        false
    }

    /// Changes the size of what lies under the disk. `false`: that is impossible.
    fn resize(&self, _capacity_bytes: u64) -> bool {
        false
    }
}

/// One check: its name says what holds when it passes.
pub type Check = (&'static str, fn(&dyn Fixture));

/// Runs every check on the fixture's disks.
///
/// # Panics
/// When a check fails, after all have run; the message names the failed ones.
pub fn conformance(fixture: &dyn Fixture) {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        let result = catch_unwind(AssertUnwindSafe(|| check(fixture)));
        println!("{} {}: {name}", if result.is_ok() { "ok  " } else { "FAIL" }, fixture.name());
        if result.is_err() {
            failed.push(*name);
        }
    }
    assert!(
        failed.is_empty(),
        "{} fails {} of {} checks: {failed:#?}",
        fixture.name(),
        failed.len(),
        CHECKS.len()
    );
}
