//! Rebuilds the index from what the log holds, in one pass: events in, state out. The only thing it
//! writes are files of ids.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use alys_stream_protocol::message::{Epoch, LogId, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use super::bits::SeqBits;
use super::fresh::Fresh;
use super::ids::Reading;
use super::index::{Index, stored_bytes};
use super::page::Added;
use super::pages::Pages;
use super::settling::Settling;
use super::{BacklogPage, KIND_RECORD, KIND_SETTLED};
use crate::log::format::NUMBER_MAX;
use crate::log::{
    Begun, Event, Gap, GapCause, Location, Position, Recovery, SegmentId, SegmentUsage, TornTail,
    Visit,
};
use crate::record::{self, Brief, ByteReader};

/// Sequence numbers of unsettled messages that cannot be read any more (D5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordGap {
    /// Why.
    pub cause: GapCause,
    /// The segment in which damage was found; 0 when files are missing and nothing says which.
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

/// What opening a buffer found, besides what is unsettled: that is [`super::Buffer::backlog`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the buffer was created by this open.
    pub is_created: bool,
    /// What is lost.
    pub gaps: Vec<RecordGap>,
    /// What was cut off at the end, never acknowledged to anyone.
    pub torn_tail: Option<TornTail>,
    /// Entries read.
    pub entries: u64,
    /// About how many ids of settled messages cannot be read any more, beyond those that are
    /// forgotten with time: a second send of one of those is taken for a new message.
    pub ids_lost: u64,
    /// Messages to deliver that died before: their place, and the one under which they died
    /// ([`Seq::VOLATILE`] when that was in another log).
    pub replayed: BTreeMap<Seq, Seq>,
}

/// What was read so far. Only what is unsettled takes more than bits: the summary of the newest
/// segment, which is read ahead, says what to pass over.
pub(super) struct Rebuild<'a> {
    pages: Pages,
    usage: SegmentUsage,
    /// Ids; none when only numbers matter.
    ids: Option<Reading<'a>>,
    /// Before it nothing that was given is hidden by damage: `next_seq` begins with all of it.
    marked: Position,
    settled: SeqBits,
    /// The highest seq that was settled so far, in the order of the log.
    last_settled: u64,
    /// Whether the newest summary was read ahead: older ones say nothing that it does not say.
    is_summarised: bool,
    /// Of the last summary: the second copy of one says the same.
    summary: Option<(usize, u32)>,
    next_seq: u64,
    /// The highest seq read so far.
    last_seq: u64,
    damage: Vec<(Gap, u64, Option<u64>)>,
    /// What the next seq may be when each entry in the damage since the last record was one: a
    /// number that was given is never given again (M8).
    next_seq_hidden: Option<u64>,
    replayed: BTreeMap<Seq, Seq>,
}

/// The ranges of a set of seqs; `None` unless all may be of this buffer: nobody counts further.
fn ranges(reader: &mut ByteReader<'_>) -> Option<Vec<RangeInclusive<Seq>>> {
    let mut ranges = Vec::new();
    for _ in 0..reader.u32()? {
        let (first, last) = (reader.u64()?, reader.u64()?);
        if first > last || last >= NUMBER_MAX {
            return None;
        }
        ranges.push(Seq(first)..=Seq(last));
    }
    Some(ranges)
}

impl Visit for Rebuild<'_> {
    fn known_epoch(&self, log_id: LogId) -> Epoch {
        self.ids.as_ref().map_or(Epoch(0), |reading| reading.known_epoch(log_id))
    }

    fn begin(&mut self, begun: &Begun) {
        let (position, next_seq) = begun.marked;
        if next_seq > 0 {
            self.marked = position;
            self.next_seq = next_seq;
        }
        if let Some(ids) = &mut self.ids {
            ids.begin(&begun.log_ids);
        }
    }

    fn is_ahead_wanted(&self) -> bool {
        true
    }

    fn is_passed_over(&self, kind: u8) -> bool {
        kind == KIND_RECORD
    }

    fn ahead(&mut self, kind: u8, payload: &[u8]) {
        let mut reader = ByteReader::new(payload);
        if kind == KIND_SETTLED {
            for range in ranges(&mut reader).unwrap_or_default() {
                self.settled.insert_range(&range);
            }
        } else if let Some((_, settled_below, ranges)) = self.read_summary(payload) {
            if settled_below > 1 {
                self.settled.insert_range(&(Seq::FIRST..=Seq(settled_below - 1)));
            }
            ranges.iter().for_each(|range| self.settled.insert_range(range));
        }
    }

    fn ahead_ended(&mut self, is_whole: bool) {
        // Taken whether it was whole or not: what was read ahead is still to be read in its place.
        let is_read = self.summary.take().is_some();
        self.is_summarised = is_whole && is_read;
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Checkpoint { payload } => self.handle_checkpoint(payload),
            Event::Entry { kind: KIND_RECORD, key, location, payload, .. } => {
                self.handle_record(Seq(key), location, payload);
            }
            Event::Entry { kind: KIND_SETTLED, location, payload, .. } => {
                self.usage.handle_placed(location, false);
                for range in ranges(&mut ByteReader::new(payload)).unwrap_or_default() {
                    self.handle_settled(&range);
                }
            }
            Event::Entry { kind, location, .. } => {
                tracing::warn!(kind, "an entry of an unknown kind is left alone");
                self.usage.handle_placed(location, false);
            }
            Event::Damage(gap) => self.handle_damage(gap),
        }
    }
}

impl<'a> Rebuild<'a> {
    pub(super) fn new(ids: Option<Reading<'a>>) -> Self {
        Self {
            pages: Pages::default(),
            usage: SegmentUsage::default(),
            ids,
            marked: Position(1),
            settled: SeqBits::new(),
            last_settled: 0,
            is_summarised: false,
            summary: None,
            next_seq: 1,
            last_seq: 0,
            damage: Vec::new(),
            next_seq_hidden: None,
            replayed: BTreeMap::new(),
        }
    }

    fn handle_damage(&mut self, gap: &Gap) {
        self.damage.push((gap.clone(), self.last_seq, None));
        if let Some((first, last)) = gap.positions.filter(|(_, last)| *last >= self.marked) {
            let hidden = last.0.saturating_sub(first.max(self.marked).0).saturating_add(1);
            let known = self.next_seq.max(self.last_settled.saturating_add(1));
            let next_seq = self.next_seq_hidden.unwrap_or(known).max(known);
            self.next_seq_hidden = Some(next_seq.saturating_add(hidden));
        }
    }

    /// Reads a summary, unless it is the one that was read last.
    fn read_summary(&mut self, payload: &[u8]) -> Option<(u64, u64, Vec<RangeInclusive<Seq>>)> {
        let this = (payload.len(), crc32c::crc32c(payload));
        if self.summary == Some(this) {
            return None;
        }
        let mut reader = ByteReader::new(payload);
        let (next_seq, settled_below) = (reader.u64()?, reader.u64()?);
        let ranges = ranges(&mut reader)?;
        if next_seq.max(settled_below) > NUMBER_MAX {
            return None;
        }
        self.summary = Some(this);
        Some((next_seq, settled_below, ranges))
    }

    fn handle_checkpoint(&mut self, payload: &[u8]) {
        let Some((next_seq, settled_below, ranges)) = self.read_summary(payload) else {
            return;
        };
        self.next_seq = self.next_seq.max(next_seq);
        // It counts what lies before its segment, damaged or not.
        self.next_seq_hidden = None;
        let below = (settled_below > 1).then(|| Seq::FIRST..=Seq(settled_below.saturating_sub(1)));
        for range in below.iter().chain(&ranges) {
            self.last_settled = self.last_settled.max(range.end().0);
            if !self.is_summarised {
                self.handle_settled(range);
            }
        }
    }

    fn handle_record(&mut self, seq: Seq, location: Location, payload: &[u8]) {
        let is_new = seq.0 > self.last_seq;
        self.last_seq = self.last_seq.max(seq.0);
        self.next_seq = self.next_seq.max(seq.0.saturating_add(1));
        self.next_seq_hidden = None;
        for (_, _, next) in self.damage.iter_mut().rev().take_while(|(_, _, next)| next.is_none()) {
            *next = Some(seq.0);
        }
        let Some(brief) = Brief::read(payload).filter(|_| is_new) else {
            self.usage.handle_placed(location, false);
            return;
        };
        let is_unsettled = !self.settled.contains(seq);
        self.usage.handle_placed(location, is_unsettled);
        self.usage.handle_key(location.segment, seq.0);
        if let Some(ids) = &mut self.ids {
            ids.insert(brief.id, seq.0, is_unsettled, &self.settled);
        }
        if !is_unsettled {
            return;
        }
        if let Some(from) = brief.is_replayed.then(|| record::replayed_from(payload)).flatten() {
            self.replayed.insert(seq, from);
        }
        self.pages.add(&Added {
            seq: seq.0,
            priority: brief.priority,
            stored_bytes: stored_bytes(payload.len()),
            deadline: brief.deadline,
            accepted_at: brief.accepted_at,
        });
        self.pages.place(seq.0, location);
    }

    fn handle_settled(&mut self, range: &RangeInclusive<Seq>) {
        let (first, last) = (range.start().0, range.end().0);
        let mut from = 0;
        while let Some((number, bits)) = self.pages.next_touched(from, first, last) {
            let usage = &mut self.usage;
            self.pages.take(
                number,
                bits,
                u64::MAX,
                |_| None,
                |segment, count| {
                    usage.handle_released_many(segment, count);
                },
            );
            if let Some(ids) = &mut self.ids {
                ids.handle_settled(number * BacklogPage::SEQS, u64::from(bits.count_ones()));
            }
            from = number + 1;
        }
        self.last_settled = self.last_settled.max(last);
        self.settled.insert_range(range);
    }

    /// Puts the state into the index; returns what was found and what is lost and unsettled.
    pub(super) fn finish(mut self, index: &Index, recovery: Recovery) -> (Recovered, SeqSet) {
        self.next_seq = self
            .next_seq
            .max(self.last_settled.saturating_add(1))
            .max(self.next_seq_hidden.unwrap_or(0));
        // Before what is unsettled counts as explained.
        let settled_count = self.pages.settled_count(self.next_seq);
        let reading = self.ids.take();
        let read = reading.map(|ids| ids.finish(self.next_seq, settled_count, &self.settled));
        let (ids, ids_lost) = read.unzip();
        let lost = self.lost();
        let gaps = self.gaps(&lost);
        let pages = &self.pages;
        self.replayed.retain(|seq, _| pages.is_live(seq.0));
        let recovered = Recovered {
            is_created: recovery.is_created,
            gaps,
            torn_tail: recovery.torn_tail,
            entries: recovery.entries,
            ids_lost: ids_lost.unwrap_or(0),
            replayed: self.replayed,
        };
        let mut state = index.lock();
        state.next_seq = self.next_seq;
        state.fresh = Fresh::new(self.next_seq);
        if let Some(ids) = ids {
            state.ids = ids;
        }
        state.pages = self.pages;
        state.usage = self.usage;
        state.settling = Settling::new(state.settled());
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
    fn lost(&mut self) -> SeqSet {
        for (number, bits) in self.pages.bits() {
            self.settled.insert_bits(number, bits);
        }
        self.settled.absent_below(self.next_seq)
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
