//! What a target can do: alignment of `O_DIRECT`, and which `fallocate(2)` modes its file system knows.

use std::io;

use super::target::{Kind, Target};
use crate::error::Error;
use crate::sys::file::{self, DirectAlignment};
use crate::sys::{block, mmap::Mapping};
use crate::sysfs::BlockAttributes;

/// Magic numbers of file systems (`linux/magic.h`) that are known well enough not to be tried out.
const EXT: i64 = 0xEF53;
const F2FS: i64 = 0xF2F5_2010;
const XFS: i64 = 0x5846_5342;
const BTRFS: i64 = 0x9123_683E;
const TMPFS: i64 = 0x0102_1994;

/// Mode of `fallocate(2)` that makes a hole.
pub(super) const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
/// Mode of `fallocate(2)` that zeroes and keeps the space. Without KEEP_SIZE it would make the file grow.
pub(super) const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// Finds out what `O_DIRECT` demands of `target`: from `statx(2)` where the kernel tells, else from the device, else
/// by trying.
///
/// # Errors
/// When the file does not take `O_DIRECT` at all.
pub(super) fn direct_alignment(
    target: &Target,
    attributes: &BlockAttributes<'_>,
) -> Result<DirectAlignment, Error> {
    let told = file::direct_alignment(target.file())
        .map_err(|cause| Error::system(format!("ask for the alignment of {}", target.name), &cause))?;
    if let Some(alignment) = told {
        if alignment.offset_bytes == 0 || alignment.memory_bytes == 0 {
            return Err(Error::device(format!("{} does not take O_DIRECT", target.name))
                .hint("leave out direct=true"));
        }
        return Ok(alignment);
    }
    let device_block = match target.kind {
        Kind::Block => block::logical_block_bytes(target.file()).ok(),
        Kind::Regular => {
            attributes.queue_number("logical_block_size").and_then(|bytes| u32::try_from(bytes).ok())
        }
    };
    let bytes = device_block.or_else(|| tried_alignment(target)).unwrap_or(4096);
    Ok(DirectAlignment { memory_bytes: bytes, offset_bytes: bytes })
}

/// The smallest unit in which reading works.
fn tried_alignment(target: &Target) -> Option<u32> {
    let memory = Mapping::memory(c"gateway-probe", 8192).ok()?;
    [512u32, 1024, 2048, 4096].into_iter().find(|&bytes| {
        let piece = memory.slice(bytes as usize, bytes as usize);
        piece.is_some_and(|piece| file::read_at(target.file(), u64::from(bytes), &piece, 0).is_ok())
    })
}

/// Which ways of making zeroes and holes a file's file system knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holes {
    pub(super) punch: bool,
    pub(super) zero_range: bool,
}

/// Finds out what a writable regular file can do. Common file systems are known; others are asked to act on a range
/// behind the end of the file, where there is nothing to lose.
pub(super) fn holes(target: &Target, size_bytes: u64) -> Holes {
    match file::file_system(target.file()).map_or(0, |(magic, _)| magic) {
        // Files of ext3 lack both; nothing tells them apart, so they are corrected at the first request.
        EXT | F2FS | XFS | BTRFS => Holes { punch: true, zero_range: true },
        TMPFS => Holes { punch: true, zero_range: false },
        _ => tried_holes(target, size_bytes),
    }
}

fn tried_holes(target: &Target, size_bytes: u64) -> Holes {
    const UNIT: u64 = 1 << 20;
    let Some(offset) = size_bytes.checked_next_multiple_of(UNIT).and_then(|end| end.checked_add(UNIT)) else {
        return Holes { punch: false, zero_range: false };
    };
    let knows = |mode: i32| match file::fallocate(target.file(), mode, offset, 4096) {
        Ok(()) => true,
        // A full disk or a size limit says nothing against the mode.
        Err(error) => !is_unsupported(&error),
    };
    // Zeroing first: the hole then takes back what zeroing has allocated.
    let zero_range = knows(ZERO_RANGE);
    Holes { punch: knows(PUNCH_HOLE), zero_range }
}

/// Whether a system call failed because the file system does not know the operation.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV | libc::ENOTTY))
}
