//! Whether it pays to compress a batch: when the link is slower than the compressor.
//!
//! Pure: it is told how long sending and compressing took. A batch of `n` bytes takes `n / link`
//! as it is, and `n / compressor + n · ratio / link` compressed; so it pays while
//! `link < compressor · (1 − ratio)`.

use std::time::Duration;

use alys_stream_protocol::limits;
use serde::{Deserialize, Serialize};

/// When batches are compressed, if both sides can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Never.
    Off,
    /// When the link is slower than the compressor; never on loopback.
    #[default]
    Auto,
    /// Every batch that is long enough, on loopback too.
    Always,
}

/// Weight of a new measurement.
const ALPHA: f64 = 1.0 / 8.0;

/// Bytes per second of the compressor before it was measured: zstd level 1 on one old core.
const COMPRESSOR_START: f64 = 100e6;

/// What is left of a batch before that was measured.
const RATIO_START: f64 = 0.6;

/// After so many batches that found room at once the link is not what holds them back.
const PROMPT_MAX: u32 = 8;

/// Every so many batches that were not compressed for their ratio one is, to see whether the
/// messages have changed.
const PROBE_EVERY: u32 = 64;

/// What was measured.
#[derive(Debug)]
pub(super) struct Gauge {
    mode: Compression,
    /// Bytes per second, when it is what holds us back.
    link: Option<f64>,
    prompt: u32,
    compressor: f64,
    ratio: f64,
    passed_over: u32,
}

impl Gauge {
    pub(super) const fn new(mode: Compression) -> Self {
        Self {
            mode,
            link: None,
            prompt: 0,
            compressor: COMPRESSOR_START,
            ratio: RATIO_START,
            passed_over: 0,
        }
    }

    /// A frame of `bytes` was taken by the link after `took`; `waited` when there was no room at
    /// once.
    pub(super) fn handle_taken(&mut self, bytes: usize, took: Duration, waited: bool) {
        if !waited {
            self.prompt = self.prompt.saturating_add(1);
            if self.prompt >= PROMPT_MAX {
                self.link = None;
            }
            return;
        }
        self.prompt = 0;
        if let Some(rate) = rate(bytes, took) {
            self.link = Some(self.link.map_or(rate, |link| blend(link, rate)));
        }
    }

    /// A batch was compressed.
    pub(super) fn handle_compressed(&mut self, before: usize, after: usize, took: Duration) {
        if let Some(rate) = rate(before, took) {
            self.compressor = blend(self.compressor, rate);
        }
        self.ratio = blend(self.ratio, float(after) / float(before.max(1)));
    }

    /// Whether to compress a batch of so many encoded bytes.
    pub(super) fn is_worth(&mut self, bytes: usize) -> bool {
        if bytes < limits::COMPRESSED_BYTES_MIN {
            return false;
        }
        match (self.mode, self.link) {
            (Compression::Off, _) | (Compression::Auto, None) => false,
            (Compression::Always, _) => true,
            (Compression::Auto, Some(link)) => {
                if link < self.compressor * (1.0 - self.ratio) {
                    self.passed_over = 0;
                    return true;
                }
                self.passed_over += 1;
                let probe = link < self.compressor && self.passed_over >= PROBE_EVERY;
                if probe {
                    self.passed_over = 0;
                }
                probe
            }
        }
    }
}

fn blend(old: f64, new: f64) -> f64 {
    old + ALPHA * (new - old)
}

fn rate(bytes: usize, took: Duration) -> Option<f64> {
    let seconds = took.as_secs_f64();
    (seconds > 0.0 && bytes > 0).then(|| float(bytes) / seconds)
}

/// Exact up to 4 GiB, far more than a frame.
fn float(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 64 * 1024;

    fn slow_link(gauge: &mut Gauge, bytes_per_second: u32) {
        let took = Duration::from_secs_f64(float(BATCH) / f64::from(bytes_per_second));
        for _ in 0..50 {
            gauge.handle_taken(BATCH, took, true);
        }
    }

    #[test]
    fn it_pays_on_a_slow_link_alone() {
        let mut gauge = Gauge::new(Compression::Auto);
        assert!(!gauge.is_worth(BATCH), "nothing is known of the link");
        slow_link(&mut gauge, 1_000_000);
        assert!(gauge.is_worth(BATCH));
        assert!(!gauge.is_worth(limits::COMPRESSED_BYTES_MIN - 1));
        slow_link(&mut gauge, 1_000_000_000);
        assert!(!gauge.is_worth(BATCH), "the link is faster than the compressor");
        slow_link(&mut gauge, 1_000_000);
        for _ in 0..PROMPT_MAX {
            gauge.handle_taken(BATCH, Duration::ZERO, false);
        }
        assert!(!gauge.is_worth(BATCH), "there is room at once");
    }

    #[test]
    fn what_does_not_shrink_is_tried_now_and_then() {
        let mut gauge = Gauge::new(Compression::Auto);
        slow_link(&mut gauge, 1_000_000);
        for _ in 0..100 {
            gauge.handle_compressed(BATCH, BATCH + 10, Duration::from_micros(600));
        }
        let tried = (0..640).filter(|_| gauge.is_worth(BATCH)).count();
        assert_eq!(tried, 10);
    }

    #[test]
    fn off_and_always_ask_nobody() {
        let mut off = Gauge::new(Compression::Off);
        slow_link(&mut off, 1000);
        assert!(!off.is_worth(BATCH));
        assert!(Gauge::new(Compression::Always).is_worth(limits::COMPRESSED_BYTES_MIN));
        assert!(!Gauge::new(Compression::Always).is_worth(limits::COMPRESSED_BYTES_MIN - 1));
    }
}
