//! Latencies, and what is said about them.

use serde::Serialize;

/// Durations of one kind, all in one unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<u64>);

/// The median, and what one in a hundred exceeds. Zero when there are no samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

impl Samples {
    pub(crate) fn push(&mut self, value: u64) {
        self.0.push(value);
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        Percentiles { p50: nearest_rank(&sorted, 50), p99: nearest_rank(&sorted, 99) }
    }
}

/// The smallest value that at least `percent` of all values do not exceed.
fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let mut samples = Samples::default();
        assert_eq!(samples.percentiles(), Percentiles { p50: 0, p99: 0 });
        for value in (1..=200).rev() {
            samples.push(value);
        }
        assert_eq!(samples.percentiles(), Percentiles { p50: 100, p99: 198 });
    }
}
