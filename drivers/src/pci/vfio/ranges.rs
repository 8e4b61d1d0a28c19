//! Addresses that the IOMMU has for a device (include/uapi/linux/vfio.h, VFIO_IOMMU_GET_INFO and its capability
//! VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE). The crate `vfio-ioctls` does not ask for them.
#![expect(unsafe_code, reason = "ioctl has no safe face")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, vfio_iommu_type1_info,
};

/// `_IO(VFIO_TYPE, VFIO_BASE + 12)`.
const GET_INFO: libc::c_ulong = (0x3b << 8) | (100 + 12);

/// Room for the answer: a kernel that needs more says so, and then is not asked again.
const ANSWER_WORDS: usize = 512;

/// Where `cap_offset` lies in the answer.
const CAP_OFFSET_AT: usize = 16;

/// What every IOMMU of the platforms around has, below the window for interrupts; for kernels that do not tell.
const UNTOLD: (u64, u64) = (0, 0xfedf_ffff);

/// The ranges, ascending.
pub(super) fn of(container: BorrowedFd<'_>) -> Vec<(u64, u64)> {
    let ranges = ask(container).ok().and_then(|answer| decode(&answer));
    match ranges {
        Some(mut ranges) if !ranges.is_empty() => {
            ranges.sort_unstable();
            ranges
        }
        _ => vec![UNTOLD],
    }
}

fn ask(container: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    // Words, so that the structure is aligned.
    let mut words = vec![0_u64; ANSWER_WORDS];
    let len = (ANSWER_WORDS * 8) as u32;
    words[0] = u64::from(len);
    // SAFETY: the kernel writes at most `argsz` bytes, the structure's first field, which is the length of `words`.
    let result = unsafe { libc::ioctl(container.as_raw_fd(), GET_INFO, words.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(words.into_iter().flat_map(u64::to_ne_bytes).collect())
}

/// The ranges in an answer; `None`: there are none in it.
fn decode(answer: &[u8]) -> Option<Vec<(u64, u64)>> {
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(answer.get(at..at + 8)?.try_into().ok()?));
    if word(4)? & VFIO_IOMMU_INFO_CAPS == 0 {
        return None;
    }
    let mut at = word(CAP_OFFSET_AT)? as usize;
    // Header of a capability: id, version, offset of the next one.
    while at >= size_of::<vfio_iommu_type1_info>() {
        if u32::from(half(at)?) == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE {
            let count = word(at + 8)? as usize;
            return (0..count).map(|n| Some((long(at + 16 + n * 16)?, long(at + 24 + n * 16)?))).collect();
        }
        let next = word(at + 4)? as usize;
        if next <= at {
            return None;
        }
        at = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; 96];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(4, &flags.to_ne_bytes());
        put(16, &24_u32.to_ne_bytes());
        // Another capability first.
        put(24, &3_u16.to_ne_bytes());
        put(28, &40_u32.to_ne_bytes());
        put(40, &1_u16.to_ne_bytes());
        put(48, &2_u32.to_ne_bytes());
        for (at, value) in [(56, 0_u64), (64, 0xfedf_ffff), (72, 0xfef0_0000), (80, 0x7f_ffff_ffff)] {
            put(at, &value.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn ranges_are_found() {
        let expected = vec![(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)];
        assert_eq!(decode(&answer(VFIO_IOMMU_INFO_CAPS)), Some(expected));
        assert_eq!(decode(&answer(0)), None);
    }

    #[test]
    fn an_answer_that_is_cut_or_turns_in_circles_has_none() {
        let whole = answer(VFIO_IOMMU_INFO_CAPS);
        for len in 0..88 {
            assert_eq!(decode(&whole[..len]), None, "{len}");
        }
        let mut circle = whole;
        circle[28..32].copy_from_slice(&24_u32.to_ne_bytes());
        assert_eq!(decode(&circle), None);
    }
}
