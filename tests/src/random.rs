//! The source of every choice in a random run: `SplitMix64`, which gives the same numbers on every platform.

/// A pseudo-random number generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates a generator from a seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Creates a generator for one part of a seeded run; its numbers do not depend on draws of other parts.
    #[must_use]
    pub fn of(seed: u64, parts: &[u64]) -> Self {
        let mixed = parts
            .iter()
            .fold(seed, |mixed, part| Self::seeded(mixed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next());
        Self::seeded(mixed)
    }

    /// Returns the next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`, which must not be 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        // The high half of a product of two 64-bit numbers is below the second of them.
        ((self.next() as u128 * limit as u128) >> 64) as u64
    }

    /// Returns a number from `low` to `high`, both included.
    pub const fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Returns true with a probability of `times` in 100.
    pub const fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    /// Returns one of the elements.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}
