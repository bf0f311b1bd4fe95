//! Bounds of what is known of refusals.

use serde::Deserialize;

use crate::log::OnCorruption;

/// Most messages whose refusals are kept, unless configured: about 10 MiB of memory.
pub const COUNT_MAX: usize = 100_000;

/// Most bytes of refusals, unless configured: 64 MiB.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bounds of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefusalConfig {
    /// Most messages whose refusals are kept; default 100 000. More cost about 100 bytes of memory
    /// each; with fewer, the oldest are offered again to who refused them.
    pub count_max: usize,
    /// Most bytes of refusals that are kept; default 64 MiB. Beyond it the oldest are forgotten.
    pub bytes_max: u64,
    /// Bytes of one segment file, 8 KiB to 1 GiB; default 4 MiB.
    pub segment_bytes: u64,
    /// What to do about damage found at start-up; default `quarantine`.
    pub on_corruption: OnCorruption,
}

impl Default for RefusalConfig {
    fn default() -> Self {
        Self {
            count_max: COUNT_MAX,
            bytes_max: BYTES_MAX,
            segment_bytes: 4 * 1024 * 1024,
            on_corruption: OnCorruption::Quarantine,
        }
    }
}
