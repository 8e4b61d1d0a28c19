//! Feature bits of devices that tests make (VIRTIO 1.2, sections 5.2.3 "Feature bits" and 6 "Reserved Feature Bits").
//! The drivers have their own, so that a mistake there is not confirmed here.

/// `size_max` counts.
pub const SIZE_MAX: u64 = 1 << 1;
/// `seg_max` counts.
pub const SEG_MAX: u64 = 1 << 2;
/// Writes are refused.
pub const READ_ONLY: u64 = 1 << 5;
/// `blk_size` counts.
pub const BLK_SIZE: u64 = 1 << 6;
/// There are flush requests.
pub const FLUSH: u64 = 1 << 9;
/// `num_queues` counts.
pub const MQ: u64 = 1 << 12;
/// There are discard requests.
pub const DISCARD: u64 = 1 << 13;
/// There are write zeroes requests.
pub const WRITE_ZEROES: u64 = 1 << 14;
/// Chains may lie in a table of their own.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Each side says at which buffer it wants to be notified.
pub const EVENT_IDX: u64 = 1 << 29;
/// The device follows version 1 of the specification.
pub const VERSION_1: u64 = 1 << 32;
/// The device reaches memory by addresses that were set up for it.
pub const ACCESS_PLATFORM: u64 = 1 << 33;
/// Queues are packed.
pub const RING_PACKED: u64 = 1 << 34;
