//! [`Device`]: a disk that is there.

use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use drivers::testing::client::PLAIN;
use drivers::testing::{Client, Fixture, Setup};
use drivers::{Errno, Started};

/// A disk of given words. Its size is what it is.
pub(crate) struct Device {
    words: Vec<String>,
    capacity_bytes: u64,
}

impl Device {
    /// The disk of a driver and its properties.
    ///
    /// # Errors
    /// It cannot be opened, or not be written.
    pub(crate) fn new(words: Vec<String>) -> Result<Device> {
        let (connected, _) = crate::connect(&words)?;
        let limits = connected.limits();
        ensure!(!limits.read_only, "the disk is read-only");
        Ok(Device { words, capacity_bytes: limits.capacity_bytes })
    }

    /// Makes the disk all zeroes. A queue can be had once for each start, so this takes one of its own.
    fn clear(&self) -> Result<()> {
        let started = crate::start(&self.words, 1)?;
        let mut client = Client::new(&started, 0);
        let done = match client.zero(0, self.capacity_bytes, PLAIN) {
            Err(Errno::NOT_SUPPORTED) => {
                let zeroes = vec![0; 1 << 20];
                (0..self.capacity_bytes).step_by(zeroes.len()).try_for_each(|offset| {
                    let len = zeroes.len().min((self.capacity_bytes - offset) as usize);
                    client.write(offset, &zeroes[..len], PLAIN)
                })
            }
            done => done,
        };
        done.map_err(|errno| anyhow!("cannot write zeroes all over the disk: {errno}"))
    }

    fn try_start(&self, setup: Setup) -> Result<Arc<dyn Started>> {
        self.clear()?;
        let mut words = self.words.clone();
        if setup.read_only {
            words.push("read-only=true".into());
        }
        crate::start(&words, setup.workers)
    }
}

impl Fixture for Device {
    fn name(&self) -> String {
        self.words.join(" ")
    }

    fn start(&self, setup: Setup) -> Arc<dyn Started> {
        self.try_start(setup).unwrap_or_else(|error| panic!("{}: {error:#}", self.name()))
    }

    fn fixed_capacity_bytes(&self) -> Option<u64> {
        Some(self.capacity_bytes)
    }

    fn tells_size(&self) -> bool {
        true
    }
}
