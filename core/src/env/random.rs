//! Randomness: ids, nonces, jitter.
//!
//! Outside a simulation it is the operating system's. Inside it comes from the simulation's seed, so that the same seed
//! draws the same ids in the same order.

use std::convert::Infallible;

use rand::rngs::{SmallRng, ThreadRng};
use rand::{SeedableRng, TryRng};

use super::sim;

/// Fills `buf` with random bytes fit for keys and nonces.
///
/// # Panics
/// When the operating system has no randomness to give. Going on would mean guessable keys.
pub fn fill(buf: &mut [u8]) {
    if sim::active() {
        return sim::random(|rng| rand::Rng::fill_bytes(rng, buf));
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that asks the operating system"
    )]
    let filled = getrandom::fill(buf);
    if let Err(error) = filled {
        panic!("the operating system gave no randomness: {error}");
    }
}

/// A random number, all 64 bits of it.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A number in `0..bound`, close enough to uniform for jitter and choices; 0 if `bound` is 0.
pub fn below(bound: u64) -> u64 {
    let wide = u128::from(u64()) * u128::from(bound);
    (wide >> 64) as u64
}

/// A fast generator for one thread: not for keys.
#[derive(Debug)]
pub struct Generator(Kind);

#[derive(Debug)]
enum Kind {
    Thread(ThreadRng),
    Seeded(SmallRng),
}

/// A generator of this thread; in a simulation one seeded from its stream.
pub fn generator() -> Generator {
    if sim::active() {
        return Generator(Kind::Seeded(SmallRng::seed_from_u64(u64())));
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that asks for the thread's generator"
    )]
    Generator(Kind::Thread(rand::rng()))
}

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        match &mut self.0 {
            Kind::Thread(rng) => rng.try_next_u32(),
            Kind::Seeded(rng) => rng.try_next_u32(),
        }
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        match &mut self.0 {
            Kind::Thread(rng) => rng.try_next_u64(),
            Kind::Seeded(rng) => rng.try_next_u64(),
        }
    }

    fn try_fill_bytes(&mut self, buf: &mut [u8]) -> Result<(), Infallible> {
        match &mut self.0 {
            Kind::Thread(rng) => rng.try_fill_bytes(buf),
            Kind::Seeded(rng) => rng.try_fill_bytes(buf),
        }
    }
}
