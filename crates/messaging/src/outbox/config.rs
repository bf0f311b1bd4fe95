//! Bounds of the outbox.

use alys_stream_protocol::message::Priority;

/// Most messages in memory that are taken for one endpoint and priority, unless configured: twice
/// what credits allow in flight.
pub const WINDOW_MAX: usize = 8192;

/// Most messages under `any` of one priority that are assigned to one endpoint, unless configured:
/// twice what credits allow in flight.
pub const ASSIGNED_MAX: usize = 8192;

/// Bounds of the outbox.
///
/// With `n` connected endpoints there are, per priority, at most `n * (window_max + assigned_max)`
/// and once more `window_max` messages in memory, whatever waits on the disk, and what was asked
/// for and is about to be taken: at most as much again. Each takes about 300 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxConfig {
    /// After so many retryable refusals by one endpoint they count as a terminal one; default 20.
    pub refusals_max: u32,
    /// Messages under `any`, per priority, that are assigned to one endpoint and unacknowledged;
    /// default 8192, twice what credits allow in flight. More keep a slow endpoint busy with what
    /// others could take; fewer starve a fast one. For `Critical` it is at least `window_max`.
    pub assigned_max: usize,
    /// Messages of one priority that are in memory for one endpoint (queued, in flight or waiting
    /// for a retry), and as many that wait for whoever has room; default 8192. More cost memory;
    /// with fewer, more is looked up again, and refused messages stop others earlier.
    pub window_max: usize,
    /// Makes the jitter of retries.
    pub seed: u64,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { refusals_max: 20, assigned_max: ASSIGNED_MAX, window_max: WINDOW_MAX, seed: 0 }
    }
}

impl OutboxConfig {
    pub(super) const fn window(&self) -> usize {
        if self.window_max == 0 { 1 } else { self.window_max }
    }

    /// Below it more is looked up.
    pub(super) const fn window_low(&self) -> usize {
        self.window().div_ceil(2)
    }

    pub(super) fn assigned_max(&self, priority: Priority) -> usize {
        match priority {
            Priority::Critical => self.assigned_max.max(self.window()),
            Priority::High | Priority::Normal | Priority::Low => self.assigned_max.max(1),
        }
    }
}
