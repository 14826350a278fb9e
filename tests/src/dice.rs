//! Choices of a test, by a seed: the same seed makes the same choices in every run.

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed ^ 0x6d69_6e69_6b76)
    }

    /// The part of a seed that belongs to whoever has this name. What others draw, or how many they are, changes nothing in it.
    pub fn of(seed: u64, name: &str) -> Dice {
        let named = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        // Mixed, so that neighbours among seeds and names share nothing.
        let mixed = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ named).roll();
        Dice(mixed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Dice for somebody else.
    pub fn fork(&mut self) -> Dice {
        Dice(self.roll())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fault or a client that is added must not change what the others do.
    #[test]
    fn everybody_draws_from_a_part_of_the_seed_of_their_own() {
        let first: Vec<u64> = (0..100)
            .map(|n| Dice::of(7, &format!("client {n}")).roll())
            .collect();
        let mut sorted = first.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 100);
        assert_eq!(Dice::of(7, "client 3").roll(), first[3]);
        assert_ne!(Dice::of(8, "client 3").roll(), first[3]);
    }
}
