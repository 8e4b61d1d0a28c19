//! The `nvme-vfio-pci` driver on a controller that moves nothing, under the load that measures it.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::sync::Arc;
use std::time::Duration;

use drivers::testing::Client;
use drivers::testing::client::PLAIN;
use drivers::testing::load::{Load, Stopped};
use drivers::testing::nvme::NullController;
use drivers::{Settings, StartOptions, Started};

const NAME: &str = "nvme-vfio-pci";

fn start(controller: &NullController, words: &[&str]) -> Arc<dyn Started> {
    let driver = drivers::find(NAME).unwrap();
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    let settings = Settings::parse(NAME, driver.properties(), driver.magic_property(), &words).unwrap();
    let connected = controller.connect(&settings, Duration::from_secs(10)).unwrap();
    connected.start(&settings, StartOptions { workers: 1, region_bytes: 8 << 20 }).unwrap()
}

#[test]
fn every_read_ends_and_no_payload_moves() {
    let controller = NullController::new(1 << 20);
    let device = start(&controller, &[]);
    let mut client = Client::new(&device, 0);
    for len in [512, 4096, 65_536] {
        // The client reads into memory that it has filled with this.
        assert_eq!(client.read(0, len).unwrap(), vec![0xa5; len]);
    }
    client.write(0, &[7; 8192], PLAIN).unwrap();
    client.flush().unwrap();
    drop((client, device));
    assert_eq!(controller.violations(), [""; 0], "the driver keeps the rules");
}

#[test]
fn a_load_keeps_its_depth_on_rings_that_wrap_around() {
    for entries in ["queue-size=33", "queue-size=256"] {
        let controller = NullController::new(1 << 20);
        let device = start(&controller, &[entries]);
        let mut load = Load::new(&device, 32, 4096).unwrap();
        let mut ended = 0;
        while ended < 10_000 {
            let now = load.turn().unwrap();
            assert!(now <= 32, "{now} reads of 32 ended");
            ended += now;
        }
        assert_eq!(load.end().unwrap(), 32, "so many are in flight after a turn");
    }
}

#[test]
fn a_load_that_the_pool_has_no_memory_for_stops() {
    let controller = NullController::new(1 << 20);
    let device = start(&controller, &[]);
    let mut load = Load::new(&device, 1 << 20, 4096).unwrap();
    assert!(matches!(load.turn(), Err(Stopped::NoMemory)));
}
