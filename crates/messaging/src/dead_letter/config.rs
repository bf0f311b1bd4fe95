//! Bounds of the dead letters.

use std::time::Duration;

use serde::Deserialize;

use crate::log::OnCorruption;

/// Bounds of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterConfig {
    /// Bytes of one segment file, 8 KiB to 1 GiB; default 16 MiB.
    pub segment_bytes: u64,
    /// Bytes of all dead letters; default 1 GiB. Beyond it the oldest are dropped for good. Each counts
    /// as [`LETTER_BYTES_MIN`] at least, so that this bounds what is in memory of them, too: about 250
    /// bytes each, 64 MiB by default.
    pub bytes_max: u64,
    /// How long one is kept; default without end. Then it is dropped for good.
    #[serde(with = "humantime_serde")]
    pub age_max: Option<Duration>,
    /// What to do about damage found at start-up; default `quarantine`.
    pub on_corruption: OnCorruption,
}

/// Bytes of all dead letters unless configured: 1 GiB.
pub const BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes that a dead letter counts as at least. The more of them there are, the more is in memory of
/// them, however small they are (D7).
pub const LETTER_BYTES_MIN: u64 = 4096;

/// Most dead letters of one message that are found at once.
pub const FOUND_MAX: usize = 1024;

/// From this share of `bytes_max` on, in percent, the stat says that the store is nearly full.
pub const NEARLY_FULL_PERCENT: u64 = 80;

impl Default for DeadLetterConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            bytes_max: BYTES_MAX,
            age_max: None,
            on_corruption: OnCorruption::Quarantine,
        }
    }
}
