//! What is in memory of the dead letters: where each lies, by id, by message and by age.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{LogId, MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use super::{
    DeadLetterConfig, DeadLetterId, FOUND_MAX, KIND_DEAD, KIND_PURGED, LETTER_BYTES_MIN,
    NEARLY_FULL_PERCENT, codec,
};
use crate::log::{Event, Location, Position, SegmentUsage};
use crate::record::ByteReader;

/// Counts and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadLetterStat {
    /// How many there are.
    pub count: u64,
    /// Their bytes, at least [`super::LETTER_BYTES_MIN`] for each.
    pub bytes: u64,
    /// How many bytes there may be before the oldest are dropped.
    pub bytes_max: u64,
    /// When the first of them died.
    pub oldest: Option<UnixMillis>,
    /// How many were dropped since the store was opened, for either reason. They are lost.
    pub dropped: u64,
    /// How many of those because of their age; the others for their bytes.
    pub dropped_by_age: u64,
}

impl DeadLetterStat {
    /// Whether it is time to replay or purge some, before the oldest are dropped.
    #[must_use]
    pub const fn is_nearly_full(&self) -> bool {
        self.bytes >= self.bytes_max / 100 * NEARLY_FULL_PERCENT
    }

    /// How many were dropped because there were too many bytes.
    #[must_use]
    pub const fn dropped_by_bytes(&self) -> u64 {
        self.dropped.saturating_sub(self.dropped_by_age)
    }
}

/// What is known of one without reading it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) log: LogId,
    pub(super) seq: Seq,
    pub(super) id: MessageId,
    pub(super) died_at: UnixMillis,
    pub(super) bytes: u64,
    pub(super) position: Position,
    /// Where it lies, once it is durable.
    pub(super) location: Option<Location>,
}

impl Kept {
    /// What it counts as.
    fn weight(&self) -> u64 {
        self.bytes.max(LETTER_BYTES_MIN)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) next_id: u64,
    pub(super) kept: BTreeMap<u64, Kept>,
    pub(super) ids: BTreeMap<(LogId, Seq), u64>,
    /// By when they died: wall clocks go back, ids do not.
    by_age: BTreeSet<(UnixMillis, u64)>,
    by_message: BTreeSet<(MessageId, u64)>,
    /// From this id on none is dropped: its message may not be settled yet.
    pub(super) held_from: u64,
    /// Purged, as far as a segment may still have them.
    pub(super) purged: SeqSet,
    bytes: u64,
    dropped_by_bytes: u64,
    dropped_by_age: u64,
    pub(super) usage: SegmentUsage,
}

impl Default for State {
    fn default() -> Self {
        Self {
            next_id: 1,
            kept: BTreeMap::new(),
            ids: BTreeMap::new(),
            by_age: BTreeSet::new(),
            by_message: BTreeSet::new(),
            held_from: 1,
            purged: SeqSet::new(),
            bytes: 0,
            dropped_by_bytes: 0,
            dropped_by_age: 0,
            usage: SegmentUsage::default(),
        }
    }
}

impl State {
    pub(super) fn insert(&mut self, id: u64, kept: Kept) {
        self.next_id = self.next_id.max(id + 1);
        self.bytes += kept.weight();
        self.ids.insert((kept.log, kept.seq), id);
        self.by_age.insert((kept.died_at, id));
        self.by_message.insert((kept.id, id));
        self.kept.insert(id, kept);
    }

    pub(super) fn purge(&mut self, id: u64) -> bool {
        let Some(kept) = self.kept.remove(&id) else {
            return false;
        };
        self.bytes -= kept.weight();
        self.ids.remove(&(kept.log, kept.seq));
        self.by_age.remove(&(kept.died_at, id));
        self.by_message.remove(&(kept.id, id));
        self.purged.insert(Seq(id));
        if let Some(location) = kept.location {
            self.usage.handle_released(location.segment);
        }
        true
    }

    /// Takes out those that are too old, then the first ones for their bytes, but never the newest
    /// for that, and none that is held.
    pub(super) fn drop_oldest(&mut self, config: &DeadLetterConfig, now: UnixMillis) -> SeqSet {
        let mut dropped = SeqSet::new();
        let is_too_old = |died_at: UnixMillis| {
            config.age_max.is_some_and(|age_max| now.saturating_since(died_at) > age_max)
        };
        let held_from = self.held_from;
        while let Some((_, id)) = self
            .by_age
            .iter()
            .copied()
            .take_while(|(died_at, _)| is_too_old(*died_at))
            .find(|(_, id)| *id < held_from)
        {
            self.drop_for_good(id, "age", &mut dropped);
            self.dropped_by_age += 1;
        }
        while self.bytes > config.bytes_max
            && self.kept.len() > 1
            && let Some((id, _)) = self.kept.first_key_value()
            && *id < held_from
        {
            self.drop_for_good(*id, "bytes", &mut dropped);
            self.dropped_by_bytes += 1;
        }
        dropped
    }

    fn drop_for_good(&mut self, id: u64, bound: &str, dropped: &mut SeqSet) {
        if let Some(kept) = self.kept.get(&id) {
            tracing::warn!(id, seq = %kept.seq, message = %kept.id, bound, "a dead letter is dropped for good");
        }
        self.purge(id);
        dropped.insert(Seq(id));
    }

    pub(super) fn find(&self, id: &MessageId) -> Vec<DeadLetterId> {
        let found = self.by_message.range((*id, 0)..=(*id, u64::MAX)).rev().take(FOUND_MAX);
        let mut found: Vec<_> = found.map(|(_, id)| DeadLetterId(*id)).collect();
        found.reverse();
        found
    }

    pub(super) fn stat(&self, config: &DeadLetterConfig) -> DeadLetterStat {
        DeadLetterStat {
            count: u64::try_from(self.kept.len()).unwrap_or(u64::MAX),
            bytes: self.bytes,
            bytes_max: config.bytes_max,
            oldest: self.by_age.first().map(|(died_at, _)| *died_at),
            dropped: self.dropped_by_age + self.dropped_by_bytes,
            dropped_by_age: self.dropped_by_age,
        }
    }
}

/// Takes in what the log has.
pub(super) fn rebuild(state: &mut State, event: &Event<'_>) {
    match event {
        Event::Checkpoint { payload } => {
            let mut reader = ByteReader::new(payload);
            let (Some(next_id), Some(purged)) = (reader.u64(), reader.seq_set()) else {
                return;
            };
            state.next_id = state.next_id.max(next_id);
            for range in purged.ranges() {
                state.purged.insert_range(range);
            }
            let gone: Vec<u64> =
                state.kept.keys().copied().filter(|id| purged.contains(Seq(*id))).collect();
            for id in gone {
                state.purge(id);
            }
        }
        Event::Entry { kind: KIND_DEAD, key, position, location, payload } => {
            let head = codec::decode_head(payload);
            let head = head.filter(|_| !state.purged.contains(Seq(*key)));
            state.usage.handle_placed(*location, head.is_some());
            if let Some(codec::Head { log, seq, died_at, id }) = head {
                let bytes = u64::try_from(payload.len()).unwrap_or(u64::MAX);
                let (position, location) = (*position, Some(*location));
                state.insert(*key, Kept { log, seq, id, died_at, bytes, position, location });
            }
        }
        Event::Entry { kind, location, payload, .. } => {
            state.usage.handle_placed(*location, false);
            if *kind == KIND_PURGED {
                let purged = ByteReader::new(payload).seq_set().unwrap_or_default();
                for id in purged.iter() {
                    if !state.purge(id.0) {
                        state.purged.insert(id);
                    }
                }
            }
        }
        Event::Damage(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::OnCorruption;

    /// However small they are, so many of them take so much memory.
    #[test]
    fn small_ones_are_bounded_by_their_number() {
        let mut state = State { held_from: u64::MAX, ..State::default() };
        let config = DeadLetterConfig {
            segment_bytes: 8192,
            bytes_max: 10 * LETTER_BYTES_MIN,
            age_max: None,
            on_corruption: OnCorruption::Quarantine,
        };
        for id in 1..=12_u64 {
            let (log, seq, position) = (LogId::new([7; 16]), Seq(id), Position(id));
            let id_of = MessageId::new(u128::from(id).to_be_bytes());
            let kept = Kept {
                log,
                seq,
                id: id_of,
                died_at: UnixMillis(id),
                bytes: 100,
                position,
                location: None,
            };
            state.insert(id, kept);
            assert_eq!(state.stat(&config).is_nearly_full(), id >= 8, "{id}");
        }
        assert_eq!(
            state.drop_oldest(&config, UnixMillis(20)),
            [Seq(1), Seq(2)].into_iter().collect()
        );
        assert_eq!(state.stat(&config).bytes, config.bytes_max);
        assert_eq!(state.stat(&config).count, 10);
    }
}
