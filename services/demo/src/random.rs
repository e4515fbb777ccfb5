//! SplitMix64 (Steele, Lea and Flood 2014): a small generator with the same numbers on every machine for
//! ever, which no random number crate guarantees across its versions.

use std::ops::RangeInclusive;

pub(super) struct Random(u64);

impl Random {
    pub(super) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns an index below `length`, which must not be 0.
    pub(super) const fn index(&mut self, length: usize) -> usize {
        // The high half of the product of two 64-bit numbers is less than the second.
        ((self.next() as u128 * length as u128) >> 64) as usize
    }

    pub(super) const fn within(&mut self, range: &RangeInclusive<i64>) -> i64 {
        let (low, high) = (*range.start(), *range.end());
        low + self.index((high - low) as usize + 1) as i64
    }

    /// Returns true with a probability of `times` in a thousand.
    pub(super) const fn happens_per_mille(&mut self, times: usize) -> bool {
        self.index(1_000) < times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_match_the_reference_implementation() {
        // The first outputs of the reference implementation in C, seeded with 1234567.
        let mut random = Random::seeded(1_234_567);
        let numbers = [random.next(), random.next(), random.next()];
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_range_includes_both_ends() {
        let mut random = Random::seeded(1);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[(random.within(&(5..=7)) - 5) as usize] = true;
        }
        assert_eq!(seen, [true; 3]);
    }
}
