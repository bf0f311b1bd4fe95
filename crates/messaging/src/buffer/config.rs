//! Bounds of the buffer.

use alys_stream_protocol::limits;
use alys_stream_protocol::message::Priority;
use serde::Deserialize;

use super::BacklogPage;
use crate::log::{LogConfig, OnCorruption, SEGMENT_BYTES};

/// Bytes of unsettled messages that are kept on disk unless configured: 8 GiB.
pub const QUOTA_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Bytes of payloads kept in memory unless configured: 64 MiB.
pub const PAYLOAD_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of what is known of unsettled messages besides their payloads, in memory unless
/// configured: 8 MiB.
pub const INDEX_CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// How many consecutive messages have their ids in one group unless configured.
pub const ID_GROUP_MESSAGES: u32 = 65_536;

/// Fewest and most messages of a group of ids: a page of the index, and what a map in memory of
/// about 100 MiB holds.
pub const ID_GROUP_MESSAGES_MIN: u32 = 128;
/// See [`ID_GROUP_MESSAGES_MIN`].
pub const ID_GROUP_MESSAGES_MAX: u32 = 1 << 20;

/// How many settled ids are remembered unless configured.
pub const SETTLED_IDS_MAX: usize = 1_000_000;

/// Bytes that may wait to be written: 64 MiB.
pub const PENDING_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes held back for a full disk unless configured: 64 MiB.
pub const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// How much of the quota messages of each priority may fill unless configured, in percent, by
/// [`Priority::index`]: what is more urgent finds room when what is less urgent finds none.
pub const QUOTA_PERCENT: [u64; 4] = [70, 85, 95, 100];

/// A message of the largest size and what is around it: it fits into an empty buffer at every
/// priority.
const MESSAGE_BYTES: u64 = (limits::MESSAGE_BYTES_MAX + limits::RECORD_OVERHEAD_BYTES_MAX) as u64;

/// What happens to a message for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Its sender waits until there is.
    Block,
    /// Its sender is told to come again.
    #[default]
    Reject,
    /// The oldest messages of low priority make room: they become dead letters, cause `evicted`.
    /// When there are none, its sender is told to come again.
    DropOldestLow,
}

impl WhenFull {
    /// The word used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Reject => "reject",
            Self::DropOldestLow => "drop_oldest_low",
        }
    }
}

/// Bounds of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferConfig {
    /// Bytes of one segment file, 8 KiB to 1 GiB; default 64 MiB. Higher: fewer files, space is given back in
    /// larger steps.
    pub segment_bytes: u64,
    /// Bytes of unsettled messages; default 8 GiB. Beyond it `append` answers `Full`.
    pub quota_bytes: u64,
    /// A message of low priority is accepted while all unsettled ones take at most so many bytes;
    /// default 70 % of the quota.
    pub quota_low_bytes: Option<u64>,
    /// As [`Self::quota_low_bytes`], of normal priority; default 85 % of the quota.
    pub quota_normal_bytes: Option<u64>,
    /// As [`Self::quota_low_bytes`], of high priority; default 95 % of the quota. Critical messages
    /// may fill all of it.
    pub quota_high_bytes: Option<u64>,
    /// What happens when there is no room; default `reject`.
    pub when_full: WhenFull,
    /// Bytes of payloads in memory, less what summaries of the backlog take (about 3 bytes per
    /// unsettled message); default 64 MiB. Beyond it payloads are read back from the log.
    pub payload_cache_bytes: u64,
    /// Bytes of what is known of single unsettled messages, in memory, by pages of 128; default
    /// 8 MiB. Beyond it the pages used longest ago are read back from the log when they are needed.
    pub index_cache_bytes: u64,
    /// At least so many settled message ids are remembered, against sending twice, also by the
    /// next process; default a million. Each costs 20 bytes on disk and 2 bytes of memory; whole
    /// groups are forgotten.
    pub settled_ids_max: usize,
    /// How many consecutive messages have their ids in one group, 128 to 1 Mi, in steps of 128;
    /// default 65 536. The newest group is in memory, about 70 bytes per id; the others are in
    /// files `ids-*` beside the log, and the newest one is written there, too, before a segment
    /// with messages of it goes. Higher: fewer files, more memory, longer pauses when a group is
    /// full, and more to write with each segment of large messages.
    pub id_group_messages: u32,
    /// Bytes that may wait to be written; default 64 MiB. Beyond it `append` answers `Backlog`.
    pub pending_bytes_max: u64,
    /// Bytes of a file that is held back for a full disk, at most four segments; default 64 MiB,
    /// 0 for none. It is made when the first whole segment is, given up when the disk is full, so
    /// that what was accepted and settled can still be written, and made again when there is space:
    /// until then `append` answers `DiskFull`. More than may wait to be written lets all of that
    /// be written on a full disk.
    pub reserve_bytes: u64,
    /// What to do about damage found at start-up; default `quarantine`.
    pub on_corruption: OnCorruption,
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            quota_bytes: QUOTA_BYTES,
            quota_low_bytes: None,
            quota_normal_bytes: None,
            quota_high_bytes: None,
            when_full: WhenFull::Reject,
            payload_cache_bytes: PAYLOAD_CACHE_BYTES,
            index_cache_bytes: INDEX_CACHE_BYTES,
            settled_ids_max: SETTLED_IDS_MAX,
            id_group_messages: ID_GROUP_MESSAGES,
            pending_bytes_max: PENDING_BYTES_MAX,
            reserve_bytes: RESERVE_BYTES,
            on_corruption: OnCorruption::Quarantine,
        }
    }
}

impl BufferConfig {
    /// How many bytes of unsettled messages there may be, all priorities together, for one of this
    /// priority to be accepted. Never less than what the largest message takes, unless the quota is.
    #[must_use]
    pub fn quota_bytes_of(&self, priority: Priority) -> u64 {
        let configured = match priority {
            Priority::Low => self.quota_low_bytes,
            Priority::Normal => self.quota_normal_bytes,
            Priority::High => self.quota_high_bytes,
            Priority::Critical => None,
        };
        let percent = QUOTA_PERCENT.get(priority.index()).copied().unwrap_or(100);
        let share = self.quota_bytes / 100 * percent + self.quota_bytes % 100 * percent / 100;
        configured.unwrap_or_else(|| share.max(MESSAGE_BYTES)).min(self.quota_bytes)
    }

    /// How many consecutive messages have their ids in one group: whole pages of the index.
    pub(super) fn id_group_seqs(&self) -> u64 {
        let messages = self.id_group_messages.clamp(ID_GROUP_MESSAGES_MIN, ID_GROUP_MESSAGES_MAX);
        u64::from(messages).next_multiple_of(BacklogPage::SEQS)
    }

    pub(super) fn log(&self) -> LogConfig {
        LogConfig::new(self.segment_bytes, self.on_corruption).with_reserve(self.reserve_bytes)
    }
}
