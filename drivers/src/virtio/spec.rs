//! Numbers of the virtio specification, version 1.2.

/// Feature bits of block devices (section 5.2.3 "Feature bits") and of all devices (section 6 "Reserved Feature
/// Bits").
pub(crate) mod feature {
    /// `size_max`: longest buffer.
    pub(crate) const SIZE_MAX: u64 = 1 << 1;
    /// `seg_max`: most buffers of data in a request.
    pub(crate) const SEG_MAX: u64 = 1 << 2;
    /// The device is read-only.
    pub(crate) const READ_ONLY: u64 = 1 << 5;
    /// `blk_size`.
    pub(crate) const BLK_SIZE: u64 = 1 << 6;
    /// The device has a cache and can flush it.
    pub(crate) const FLUSH: u64 = 1 << 9;
    /// `topology`.
    pub(crate) const TOPOLOGY: u64 = 1 << 10;
    /// `num_queues`.
    pub(crate) const MQ: u64 = 1 << 12;
    /// Discard requests.
    pub(crate) const DISCARD: u64 = 1 << 13;
    /// Write zeroes requests.
    pub(crate) const WRITE_ZEROES: u64 = 1 << 14;
    /// Chains may lie in a table of their own.
    pub(crate) const INDIRECT_DESC: u64 = 1 << 28;
    /// Each side says at which buffer it wants to be notified.
    pub(crate) const EVENT_IDX: u64 = 1 << 29;
    /// The device follows version 1 of the specification.
    pub(crate) const VERSION_1: u64 = 1 << 32;
    /// The device reaches memory by addresses that were set up for it.
    pub(crate) const ACCESS_PLATFORM: u64 = 1 << 33;
    /// Queues are packed.
    pub(crate) const RING_PACKED: u64 = 1 << 34;
    /// Memory is ordered as between processors and devices, not as between processors only.
    pub(crate) const ORDER_PLATFORM: u64 = 1 << 36;
}

/// Bits of the device status (section 2.1 "Device Status Field").
pub(crate) mod device_status {
    pub(crate) const ACKNOWLEDGE: u8 = 1;
    pub(crate) const DRIVER: u8 = 2;
    pub(crate) const DRIVER_OK: u8 = 4;
    pub(crate) const FEATURES_OK: u8 = 8;
    pub(crate) const NEEDS_RESET: u8 = 64;
    pub(crate) const FAILED: u8 = 128;
}

/// The type of block devices (section 5 "Device Types").
pub(crate) const BLOCK_DEVICE: u16 = 2;

/// Types of requests (section 5.2.6 "Device Operation").
pub(crate) mod request {
    pub(crate) const IN: u32 = 0;
    pub(crate) const OUT: u32 = 1;
    pub(crate) const FLUSH: u32 = 4;
    pub(crate) const GET_ID: u32 = 8;
    pub(crate) const DISCARD: u32 = 11;
    pub(crate) const WRITE_ZEROES: u32 = 13;

    /// Flag of a write zeroes segment: the device may unmap the range.
    pub(crate) const FLAG_UNMAP: u32 = 1;

    /// Length of the header: type, reserved, sector.
    pub(crate) const HEADER_BYTES: u32 = 16;
    /// Length of a segment of a discard or write zeroes request: sector, number of sectors, flags.
    pub(crate) const RANGE_BYTES: u32 = 16;
    /// Length of the answer to a request for the serial number.
    pub(crate) const ID_BYTES: usize = 20;
}

/// Status of a request (section 5.2.6).
pub(crate) mod status {
    pub(crate) const OK: u8 = 0;
    pub(crate) const UNSUPPORTED: u8 = 2;
    /// What we put there before the device does: no status of the specification.
    pub(crate) const UNANSWERED: u8 = 0xff;
}

/// Flags of the split ring (section 2.7 "Split Virtqueues").
pub(crate) mod split {
    pub(crate) const DESC_NEXT: u16 = 1;
    pub(crate) const DESC_WRITE: u16 = 2;
    pub(crate) const DESC_INDIRECT: u16 = 4;
    /// In the driver area: do not call.
    pub(crate) const AVAIL_NO_INTERRUPT: u16 = 1;
    /// In the device area: do not kick.
    pub(crate) const USED_NO_NOTIFY: u16 = 1;
}

/// Flags of the packed ring (section 2.8 "Packed Virtqueues").
pub(crate) mod packed {
    pub(crate) const DESC_NEXT: u16 = 1;
    pub(crate) const DESC_WRITE: u16 = 2;
    pub(crate) const DESC_INDIRECT: u16 = 4;
    /// Made available in this lap of the ring, if it is the driver's wrap counter.
    pub(crate) const DESC_AVAIL: u16 = 1 << 7;
    /// Used in this lap of the ring, if it is the device's wrap counter.
    pub(crate) const DESC_USED: u16 = 1 << 15;
    /// In an event suppression structure: notify of everything.
    pub(crate) const EVENT_ENABLE: u16 = 0;
    /// Notify of nothing.
    pub(crate) const EVENT_DISABLE: u16 = 1;
    /// Notify of one descriptor; only with [`super::feature::EVENT_IDX`].
    pub(crate) const EVENT_DESC: u16 = 2;
    /// All bits of the event flags; the others are reserved.
    pub(crate) const EVENT_MASK: u16 = 3;
    /// The wrap counter beside the place of an event.
    pub(crate) const EVENT_WRAP: u16 = 1 << 15;
}

/// Every offset and length of the protocol is in units of this many bytes, whatever the block size (section 5.2.4).
pub(crate) const SECTOR_BYTES: u64 = 512;
