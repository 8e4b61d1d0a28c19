//! [`Bitmap`]: which pages of the RAM disk have ever been written. Shared by all threads, without locks.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::sys::mmap::Mapping;

/// One bit per page. The words lie in a mapping of their own, so that the bitmap of a disk that is mostly empty takes
/// (almost) no memory either.
#[derive(Debug)]
pub(super) struct Bitmap {
    words: Mapping,
}

/// Bits of one word.
const WORD_BITS: u64 = u64::BITS as u64;

impl Bitmap {
    pub(super) fn new(bits: u64) -> io::Result<Bitmap> {
        let bytes = usize::try_from(bits.div_ceil(WORD_BITS).max(1) * 8)
            .map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        Ok(Bitmap { words: Mapping::memory(c"gateway-bitmap", bytes)? })
    }

    /// Sets the bits `first..end`. Stores made before are visible to whoever clears a bit that was set.
    pub(super) fn set(&self, first: u64, end: u64) {
        // Not even a bit that is found set may be looked at before the caller's stores are done.
        fence(Ordering::SeqCst);
        for_each_word(first, end, |index, mask| {
            let word = self.word(index);
            // Rewriting a page is the common case: a load keeps the cache line shared between the cores then.
            if word.load(Ordering::Acquire) & mask != mask {
                word.fetch_or(mask, Ordering::AcqRel);
            }
        });
    }

    /// Clears the bits `first..end`.
    pub(super) fn clear(&self, first: u64, end: u64) {
        for_each_word(first, end, |index, mask| {
            self.word(index).fetch_and(!mask, Ordering::AcqRel);
        });
    }

    /// Whether bit `first` is set, and the end of the run of equal bits that begins there, at most `end`.
    pub(super) fn run(&self, first: u64, end: u64) -> (bool, u64) {
        let mut index = first / WORD_BITS;
        let word = self.word(index).load(Ordering::Acquire);
        let set = word >> (first % WORD_BITS) & 1 == 1;
        // Ones are where the run ends.
        let differing = |word: u64| if set { !word } else { word };
        let mut rest = differing(word) & (u64::MAX << (first % WORD_BITS));
        while rest == 0 {
            index += 1;
            if index * WORD_BITS >= end {
                return (set, end);
            }
            rest = differing(self.word(index).load(Ordering::Acquire));
        }
        (set, (index * WORD_BITS + u64::from(rest.trailing_zeros())).min(end))
    }

    fn word(&self, index: u64) -> &AtomicU64 {
        // The mapping is page aligned and as long as the number of bits given to `new` demands.
        let offset = usize::try_from(index * 8).expect("the bitmap fits into the address space");
        self.words.atomic_u64(offset).expect("a checked offset has its bit")
    }
}

/// Calls `action` with index and mask of each word that has bits of `first..end`.
fn for_each_word(first: u64, end: u64, mut action: impl FnMut(u64, u64)) {
    let mut bit = first;
    while bit < end {
        let index = bit / WORD_BITS;
        let until = end.min((index + 1) * WORD_BITS);
        let ones = until - bit;
        action(index, (u64::MAX >> (WORD_BITS - ones)) << (bit % WORD_BITS));
        bit = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_bits_change_and_at_the_end_of_the_question() {
        let bitmap = Bitmap::new(1000).unwrap();
        assert_eq!(bitmap.run(0, 1000), (false, 1000));
        bitmap.set(60, 200);
        assert_eq!(bitmap.run(0, 1000), (false, 60));
        assert_eq!(bitmap.run(60, 1000), (true, 200));
        assert_eq!(bitmap.run(63, 150), (true, 150));
        bitmap.clear(64, 128);
        assert_eq!(bitmap.run(60, 1000), (true, 64));
        assert_eq!(bitmap.run(64, 1000), (false, 128));
        assert_eq!(bitmap.run(200, 1000), (false, 1000));
        assert_eq!(bitmap.run(999, 1000), (false, 1000));
    }

    #[test]
    fn a_range_of_whole_words_touches_no_neighbour() {
        let bitmap = Bitmap::new(256).unwrap();
        bitmap.set(64, 128);
        assert_eq!(bitmap.run(0, 256), (false, 64));
        assert_eq!(bitmap.run(128, 256), (false, 256));
    }
}
