//! Rebuilds the index from what the log holds. Pure: events in, state out.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use super::index::{Index, Live, stored_bytes};
use super::{KIND_RECORD, KIND_SETTLED};
use crate::log::format::NUMBER_MAX;
use crate::log::{Event, Gap, GapCause, Location, Recovery, SegmentId, SegmentUsage, TornTail};
use crate::record::{self, ByteReader, RecordMeta};

/// Sequence numbers of unsettled messages that cannot be read any more (D5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordGap {
    /// Why.
    pub cause: GapCause,
    /// The segment in which damage was found; 0 when a file is missing.
    pub segment: SegmentId,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; 0 when that is not known.
    pub bytes: u64,
    /// The numbers that are lost, when they can be derived.
    pub seqs: Option<RangeInclusive<Seq>>,
    /// Whether an earlier start reported it: nothing of it was unsettled any more.
    pub is_known: bool,
}

/// What opening a buffer found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the buffer was created by this open.
    pub is_created: bool,
    /// Messages to deliver, in order of seq.
    pub unsettled: Vec<RecordMeta>,
    /// What is lost.
    pub gaps: Vec<RecordGap>,
    /// What was cut off at the end, never acknowledged to anyone.
    pub torn_tail: Option<TornTail>,
    /// Entries read.
    pub entries: u64,
    /// Messages to deliver that died before: their place, and the one under which they died
    /// ([`Seq::VOLATILE`] when that was in another log).
    pub replayed: BTreeMap<Seq, Seq>,
}

pub(super) struct Rebuild {
    records: BTreeMap<u64, (RecordMeta, Location)>,
    settled: SeqSet,
    settled_below: Seq,
    next_seq: u64,
    usage: SegmentUsage,
    live_bytes: BTreeMap<u64, u64>,
    /// Ids of messages that are settled already, oldest first.
    settled_ids: VecDeque<(MessageId, Seq)>,
    settled_ids_max: usize,
    /// The highest seq read so far.
    last_seq: u64,
    damage: Vec<(Gap, u64, Option<u64>)>,
    /// What the next seq may be when each entry in the damage since the last record was one: a
    /// number that was given is never given again (M8).
    next_seq_hidden: Option<u64>,
    replayed: BTreeMap<Seq, Seq>,
}

/// Whether these may be seqs of this buffer: nobody counts further.
fn is_plausible(seqs: &SeqSet) -> bool {
    seqs.last().is_none_or(|last| last.0 < NUMBER_MAX)
}

impl Rebuild {
    pub(super) fn new(settled_ids_max: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            settled: SeqSet::new(),
            settled_below: Seq::FIRST,
            next_seq: 1,
            usage: SegmentUsage::default(),
            live_bytes: BTreeMap::new(),
            settled_ids: VecDeque::new(),
            settled_ids_max,
            last_seq: 0,
            damage: Vec::new(),
            next_seq_hidden: None,
            replayed: BTreeMap::new(),
        }
    }

    pub(super) fn handle_event(&mut self, event: Event<'_>) {
        match event {
            Event::Checkpoint { payload } => self.handle_checkpoint(payload),
            Event::Entry { kind: KIND_RECORD, key, location, payload, .. } => {
                self.handle_record(Seq(key), location, payload);
            }
            Event::Entry { kind: KIND_SETTLED, location, payload, .. } => {
                self.usage.handle_placed(location, false);
                if let Some(settled) = ByteReader::new(payload).seq_set().filter(is_plausible) {
                    for range in settled.ranges() {
                        self.handle_settled(range);
                    }
                }
            }
            Event::Entry { kind, location, .. } => {
                tracing::warn!(kind, "an entry of an unknown kind is left alone");
                self.usage.handle_placed(location, false);
            }
            Event::Damage(gap) => self.handle_damage(gap),
        }
    }

    fn handle_damage(&mut self, gap: &Gap) {
        self.damage.push((gap.clone(), self.last_seq, None));
        if let Some((first, last)) = gap.positions {
            let hidden = last.0.saturating_sub(first.0).saturating_add(1);
            let known = self.next_seq.max(self.next_to_settled());
            let next_seq = self.next_seq_hidden.unwrap_or(known).max(known);
            self.next_seq_hidden = Some(next_seq.saturating_add(hidden));
        }
    }

    /// The seq behind the last one that is settled.
    fn next_to_settled(&self) -> u64 {
        self.settled.last().map_or(1, |seq| seq.0.saturating_add(1))
    }

    fn handle_checkpoint(&mut self, payload: &[u8]) {
        let mut reader = ByteReader::new(payload);
        let (Some(next_seq), Some(settled_below)) = (reader.u64(), reader.u64()) else {
            return;
        };
        let Some(settled) = reader.seq_set().filter(is_plausible) else {
            return;
        };
        if next_seq.max(settled_below) > NUMBER_MAX {
            return;
        }
        self.next_seq = self.next_seq.max(next_seq);
        // It counts what lies before its segment, damaged or not.
        self.next_seq_hidden = None;
        if settled_below > 1 {
            self.handle_settled(Seq::FIRST..=Seq(settled_below - 1));
        }
        for range in settled.ranges() {
            self.handle_settled(range);
        }
    }

    fn handle_record(&mut self, seq: Seq, location: Location, payload: &[u8]) {
        self.last_seq = self.last_seq.max(seq.0);
        self.next_seq = self.next_seq.max(seq.0.saturating_add(1));
        self.next_seq_hidden = None;
        for (_, _, next) in &mut self.damage {
            next.get_or_insert(seq.0);
        }
        let Some(meta) = record::decode_meta(seq, payload) else {
            self.usage.handle_placed(location, false);
            return;
        };
        if self.is_settled(seq) || self.records.contains_key(&seq.0) {
            self.usage.handle_placed(location, false);
            self.remember(meta.id, seq);
            return;
        }
        if let Some(from) = record::replayed_from(payload) {
            self.replayed.insert(seq, from);
        }
        self.usage.handle_placed(location, true);
        self.live_bytes.insert(seq.0, stored_bytes(payload.len()));
        self.records.insert(seq.0, (meta, location));
    }

    fn handle_settled(&mut self, range: RangeInclusive<Seq>) {
        let seqs: Vec<u64> =
            self.records.range(range.start().0..=range.end().0).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            self.live_bytes.remove(&seq);
            if let Some((meta, location)) = self.records.remove(&seq) {
                self.usage.handle_released(location.segment);
                self.remember(meta.id, meta.seq);
            }
        }
        self.settled.insert_range(range);
        self.settled_below = self.settled.first_absent(self.settled_below);
    }

    fn is_settled(&self, seq: Seq) -> bool {
        seq < self.settled_below || self.settled.contains(seq)
    }

    fn remember(&mut self, id: MessageId, seq: Seq) {
        self.settled_ids.push_back((id, seq));
        if self.settled_ids.len() > self.settled_ids_max {
            self.settled_ids.pop_front();
        }
    }

    /// Puts the state into the index; returns what was found and what is lost and unsettled.
    pub(super) fn finish(mut self, index: &Index, recovery: Recovery) -> (Recovered, SeqSet) {
        self.next_seq =
            self.next_seq.max(self.next_to_settled()).max(self.next_seq_hidden.unwrap_or(0));
        let lost = self.lost();
        let gaps = self.gaps(&lost);
        self.replayed.retain(|seq, _| self.records.contains_key(&seq.0));
        let recovered = Recovered {
            is_created: recovery.is_created,
            unsettled: self.records.values().map(|(meta, _)| meta.clone()).collect(),
            gaps,
            torn_tail: recovery.torn_tail,
            entries: recovery.entries,
            replayed: self.replayed,
        };
        let mut state = index.lock();
        state.next_seq = self.next_seq;
        state.settled_below = self.settled_below;
        state.settled = self.settled;
        state.advance();
        for (id, seq) in self.settled_ids {
            state.ids.insert(id, seq);
            state.remember_settled(id);
        }
        for (meta, location) in self.records.into_values() {
            state.ids.insert(meta.id, meta.seq);
            let live = Live {
                id: meta.id,
                accepted_at: meta.accepted_at,
                priority: meta.priority,
                location: Some(location),
                stored_bytes: self.live_bytes.get(&meta.seq.0).copied().unwrap_or(0),
            };
            state.add_live(meta.seq, live);
        }
        state.usage = self.usage;
        (recovered, lost)
    }

    /// Every damaged stretch with the seqs that lay in it, settled or not, in the order found.
    pub(super) fn stretches(&self) -> Vec<(Gap, Option<RangeInclusive<Seq>>)> {
        let stretch = |(gap, before, after): &(Gap, u64, Option<u64>)| {
            let last = after.unwrap_or(self.next_seq).saturating_sub(1);
            (gap.clone(), (*before < last).then(|| Seq(before + 1)..=Seq(last)))
        };
        self.damage.iter().map(stretch).collect()
    }

    /// What was given, is not settled and is not there.
    fn lost(&self) -> SeqSet {
        let mut lost = SeqSet::new();
        if self.settled_below.0 < self.next_seq {
            lost.insert_range(self.settled_below..=Seq(self.next_seq - 1));
        }
        for range in self.settled.ranges() {
            lost.remove_range(range);
        }
        for seq in self.records.keys() {
            lost.remove_range(Seq(*seq)..=Seq(*seq));
        }
        lost
    }

    fn gaps(&self, lost: &SeqSet) -> Vec<RecordGap> {
        let mut unexplained = lost.clone();
        let mut gaps = Vec::new();
        for (gap, before, after) in &self.damage {
            let between = Seq(before + 1)..=Seq(after.unwrap_or(self.next_seq).saturating_sub(1));
            let mut inside = lost.clone();
            inside.remove_below(*between.start());
            inside.remove_range(between.end().next()..=Seq(u64::MAX));
            unexplained.remove_range(between);
            gaps.push(RecordGap {
                cause: gap.cause,
                segment: gap.segment,
                offset: gap.offset,
                bytes: gap.bytes,
                seqs: inside.first().zip(inside.last()).map(|(first, last)| first..=last),
                is_known: gap.is_known && inside.is_empty(),
            });
        }
        gaps.extend(unexplained.ranges().map(|range| RecordGap {
            cause: GapCause::Missing,
            segment: SegmentId(0),
            offset: 0,
            bytes: 0,
            seqs: Some(range),
            is_known: false,
        }));
        gaps
    }
}
