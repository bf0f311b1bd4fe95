//! Where what is random in a test of real processes begins: every run is another one.
//!
//! A seed repeats what a test does. What the scheduler, the network and the disk make of it is not the
//! same again.

use std::hash::{BuildHasher as _, RandomState};

/// Repeats a run.
const VARIABLE: &str = "ALYS_STREAM_SEED";

/// What is random in this run: by the seed of the environment, or a new one. Says which.
///
/// # Panics
///
/// When the environment has something else than a seed.
#[must_use]
#[expect(clippy::print_stdout, reason = "a run that fails is repeated by what is printed")]
pub fn rng() -> fastrand::Rng {
    let told = std::env::var(VARIABLE).ok();
    let seed = told.map_or_else(|| RandomState::new().hash_one(()), |told| read(&told));
    println!("seed {seed:#x}: {VARIABLE}={seed:#x} repeats it");
    fastrand::Rng::with_seed(seed)
}

/// Reads what [`rng`] prints, or a decimal number.
fn read(text: &str) -> u64 {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.unwrap_or_else(|error| panic!("{VARIABLE}={text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        for seed in [0, 17, u64::MAX] {
            assert_eq!(read(&format!("{seed:#x}")), seed);
            assert_eq!(read(&seed.to_string()), seed);
        }
    }
}
