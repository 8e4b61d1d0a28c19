//! [`Kind`]: what a device is to be.

use super::fault::Fault;
pub use crate::testing::feature::{
    BLK_SIZE, DISCARD, EVENT_IDX, FLUSH, INDIRECT_DESC, MQ, READ_ONLY, SEG_MAX, SIZE_MAX, VERSION_1,
    WRITE_ZEROES,
};

/// Bit of the virtio features that says: there are protocol features.
pub const PROTOCOL_FEATURES: u64 = 1 << 30;

/// The features that a kind may have or not, by name.
pub const FEATURES: &[(&str, u64)] = &[
    ("indirect-desc", INDIRECT_DESC),
    ("event-idx", EVENT_IDX),
    ("flush", FLUSH),
    ("discard", DISCARD),
    ("write-zeroes", WRITE_ZEROES),
    ("read-only", READ_ONLY),
    ("blk-size", BLK_SIZE),
    ("size-max", SIZE_MAX),
    ("seg-max", SEG_MAX),
];

/// What every device says it is.
pub const SERIAL: &str = "a-serial-number-20ch";

/// What a back-end is to be.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Size of the disk, a multiple of 512.
    pub capacity_bytes: u64,
    /// Number of queues, all served by one thread.
    pub queues: u16,
    /// Virtio features besides those that every kind has.
    pub features: u64,
    /// Longest buffer in bytes, with [`SIZE_MAX`].
    pub size_max: u32,
    /// Most buffers of data in a request, with [`SEG_MAX`].
    pub seg_max: u32,
    /// Block size in bytes, with [`BLK_SIZE`].
    pub blk_size: u32,
    /// Longest discard and write zeroes request in sectors.
    pub range_sectors: u32,
    /// What it speaks of the vhost-user protocol.
    pub protocol: Protocol,
    /// What it does wrong.
    pub fault: Fault,
}

/// What a back-end speaks of the vhost-user protocol beyond its core; each may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Any protocol features at all.
    pub any: bool,
    /// CONFIG: the front-end can read the configuration space.
    pub config: bool,
    /// MQ: the number of queues can be asked for.
    pub mq: bool,
    /// REPLY_ACK: messages can ask for an acknowledgement.
    pub reply_ack: bool,
    /// CONFIGURE_MEM_SLOTS: memory can be given and taken region by region. libblkio demands it.
    pub mem_slots: bool,
}

impl Protocol {
    /// All of it.
    pub const FULL: Protocol =
        Protocol { any: true, config: true, mq: true, reply_ack: true, mem_slots: true };
}

impl Default for Kind {
    fn default() -> Kind {
        Kind {
            capacity_bytes: 1 << 20,
            queues: 1,
            features: INDIRECT_DESC | EVENT_IDX | FLUSH | DISCARD | WRITE_ZEROES,
            size_max: 0,
            seg_max: 0,
            blk_size: 512,
            range_sectors: 1 << 16,
            protocol: Protocol::FULL,
            fault: Fault::None,
        }
    }
}
