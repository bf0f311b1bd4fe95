//! What the buffer knows in memory: which messages live, where they lie, which ids were seen.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alys_stream_protocol::message::{Message, MessageId, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use super::room::Room;
use super::{Accepted, AppendCause, BufferConfig, KIND_RECORD, KIND_SETTLED};
use crate::log::{
    Location, Log, LogClient, LogStat, Placed, Position, SegmentId, SegmentUsage, format,
};
use crate::record::{self, RecordMeta};

/// Unsettled messages of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PriorityStat {
    /// How many.
    pub records: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}

/// Counts and sizes of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferStat {
    /// Unsettled messages, by [`Priority::index`].
    pub unsettled: [PriorityStat; 4],
    /// The oldest unsettled message, and when it was accepted.
    pub oldest: Option<(Seq, UnixMillis)>,
    /// The quota, in bytes.
    pub quota_bytes: u64,
    /// What of it messages of each priority may fill, by [`Priority::index`].
    pub quotas: [u64; 4],
    /// Messages that were dropped for others since the buffer was opened.
    pub evicted: u64,
    /// Bytes of payloads in memory.
    pub cached_bytes: u64,
    /// Ids of settled messages that are remembered.
    pub settled_ids: u64,
    /// The log below.
    pub log: LogStat,
}

impl BufferStat {
    /// Unsettled messages of all priorities.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.unsettled.iter().map(|stat| stat.records).sum()
    }

    /// Bytes of unsettled messages of all priorities.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.unsettled.iter().map(|stat| stat.bytes).sum()
    }
}

/// An unsettled message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) id: MessageId,
    pub(super) accepted_at: UnixMillis,
    pub(super) priority: Priority,
    /// Where it lies, once it is durable.
    pub(super) location: Option<Location>,
    pub(super) stored_bytes: u64,
}

pub(super) enum Lookup {
    Absent,
    Cached(Message),
    Stored(Location),
}

#[derive(Debug)]
pub(super) struct Index {
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) next_seq: u64,
    pub(super) settled_below: Seq,
    /// Settled, and not below `settled_below`.
    pub(super) settled: SeqSet,
    pub(super) live: BTreeMap<u64, Live>,
    pub(super) ids: HashMap<MessageId, Seq>,
    /// Ids of settled messages, oldest first.
    pub(super) settled_ids: VecDeque<MessageId>,
    pub(super) usage: SegmentUsage,
    pub(super) unsettled: [PriorityStat; 4],
    /// Appended and not handed out by `take_durable` yet, with their positions.
    fresh: VecDeque<(Position, RecordMeta)>,
    durable_position: Position,
    cache: HashMap<u64, Message>,
    cached_bytes: u64,
    payload_cache_bytes: u64,
    pub(super) room: Room,
    settled_ids_max: usize,
}

/// Bytes that an entry with such a payload takes on disk.
pub(super) fn stored_bytes(payload_bytes: usize) -> u64 {
    u64::try_from(format::stored_bytes(payload_bytes)).unwrap_or(u64::MAX)
}

impl State {
    /// Whether messages of these priorities and bytes may be accepted, all or none.
    pub(super) fn admit(
        &mut self,
        messages: impl Iterator<Item = (Priority, u64)>,
    ) -> Result<(), AppendCause> {
        let stored_bytes = self.unsettled.iter().map(|stat| stat.bytes).sum::<u64>();
        self.room.admit(stored_bytes, messages)
    }

    /// Gives a message its place. The lock makes the order of seqs that of positions (M8).
    pub(super) fn append(&mut self, log: &Log, now: UnixMillis, message: Message) -> Accepted {
        if let Some(seq) = self.lookup(&message.id) {
            return Accepted { seq, is_duplicate: true };
        }
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        let position = log.append(KIND_RECORD, seq.0, |out| record::encode(out, now, &message));
        self.ids.insert(message.id, seq);
        self.add_live(
            seq,
            Live {
                id: message.id,
                accepted_at: now,
                priority: message.priority,
                location: None,
                stored_bytes: stored_bytes(record::encoded_bytes(&message)),
            },
        );
        self.fresh.push_back((position, RecordMeta::new(seq, now, &message)));
        // The oldest stay: they are the next to be sent.
        let bytes = cached_bytes(&message);
        if self.cached_bytes + bytes <= self.payload_cache_bytes {
            self.cached_bytes += bytes;
            self.cache.insert(seq.0, message);
        }
        Accepted { seq, is_duplicate: false }
    }

    /// Gives a message that died a new place.
    pub(super) fn replay(
        &mut self,
        log: &Log,
        now: UnixMillis,
        message: Message,
        replayed_from: Seq,
    ) -> Accepted {
        if let Some(seq) = self.lookup(&message.id) {
            let came_after = !replayed_from.is_volatile() && seq > replayed_from;
            if came_after || self.live.contains_key(&seq.0) {
                return Accepted { seq, is_duplicate: true };
            }
        }
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        let position = log.append(KIND_RECORD, seq.0, |out| {
            record::encode_replayed(out, now, &message, replayed_from);
        });
        self.ids.insert(message.id, seq);
        let bytes = record::encoded_bytes(&message) + record::REPLAYED_BYTES;
        self.add_live(
            seq,
            Live {
                id: message.id,
                accepted_at: now,
                priority: message.priority,
                location: None,
                stored_bytes: stored_bytes(bytes),
            },
        );
        self.fresh.push_back((position, RecordMeta::new(seq, now, &message)));
        Accepted { seq, is_duplicate: false }
    }

    pub(super) fn add_live(&mut self, seq: Seq, live: Live) {
        if let Some(stat) = self.unsettled.get_mut(live.priority.index()) {
            stat.records += 1;
            stat.bytes += live.stored_bytes;
        }
        if live.location.is_some() {
            self.room.handle_durable(seq.0, live.priority, live.stored_bytes);
        }
        self.live.insert(seq.0, live);
    }

    /// Settles what of `seqs` is not settled yet, and logs it.
    pub(super) fn settle(&mut self, log: &Log, seqs: &SeqSet) -> Position {
        let mut changed = SeqSet::new();
        let last = Seq(self.next_seq - 1);
        for range in seqs.ranges() {
            // Only what was given can be settled, and only what is not settled yet costs anything.
            let (first, last) =
                ((*range.start()).max(self.settled_below), (*range.end()).min(last));
            if first > last {
                continue;
            }
            let live: Vec<u64> = self.live.range(first.0..=last.0).map(|(seq, _)| *seq).collect();
            for seq in live {
                self.release(seq);
                changed.insert(Seq(seq));
            }
            for lost in self.lost_in(first, last).ranges() {
                changed.insert_range(lost);
            }
        }
        if changed.is_empty() {
            return log.last_position();
        }
        for range in changed.ranges() {
            self.settled.insert_range(range);
        }
        self.advance();
        log.append(KIND_SETTLED, 0, |out| record::put_seq_set(out, &changed))
    }

    /// Counts what cannot be read as settled, without logging it.
    pub(super) fn settle_lost(&mut self, lost: &SeqSet) {
        for range in lost.ranges() {
            self.settled.insert_range(range);
        }
        self.advance();
    }

    /// Seqs that are neither live nor settled: gaps that recovery found.
    fn lost_in(&self, first: Seq, last: Seq) -> SeqSet {
        let mut lost = SeqSet::new();
        if self.settled.count() + u64::try_from(self.live.len()).unwrap_or(u64::MAX)
            == self.next_seq - self.settled_below.0
        {
            return lost;
        }
        lost.insert_range(first..=last);
        for range in self.settled.ranges() {
            lost.remove_range(range);
        }
        for (seq, _) in self.live.range(first.0..=last.0) {
            lost.remove_range(Seq(*seq)..=Seq(*seq));
        }
        lost
    }

    fn release(&mut self, seq: u64) {
        let Some(live) = self.live.remove(&seq) else {
            return;
        };
        if let Some(stat) = self.unsettled.get_mut(live.priority.index()) {
            stat.records -= 1;
            stat.bytes -= live.stored_bytes;
        }
        self.room.handle_settled(seq);
        if let Some(location) = live.location {
            self.usage.handle_released(location.segment);
        }
        if let Some(message) = self.cache.remove(&seq) {
            self.cached_bytes -= cached_bytes(&message);
        }
        self.remember_settled(live.id);
    }

    pub(super) fn remember_settled(&mut self, id: MessageId) {
        self.settled_ids.push_back(id);
        while self.settled_ids.len() > self.settled_ids_max {
            // One that was replayed is live again under the same id.
            if let Some(oldest) = self.settled_ids.pop_front()
                && self.ids.get(&oldest).is_some_and(|seq| !self.live.contains_key(&seq.0))
            {
                self.ids.remove(&oldest);
            }
        }
    }

    pub(super) fn advance(&mut self) {
        self.settled_below = self.settled.first_absent(self.settled_below);
        self.settled.remove_below(self.settled_below);
    }

    pub(super) fn poll_retirable(&mut self, keep_bytes: u64) -> Vec<SegmentId> {
        self.usage.poll_retirable(keep_bytes)
    }

    pub(super) fn lookup(&self, id: &MessageId) -> Option<Seq> {
        self.ids.get(id).copied()
    }
}

fn cached_bytes(message: &Message) -> u64 {
    u64::try_from(size_of::<Message>() + message.payload.len()).unwrap_or(u64::MAX)
}

impl Index {
    pub(super) fn new(config: &BufferConfig) -> Self {
        Self {
            state: Mutex::new(State {
                next_seq: 1,
                settled_below: Seq::FIRST,
                settled: SeqSet::new(),
                live: BTreeMap::new(),
                ids: HashMap::new(),
                settled_ids: VecDeque::new(),
                usage: SegmentUsage::default(),
                unsettled: [PriorityStat::default(); 4],
                fresh: VecDeque::new(),
                durable_position: Position(0),
                cache: HashMap::new(),
                cached_bytes: 0,
                payload_cache_bytes: config.payload_cache_bytes,
                room: Room::new(config),
                settled_ids_max: config.settled_ids_max,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_seq(&self) -> Seq {
        Seq(self.lock().next_seq)
    }

    pub(super) fn settled_below(&self) -> Seq {
        self.lock().settled_below
    }

    pub(super) fn is_settled(&self, seq: Seq) -> bool {
        let state = self.lock();
        seq < state.settled_below || state.settled.contains(seq)
    }

    pub(super) fn accepted_at(&self, seq: Seq) -> Option<UnixMillis> {
        self.lock().live.get(&seq.0).map(|live| live.accepted_at)
    }

    pub(super) fn is_live(&self, seq: Seq) -> bool {
        self.lock().live.contains_key(&seq.0)
    }

    pub(super) fn unsettled(&self) -> SeqSet {
        self.lock().live.keys().map(|seq| Seq(*seq)).collect()
    }

    /// The position of a message that is not handed out as durable yet. The order of seqs is that
    /// of positions, so this is a search in an ordered queue.
    pub(super) fn pending_position(&self, seq: Seq) -> Option<Position> {
        let state = self.lock();
        let found = state.fresh.binary_search_by_key(&seq, |(_, meta)| meta.seq).ok()?;
        state.fresh.get(found).map(|(position, _)| *position)
    }

    pub(super) fn take_durable(&self) -> Vec<RecordMeta> {
        let mut state = self.lock();
        let durable = state.durable_position;
        let count = state.fresh.partition_point(|(position, _)| *position <= durable);
        state.fresh.drain(..count).map(|(_, meta)| meta).collect()
    }

    pub(super) fn find(&self, seq: Seq) -> Lookup {
        let state = self.lock();
        // M9: only what has a location is durable.
        let Some(location) = state.live.get(&seq.0).and_then(|live| live.location) else {
            return Lookup::Absent;
        };
        state.cache.get(&seq.0).map_or(Lookup::Stored(location), |m| Lookup::Cached(m.clone()))
    }

    pub(super) fn stat(&self, log: LogStat) -> BufferStat {
        let state = self.lock();
        BufferStat {
            unsettled: state.unsettled,
            oldest: state.live.first_key_value().map(|(seq, live)| (Seq(*seq), live.accepted_at)),
            quota_bytes: state.room.quotas()[Priority::Critical.index()],
            quotas: state.room.quotas(),
            evicted: state.room.evicted(),
            cached_bytes: state.cached_bytes,
            settled_ids: u64::try_from(state.settled_ids.len()).unwrap_or(u64::MAX),
            log,
        }
    }
}

impl LogClient for Index {
    fn checkpoint(&self, first_position: Position, out: &mut Vec<u8>) {
        let state = self.lock();
        // Seqs behind this segment's start are not summarised: were they lost, they were never
        // given. Knowing early what is settled does no harm.
        let next_seq = state
            .fresh
            .iter()
            .find(|(position, _)| *position >= first_position)
            .map_or(state.next_seq, |(_, meta)| meta.seq.0);
        let settled_below = state.settled_below.0.min(next_seq);
        out.extend_from_slice(&next_seq.to_le_bytes());
        out.extend_from_slice(&settled_below.to_le_bytes());
        record::put_seq_set(out, &state.settled);
    }

    fn placed(&self, placed: &[Placed]) {
        let mut state = self.lock();
        let state = &mut *state;
        let is_record = |placed: &&Placed| placed.kind == KIND_RECORD;
        let first = placed.iter().find(is_record).map_or(0, |placed| placed.key);
        let last = placed.iter().rfind(is_record).map_or(0, |placed| placed.key);
        // Both are in order of seq: one walk over each.
        let mut live = state.live.range_mut(first..=last).peekable();
        for placed in placed {
            while live
                .next_if(|(seq, _)| **seq < placed.key && placed.kind == KIND_RECORD)
                .is_some()
            {}
            let found = if placed.kind == KIND_RECORD {
                live.next_if(|(seq, _)| **seq == placed.key)
            } else {
                None
            };
            state.usage.handle_placed(placed.location, found.is_some());
            if let Some((_, live)) = found {
                live.location = Some(placed.location);
                state.room.handle_durable(placed.key, live.priority, live.stored_bytes);
            }
        }
        if let Some(last) = placed.last() {
            state.durable_position = last.position;
        }
    }
}
