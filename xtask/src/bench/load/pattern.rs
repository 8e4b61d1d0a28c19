//! The content of a test image: every 8-byte word follows from its offset and a seed.
//!
//! A word is one of 512 random words, chosen by its place in its 4 KiB page, xored with a key made from the page
//! number. The bytes look random to any compressor, a page from elsewhere differs in all of its words, data shifted
//! inside a page differs too, and filling 4 KiB costs some ten nanoseconds, so that the load generator stays cheap.

use std::fmt;

/// Length of a word in bytes.
pub(crate) const WORD_BYTES: usize = 8;
const PAGE_WORDS: usize = 512;
const PAGE_BYTES: u64 = (PAGE_WORDS * WORD_BYTES) as u64;
/// The odd constant nearest to 2^64 divided by the golden ratio, as SplitMix64 uses it.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The content of an image as a function of seed and offset.
#[derive(Clone)]
pub(crate) struct Pattern {
    seed: u64,
    table: Box<[u64; PAGE_WORDS]>,
}

/// A word that is not what the pattern says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Offset of the word in the image, in bytes.
    pub offset: u64,
    /// What the pattern has there.
    pub expected: u64,
    /// What arrived.
    pub found: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at offset {:#x}: expected {:#018x}, found {:#018x}",
            self.offset, self.expected, self.found
        )
    }
}

/// How much of each payload is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Check {
    /// Nothing: for servers that return zeroes by design.
    Off,
    /// The first and the last word of every 4 KiB.
    #[default]
    Some,
    /// Every word.
    Full,
}

/// SplitMix64's output function: a bijection that spreads every input bit over the word.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// SplitMix64 as a generator, for offsets.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(GOLDEN)))
    }

    /// A number below `bound`, which must not be 0. The bias (at most `bound` / 2^32) does not matter here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let wide = u128::from(mix(self.0)) * u128::from(bound);
        (wide >> 64) as u64
    }
}

impl Pattern {
    /// The pattern of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut table = Box::new([0; PAGE_WORDS]);
        for (i, word) in (1u64..).zip(table.iter_mut()) {
            *word = mix(seed.wrapping_add(i.wrapping_mul(GOLDEN)));
        }
        Self { seed, table }
    }

    fn key(&self, page: u64) -> u64 {
        mix(self.seed ^ page.wrapping_mul(GOLDEN))
    }

    /// The word at `offset` bytes, which must be a multiple of 8.
    pub(crate) fn word(&self, offset: u64) -> u64 {
        self.table[offset as usize / WORD_BYTES % PAGE_WORDS] ^ self.key(offset / PAGE_BYTES)
    }

    /// Fills `out` with the content at `offset` bytes; both are multiples of 8.
    pub(crate) fn fill(&self, mut offset: u64, mut out: &mut [u8]) {
        while !out.is_empty() {
            let first = offset as usize / WORD_BYTES % PAGE_WORDS;
            let len = out.len().min((PAGE_WORDS - first) * WORD_BYTES);
            let (page, rest) = out.split_at_mut(len);
            let key = self.key(offset / PAGE_BYTES);
            for (bytes, word) in page.chunks_exact_mut(WORD_BYTES).zip(&self.table[first..]) {
                bytes.copy_from_slice(&(word ^ key).to_le_bytes());
            }
            out = rest;
            offset += len as u64;
        }
    }

    /// Compares `data`, which lies at `offset` bytes; `offset` and the length are multiples of 8.
    pub(crate) fn check(&self, how: Check, mut offset: u64, mut data: &[u8]) -> Result<(), Mismatch> {
        if how == Check::Off {
            return Ok(());
        }
        while !data.is_empty() {
            let first = offset as usize / WORD_BYTES % PAGE_WORDS;
            let len = data.len().min((PAGE_WORDS - first) * WORD_BYTES);
            let (page, rest) = data.split_at(len);
            match how {
                Check::Full => self.check_page(offset, page)?,
                _ => {
                    self.check_word(offset, page)?;
                    let last = len.saturating_sub(WORD_BYTES);
                    self.check_word(offset + last as u64, &page[last..])?;
                }
            }
            data = rest;
            offset += len as u64;
        }
        Ok(())
    }

    fn check_page(&self, offset: u64, page: &[u8]) -> Result<(), Mismatch> {
        let words = (offset..).step_by(WORD_BYTES);
        words.zip(page.chunks_exact(WORD_BYTES)).try_for_each(|(at, bytes)| self.check_word(at, bytes))
    }

    /// Compares the first word of `data`.
    fn check_word(&self, offset: u64, data: &[u8]) -> Result<(), Mismatch> {
        let Some(bytes) = data.first_chunk() else { return Ok(()) };
        let (expected, found) = (self.word(offset), u64::from_le_bytes(*bytes));
        if expected == found { Ok(()) } else { Err(Mismatch { offset, expected, found }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fill_writes_check_accepts_at_any_word() {
        let pattern = Pattern::new(7);
        let mut data = vec![0; 12_288];
        pattern.fill(4096 - 24, &mut data);
        assert_eq!(pattern.check(Check::Full, 4096 - 24, &data), Ok(()));
        assert_eq!(pattern.check(Check::Full, 4096, &data[24..]), Ok(()));
    }

    #[test]
    fn a_page_from_elsewhere_is_found_by_its_first_word() {
        let pattern = Pattern::new(7);
        let mut data = vec![0; 4096];
        pattern.fill(8192, &mut data);
        let mismatch = pattern.check(Check::Some, 4096, &data).unwrap_err();
        assert_eq!((mismatch.offset, mismatch.found), (4096, pattern.word(8192)));
    }

    #[test]
    fn one_flipped_bit_is_found_by_a_full_check_only() {
        let pattern = Pattern::new(7);
        let mut data = vec![0; 8192];
        pattern.fill(0, &mut data);
        data[5000] ^= 1;
        assert_eq!(pattern.check(Check::Some, 0, &data), Ok(()));
        assert_eq!(pattern.check(Check::Full, 0, &data).unwrap_err().offset, 5000);
    }

    #[test]
    fn seeds_give_different_images() {
        assert_ne!(Pattern::new(1).word(0), Pattern::new(2).word(0));
    }

    #[test]
    fn random_numbers_stay_below_their_bound_and_reach_both_ends() {
        let mut random = Random::new(3);
        let drawn: std::collections::BTreeSet<u64> = (0..1000).map(|_| random.below(10)).collect();
        assert_eq!(drawn, (0..10).collect());
    }
}
