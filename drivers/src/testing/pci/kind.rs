//! [`Kind`]: what a device is to be; [`Fault`]: what it does wrong.

use crate::testing::feature::{
    ACCESS_PLATFORM, DISCARD, EVENT_IDX, FLUSH, INDIRECT_DESC, VERSION_1, WRITE_ZEROES,
};

/// What a device is to be.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Numbers of the vendor and of the device.
    pub id: (u16, u16),
    /// Size of the disk, a multiple of 512.
    pub capacity_bytes: usize,
    /// Features that it offers; MQ comes with several queues.
    pub features: u64,
    /// Number of queues.
    pub queues: u16,
    /// Most entries of a queue.
    pub queue_size: u16,
    /// Interrupts that it can tell apart.
    pub vectors: u16,
    /// Length of its configuration, at most 60.
    pub config_bytes: usize,
    /// Block size in bytes, with [`BLK_SIZE`](crate::testing::feature::BLK_SIZE).
    pub block_bytes: u32,
    /// What it does wrong.
    pub fault: Fault,
}

impl Default for Kind {
    /// A disk of 1 MiB with one queue and its interrupts.
    fn default() -> Kind {
        Kind {
            id: (0x1af4, 0x1042),
            capacity_bytes: 1 << 20,
            features: VERSION_1
                | ACCESS_PLATFORM
                | INDIRECT_DESC
                | EVENT_IDX
                | FLUSH
                | DISCARD
                | WRITE_ZEROES,
            queues: 1,
            queue_size: 256,
            vectors: 2,
            config_bytes: 60,
            block_bytes: 512,
            fault: Fault::None,
        }
    }
}

/// What a device does wrong. Those up to the blank line show before it is in service: it cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nothing answers: neither the configuration space nor registers.
    NotThere,
    /// The configuration space answers, registers do not.
    NoRegisters,
    /// There is no list of capabilities.
    NoCapabilities,
    /// The list of capabilities comes back to itself before the first one of the vendor.
    CapabilityLoop,
    /// The common configuration reaches beyond the memory that it lies in.
    StructureOutside,
    /// A reset at the start does not end.
    NeverResets,
    /// FEATURES_OK does not stay.
    FeaturesRefused,
    /// The generation of the configuration is another one whenever it is read.
    Restless,
    /// It tells a capacity of so many sectors.
    TellsSectors(u64),
    /// The register that tells of chains lies outside of the structure for them.
    NotifyOutside,
    /// Queues get no interrupt.
    VectorRefused,
    /// Changes of the configuration get no interrupt.
    ChangesVectorRefused,
    /// `queue_enable` does not stay.
    QueueRefused,
    /// It reaches only the first MiB of memory.
    ShortReach,
    /// The system does not let it reach memory.
    MapRefused,

    /// Does so many requests, the one for the serial number included, and never does what comes then.
    HoldsAfter(u64),
    /// Holds all requests but the first, too. When it is reset it takes its time, and does all of them before the reset
    /// ends.
    AnswersLate,
    /// Never sends an interrupt for a queue.
    NoCalls,
    /// Is pulled out when its configuration is read in service, and holds all requests but the first.
    VanishesWhileRead,
    /// Does not end a reset once it was in service, and holds all requests but the first.
    NeverResetsAgain,
}

impl Kind {
    /// Features as they are offered.
    pub(super) fn offered(&self) -> u64 {
        let many = if self.queues > 1 { crate::testing::feature::MQ } else { 0 };
        self.features | many
    }

    /// Requests that it does before it holds what comes.
    pub(super) fn requests(&self) -> u64 {
        match self.fault {
            Fault::HoldsAfter(count) => count,
            Fault::AnswersLate | Fault::VanishesWhileRead | Fault::NeverResetsAgain => 1,
            _ => u64::MAX,
        }
    }
}
