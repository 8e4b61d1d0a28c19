//! Random numbers that can be had again.

/// xorshift64*: small, quick, and the same everywhere. Not for secrets.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Starts from `GATEWAY_TESTS_SEED` if that is set, else from a seed of this process; prints it, so that a
    /// failure can be had again.
    ///
    /// # Panics
    /// `GATEWAY_TESTS_SEED` is not a number.
    #[must_use]
    pub fn from_environment() -> Rng {
        let seed = match std::env::var("GATEWAY_TESTS_SEED") {
            Ok(text) => text.parse().expect("GATEWAY_TESTS_SEED is a decimal number"),
            Err(_) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.map_or(1, |now| now.subsec_nanos().into()) ^ (u64::from(std::process::id()) << 32)
            }
        };
        eprintln!("seed: GATEWAY_TESTS_SEED={seed}");
        Rng::new(seed)
    }

    /// Starts from this seed; any number will do.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        // Neighbouring seeds must not give similar beginnings, and the state must not be zero.
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Rng { state: (mixed ^ (mixed >> 31)) | 1 }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// A number of `range`, which is not empty.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// Whether a thing happens that happens once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        assert_eq!(Rng::new(7).bytes(100), Rng::new(7).bytes(100));
        assert_ne!(Rng::new(7).bytes(100), Rng::new(8).bytes(100));
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_both_ends() {
        let mut rng = Rng::new(1);
        let numbers: Vec<u64> = (0..1000).map(|_| rng.within(10..15)).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&10), Some(&14)));
    }
}
