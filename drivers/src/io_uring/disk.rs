//! [`Disk`]: the target, its limits, and what changes about them while it is in service. Shared by all queues.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::probe::{self, Holes};
use super::target::{Kind, Target};
use crate::driver::Opener;
use crate::error::Error;
use crate::limits::{DiscardLimits, Limits, ZeroesLimits};
use crate::sys::block;
use crate::sys::file::{self, DirectAlignment};
use crate::sysfs::BlockAttributes;

/// Longest read or write: the kernel cuts at 2 GiB less a page, whatever the device.
const MAX_TRANSFER_BYTES: u32 = 1 << 30;

/// Longest discard or zeroes request. Longer ones would hold the file's lock for seconds.
const MAX_FALLOCATE_BYTES: u64 = 1 << 30;

/// The unit of the page cache. Direct and buffered writes never meet in one.
const PAGE_BYTES: u64 = 4096;

/// The disk as all queues see it.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) target: Target,
    /// What does not change; the capacity in it is that of the beginning.
    fixed: Limits,
    capacity_bytes: AtomicU64,
    /// Offset and length of discards and zeroes are multiples of this.
    hole_unit_bytes: u32,
    can_discard: AtomicBool,
    can_punch: AtomicBool,
    can_zero_range: AtomicBool,
    told_shrunk: AtomicBool,
    /// Discards and zeroes so far: what was known about data before may be too much afterwards.
    holes_made: AtomicU64,
    /// sysfs `discard_granularity` and `discard_alignment`.
    pub(super) discard_alignment: (u32, u32),
}

/// What is done with a discard or zeroes request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `fallocate(2)` with this mode.
    Fallocate(i32),
    /// The discard ioctl, by a helper.
    Ioctl,
    /// It cannot be done.
    None,
}

impl Disk {
    /// Finds out the facts about `target`.
    ///
    /// # Errors
    /// When the system does not tell them, or they are such that the disk cannot be served as asked.
    pub(super) fn new(target: Target, opener: &dyn Opener) -> Result<Disk, Error> {
        let attributes = BlockAttributes::of(target.device, opener);
        let capacity_bytes = target
            .size_bytes()
            .map_err(|cause| Error::system(format!("find out the size of {}", target.name), &cause))?;
        let alignment = match target.direct {
            true => probe::direct_alignment(&target, &attributes)?,
            false => DirectAlignment { memory_bytes: 1, offset_bytes: 1 },
        };
        if capacity_bytes % u64::from(alignment.offset_bytes) != 0 && target.buffered().is_none() {
            return Err(Error::device(format!(
                "the size of {} is no multiple of {} bytes, and its end cannot be reached: opening it a second time \
                 through /proc/self/fd failed",
                target.name, alignment.offset_bytes
            ))
            .hint("mount /proc, make the file longer, or leave out direct=true"));
        }
        let holes = match (target.kind, target.read_only) {
            (_, true) => Holes { punch: false, zero_range: false },
            (Kind::Regular, _) => probe::holes(&target, capacity_bytes),
            (Kind::Block, _) => device_holes(&attributes),
        };
        let fixed = limits(&target, &attributes, capacity_bytes, alignment).validate()?;
        let number = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
        let granularity = match target.kind {
            Kind::Block => number(attributes.queue_number("discard_granularity")),
            Kind::Regular => fixed.request_alignment_bytes,
        };
        // The ioctl and `fallocate` on a device take whole logical blocks.
        let block = match target.kind {
            Kind::Block => block::logical_block_bytes(target.file()).unwrap_or(512),
            Kind::Regular => 1,
        };
        let can_discard = match target.kind {
            Kind::Block => attributes.queue_number("discard_max_bytes").is_none_or(|bytes| bytes > 0),
            Kind::Regular => holes.punch,
        };
        let offset =
            if target.kind == Kind::Block { number(attributes.number("discard_alignment")) } else { 0 };
        Ok(Disk {
            hole_unit_bytes: block.max(fixed.request_alignment_bytes),
            can_discard: AtomicBool::new(can_discard && !target.read_only),
            fixed,
            capacity_bytes: AtomicU64::new(capacity_bytes),
            can_punch: AtomicBool::new(holes.punch),
            can_zero_range: AtomicBool::new(holes.zero_range),
            told_shrunk: AtomicBool::new(false),
            holes_made: AtomicU64::new(0),
            discard_alignment: (granularity, if offset == granularity { 0 } else { offset }),
            target,
        })
    }

    /// The limits, without asking the system.
    pub(super) fn limits(&self) -> Limits {
        let punch = self.can_punch.load(Ordering::Relaxed);
        let zero_range = self.can_zero_range.load(Ordering::Relaxed);
        let unit = self.hole_unit_bytes;
        let writable = !self.fixed.read_only;
        // A device that cannot write zeroes by itself is sent them by the kernel, which is slow but still less work
        // than being sent them by a front-end.
        let zeroes = writable && (punch || zero_range || self.target.kind == Kind::Block);
        Limits {
            capacity_bytes: self.capacity_bytes.load(Ordering::Relaxed),
            discard: (writable && self.discard_way() != Way::None)
                .then_some(DiscardLimits { max_bytes: MAX_FALLOCATE_BYTES, alignment_bytes: unit }),
            write_zeroes: zeroes.then_some(ZeroesLimits {
                max_bytes: MAX_FALLOCATE_BYTES,
                alignment_bytes: unit,
                fast_unmap: punch || zero_range,
                fast_no_unmap: zero_range,
            }),
            ..self.fixed
        }
    }

    /// The limits as they are now: a file may have grown. A file that shrank keeps its capacity; what is missing
    /// fails with `EIO`.
    pub(super) fn ask_limits(&self) -> Limits {
        if let Ok(size) = self.target.size_bytes() {
            let reachable = match self.target.buffered() {
                None if self.target.direct => size - size % u64::from(self.fixed.request_alignment_bytes),
                _ => size,
            };
            self.capacity_bytes.fetch_max(reachable, Ordering::Relaxed);
        }
        self.limits()
    }

    /// For a disk that is open with `O_DIRECT`: where that ends. If the capacity ends inside a block, reads and writes
    /// of the last page go through the page cache.
    ///
    /// The whole page, because a direct write that is in flight while a buffered one fills and writes back the same
    /// page would be lost.
    pub(super) fn direct_until(&self) -> Option<u64> {
        let capacity = self.capacity_bytes.load(Ordering::Relaxed);
        let unit = u64::from(self.fixed.request_alignment_bytes);
        let end =
            if capacity.is_multiple_of(unit) { capacity } else { capacity - capacity % unit.max(PAGE_BYTES) };
        self.target.direct.then_some(end)
    }

    /// How a discard is done.
    pub(super) fn discard_way(&self) -> Way {
        match self.target.kind {
            _ if !self.can_discard.load(Ordering::Relaxed) => Way::None,
            Kind::Block => Way::Ioctl,
            Kind::Regular => Way::Fallocate(probe::PUNCH_HOLE),
        }
    }

    /// How zeroes are written. On a block device `fallocate` never allocates: both modes become a request to write
    /// zeroes, with or without leave to unmap, and ZERO_RANGE makes the kernel write them where the device cannot.
    pub(super) fn zeroes_way(&self, no_unmap: bool, fast: bool) -> Way {
        let punch = self.can_punch.load(Ordering::Relaxed);
        let zero_range = self.can_zero_range.load(Ordering::Relaxed);
        let no_unmap = no_unmap && !planted!("no-hole-punches-the-file");
        match self.target.kind {
            _ if !no_unmap && punch => Way::Fallocate(probe::PUNCH_HOLE),
            Kind::Regular if zero_range => Way::Fallocate(probe::ZERO_RANGE),
            Kind::Block if zero_range || !fast => Way::Fallocate(probe::ZERO_RANGE),
            _ => Way::None,
        }
    }

    /// Remembers that the system does not know a way after all.
    pub(super) fn downgrade(&self, way: Way) {
        let (ability, what) = match way {
            Way::Fallocate(probe::PUNCH_HOLE) => (&self.can_punch, "make holes"),
            Way::Fallocate(_) => (&self.can_zero_range, "zero ranges"),
            Way::Ioctl | Way::None => (&self.can_discard, "discard"),
        };
        if ability.swap(false, Ordering::Relaxed) {
            tracing::warn!("{} cannot {what} after all", self.target.name);
        }
        if self.target.kind == Kind::Regular && way == Way::Fallocate(probe::PUNCH_HOLE) {
            self.can_discard.store(false, Ordering::Relaxed);
        }
    }

    /// Says once that the file ends before the disk does.
    pub(super) fn tell_shrunk(&self, offset: u64) {
        if !self.told_shrunk.swap(true, Ordering::Relaxed) {
            let (name, capacity) = (&self.target.name, self.capacity_bytes.load(Ordering::Relaxed));
            tracing::error!(
                "{name} has become shorter than the disk of {capacity} bytes: reading at {offset} found its end; \
                 requests beyond the end fail"
            );
        }
    }

    /// Notes that a discard or zeroes request begins or has ended.
    pub(super) fn note_hole(&self) {
        self.holes_made.fetch_add(1, Ordering::Relaxed);
    }

    /// How many times holes may have been made.
    pub(super) fn holes_made(&self) -> u64 {
        self.holes_made.load(Ordering::Relaxed)
    }

    /// Whether the disk is read and written through the page cache, so that requests may finish at once.
    pub(super) fn is_buffered(&self) -> bool {
        !self.target.direct
    }

    /// Whether a transfer on the page cache lies inside the disk; there it needs no alignment.
    pub(super) fn contains(&self, offset: u64, len: usize) -> bool {
        let end = offset.checked_add(len as u64);
        end.is_some_and(|end| end <= self.capacity_bytes.load(Ordering::Relaxed))
            && len <= MAX_TRANSFER_BYTES as usize
    }

    /// Whether a transfer may go on at `offset`.
    pub(super) fn is_aligned(&self, offset: u64) -> bool {
        let aligned = offset.is_multiple_of(self.fixed.request_alignment_bytes.into());
        aligned || self.direct_until().is_none_or(|end| offset >= end)
    }

    /// The descriptor of the disk.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.target.file()
    }
}

fn device_holes(attributes: &BlockAttributes<'_>) -> Holes {
    let can = attributes.queue_number("write_zeroes_max_bytes").is_some_and(|bytes| bytes > 0);
    Holes { punch: can, zero_range: can }
}

/// The limits that do not change.
fn limits(
    target: &Target,
    attributes: &BlockAttributes<'_>,
    capacity_bytes: u64,
    alignment: DirectAlignment,
) -> Limits {
    let queue = |name: &str| attributes.queue_number(name).and_then(|value| u32::try_from(value).ok());
    let (preferred, optimal_io_bytes) = match target.kind {
        Kind::Block => (
            block::physical_block_bytes(target.file()).unwrap_or(4096).max(PAGE_BYTES as u32),
            queue("optimal_io_size").unwrap_or(0),
        ),
        Kind::Regular => (file::file_system(target.file()).map_or(4096, |(_, block)| block), 0),
    };
    let preferred = if preferred.is_power_of_two() { preferred } else { 4096 };
    let write_back = attributes.queue("write_cache").is_none_or(|text| text != "write through");
    Limits {
        capacity_bytes,
        read_only: target.read_only,
        can_grow: target.kind == Kind::Regular,
        request_alignment_bytes: alignment.offset_bytes,
        buffer_alignment_bytes: alignment.memory_bytes,
        optimal_io_alignment_bytes: preferred.max(alignment.offset_bytes),
        optimal_io_bytes,
        max_transfer_bytes: MAX_TRANSFER_BYTES,
        discard: None,
        write_zeroes: None,
        // RWF_DSYNC: the kernel sends the device a FUA write, or a flush after the write.
        fua: true,
        flush_needed: target.kind == Kind::Regular || !target.direct || write_back,
        block_status: target.kind == Kind::Regular,
        rotational: queue("rotational") == Some(1),
        immediate: !target.direct,
    }
}
