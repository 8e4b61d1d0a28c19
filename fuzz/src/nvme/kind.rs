//! What the controller is, and with which properties it is started.

use drivers::Settings;
use drivers::testing::nvme::Kind;

use crate::knobs::Knobs;

const NAME: &str = "nvme-vfio-pci";

/// Size of each namespace.
pub(super) const CAPACITY_BYTES: usize = 64 << 10;

/// Two bytes: doorbells in memory, interrupts, length of blocks, write protection, longest transfer and namespaces;
/// entries of queues.
pub(super) fn kind(knobs: &mut Knobs<'_>) -> Kind {
    let (bits, entries) = (knobs.u8(), knobs.u8());
    Kind {
        capacity_bytes: CAPACITY_BYTES,
        shadow: bits & 1 != 0,
        vectors: if bits & 2 != 0 { 0 } else { 2 },
        block_exponent: if bits & 4 != 0 { 12 } else { 9 },
        // A kind of its own: nothing but reads succeeds.
        read_only: bits & 0x38 == 0x38,
        mdts: bits >> 3 & 3,
        namespaces: 1 + u32::from(bits >> 6),
        stride_exponent: bits >> 5 & 1,
        entries: 2 + u32::from(entries % 40),
        retry_delays: [0, 1, 0xffff],
        ..Kind::default()
    }
}

/// The properties.
pub(super) fn settings() -> Settings {
    let driver = drivers::find(NAME).expect("a driver of this crate");
    let words = ["path=/sys/no-device".to_owned()];
    Settings::parse(NAME, driver.properties(), driver.magic_property(), &words).expect("they are right")
}
