//! `device-conformance`: the drivers' conformance suite on devices of the machine on which it runs.
//!
//! What `cargo test` puts under the suite needs no device. This program is for a guest that has devices:
//!
//! ```text
//! device-conformance vduse [WORD…]           a vDPA disk, made anew with qemu-storage-daemon and vdpa
//! device-conformance device DRIVER [WORD…]   a disk that is there; ALL ITS DATA IS LOST
//! ```

mod device;
mod vduse;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use drivers::testing::conformance;
use drivers::{Connected, Opener, Settings, StartOptions, Started, SystemOpener};

use device::Device;
use vduse::Vduse;

/// Payload memory of a disk.
const REGION_BYTES: usize = 8 << 20;

/// Puts a block driver of this project under the conformance suite, on a device.
#[derive(Parser)]
enum Args {
    /// Disks that this program makes with VDUSE, by qemu-storage-daemon and vdpa. Needs root.
    Vduse {
        /// Properties for the driver virtio-blk-vhost-vdpa, such as num-poll-queues=1.
        words: Vec<String>,
    },
    /// A disk that is there. WRITES TO IT, all over it.
    Device {
        /// A driver and its properties, as on the gateway's command line.
        #[arg(required = true)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse() {
        Args::Vduse { words } => Vduse::new(words).map(|fixture| conformance(&fixture)),
        Args::Device { words } => Device::new(words).map(|fixture| conformance(&fixture)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device-conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Connects the driver that the first word names, with the properties that follow.
fn connect(words: &[String]) -> Result<(Box<dyn Connected>, Settings)> {
    let (name, words) = words.split_first().context("no driver is named")?;
    let driver = drivers::find(name)?;
    let settings = Settings::parse(name, driver.properties(), driver.magic_property(), words)?;
    let opener: Arc<dyn Opener> = Arc::new(SystemOpener);
    Ok((driver.connect(&settings, &opener)?, settings))
}

/// Starts a disk of such words.
fn start(words: &[String], workers: usize) -> Result<Arc<dyn Started>> {
    let (connected, settings) = connect(words)?;
    Ok(connected.start(&settings, StartOptions { workers, region_bytes: REGION_BYTES })?)
}
