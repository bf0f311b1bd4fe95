//! What the buffer knows in memory: which messages live, where to find them, which ids were seen.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alys_stream_protocol::message::{Message, Priority, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use super::fresh::{Durable, Fresh};
use super::ids::Ids;
use super::known::{Known, KnownPages};
use super::page::{Added, Part, number_of, runs};
use super::pages::{Pages, seqs_of};
use super::payloads::Payloads;
use super::room::Room;
use super::settling::Settling;
use super::summary::Summary;
use super::{Accepted, AppendCause, BacklogPage, BufferConfig, KIND_RECORD, KIND_SETTLED};
use crate::log::{
    Chored, Log, LogClient, LogStat, NextChore, Placed, Position, SegmentId, SegmentUsage, format,
};
use crate::record::{self, RecordMeta};
use crate::storage::Storage;

/// Most ranges in one entry that settles: many settlements are many entries, each far smaller than
/// the largest one.
const SETTLED_RANGES_MAX: usize = 65_536;

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
    /// Unsettled messages, by [`Priority::index`]. Bytes are estimated where some neighbours of a
    /// message were settled while it was not in memory, and exact when all are.
    pub unsettled: [PriorityStat; 4],
    /// The oldest unsettled message, and when it was accepted; when that is not in memory, when the
    /// first of its page of 128 was, which is not later.
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

#[derive(Debug)]
pub(super) enum Lookup {
    Absent,
    Cached(Message),
    Stored(crate::log::Location),
    /// Its page has to be read back first.
    Away,
}

/// When a message was accepted.
#[derive(Debug, Clone, Copy)]
pub(super) enum AcceptedAt {
    Settled,
    Known(UnixMillis),
    /// Its page has to be read back first.
    Away,
}

#[derive(Debug)]
pub(super) struct Index {
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) next_seq: u64,
    /// What is unsettled. Everything else below `next_seq` is settled.
    pub(super) pages: Pages,
    pub(super) ids: Ids,
    pub(super) usage: SegmentUsage,
    pub(super) fresh: Fresh,
    pub(super) settling: Settling,
    pub(super) known: KnownPages,
    payloads: Payloads,
    payload_cache_bytes: u64,
    pub(super) room: Room,
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
        self.room.admit(&self.pages, self.fresh.durable_below(), messages)
    }

    /// Gives a message its place, unless `found` says that it has one. The lock makes the order of
    /// seqs that of positions (M8).
    pub(super) fn append(
        &mut self,
        log: &Log,
        now: UnixMillis,
        message: Message,
        found: Option<Seq>,
    ) -> Accepted {
        if let Some(seq) = found {
            return Accepted::again(message.id, seq);
        }
        let bytes = record::encoded_bytes(&message);
        self.add(log, now, message, bytes, record::encode)
    }

    /// Gives a message that died a new place, unless it has one since then.
    pub(super) fn replay(
        &mut self,
        log: &Log,
        now: UnixMillis,
        message: Message,
        replayed_from: Seq,
        found: Option<Seq>,
    ) -> Accepted {
        if let Some(seq) = found {
            let came_after = !replayed_from.is_volatile() && seq > replayed_from;
            if came_after || self.pages.is_live(seq.0) {
                return Accepted::again(message.id, seq);
            }
        }
        let bytes = record::encoded_bytes(&message) + record::REPLAYED_BYTES;
        self.add(log, now, message, bytes, |out, now, message| {
            record::encode_replayed(out, now, message, replayed_from);
        })
    }

    fn add(
        &mut self,
        log: &Log,
        now: UnixMillis,
        message: Message,
        bytes: usize,
        encode: impl FnOnce(&mut Vec<u8>, UnixMillis, &Message),
    ) -> Accepted {
        let (id, seq) = (message.id, self.next_seq);
        self.next_seq += 1;
        let position = log.append(KIND_RECORD, seq, |out| encode(out, now, &message));
        if self.ids.insert(message.id, seq) {
            log.wake_chores();
        }
        self.pages.add(&Added {
            seq,
            priority: message.priority,
            stored_bytes: stored_bytes(bytes),
            deadline: message.deadline,
            accepted_at: now,
        });
        self.fresh.push(position, RecordMeta::new(Seq(seq), now, &message));
        self.payloads.insert(seq, message, self.payload_bytes_max());
        Accepted { id, seq: Seq(seq), is_duplicate: false, position: Some(position) }
    }

    /// What the backlog takes in summaries is not there for payloads: the longer it is, the less
    /// they are worth (D7).
    fn payload_bytes_max(&self) -> u64 {
        let ids = u64::try_from(self.ids.memory_bytes()).unwrap_or(u64::MAX);
        self.payload_cache_bytes.saturating_sub(self.pages.memory_bytes()).saturating_sub(ids)
    }

    /// Settles what of `seqs` is not settled yet, and logs it.
    pub(super) fn settle(&mut self, log: &Log, seqs: &SeqSet) -> Position {
        let mut changed = SeqSet::new();
        for range in seqs.ranges() {
            let (first, last) = (range.start().0, range.end().0);
            let mut from = 0;
            while let Some((number, bits)) = self.pages.next_touched(from, first, last) {
                self.release(log, number, bits);
                let base = number * BacklogPage::SEQS;
                for (first, last) in runs(bits) {
                    changed
                        .insert_range(Seq(base + u64::from(first))..=Seq(base + u64::from(last)));
                }
                from = number + 1;
            }
        }
        let position = log_settled(log, &changed);
        if !changed.is_empty() {
            self.settling.push(position, self.settled());
        }
        position
    }

    /// How far everything is settled, on disk or not.
    pub(super) fn settled(&self) -> Settled {
        let count = self.pages.settled_count(self.next_seq);
        Settled { below: Seq(self.settled_below()), count }
    }

    fn release(&mut self, log: &Log, number: u64, bits: u128) {
        let base = number * BacklogPage::SEQS;
        let known = &self.known;
        let exact = |index: u32| {
            let location = known.peek(base + u64::from(index))?.location;
            Some(stored_bytes(usize::try_from(location.payload_bytes).unwrap_or(0)))
        };
        let usage = &mut self.usage;
        let durable_below = self.fresh.durable_below();
        let taken = self.pages.take(number, bits, durable_below, exact, |segment, count| {
            usage.handle_released_many(segment, count);
        });
        if taken == super::pages::Rest::Nothing {
            self.known.remove(number);
        }
        self.payloads.remove(number, bits);
        if self.ids.handle_settled(base, u64::from(bits.count_ones())) {
            log.wake_chores();
        }
        if self.room.is_evicting() {
            seqs_of(number, bits).for_each(|seq| self.room.handle_settled(seq));
        }
    }

    /// The lowest seq that is not settled.
    pub(super) fn settled_below(&self) -> u64 {
        self.pages.first().map_or(self.next_seq, |(seq, _)| seq)
    }

    /// Segments that may go, and whether others wait for a chore that was left behind (M36).
    pub(super) fn poll_retirable(&mut self) -> (Vec<SegmentId>, bool) {
        let retirable = self.usage.poll_retirable(self.ids.stored_below());
        let is_waiting = self.usage.is_any_idle() && self.ids.handle_waited_for();
        (retirable, is_waiting)
    }

    /// Whether a message may be handed out: unsettled, and durable (M9).
    pub(super) fn is_readable(&self, seq: u64) -> bool {
        seq < self.fresh.durable_below() && self.pages.is_live(seq)
    }

    fn find(&mut self, seq: Seq) -> Lookup {
        if !self.is_readable(seq.0) {
            return Lookup::Absent;
        }
        if let Some(message) = self.payloads.get(seq.0) {
            return Lookup::Cached(message.clone());
        }
        self.known.get(seq.0).map_or(Lookup::Away, |known| Lookup::Stored(known.location))
    }

    /// When a message was accepted, if that is in memory.
    fn accepted_at(&self, seq: u64) -> Option<UnixMillis> {
        let known = self.known.peek(seq).map(|known| &known.meta);
        known.or_else(|| self.fresh.meta(seq)).map(|meta| meta.accepted_at)
    }

    /// What of a page is readable, and where its records lie.
    pub(super) fn plan(&self, number: u64) -> (u128, Vec<(Part, u128)>) {
        self.pages.plan(number, self.fresh.durable_below())
    }
}

/// Logs what was settled, in as many entries as it takes.
pub(super) fn log_settled(log: &Log, settled: &SeqSet) -> Position {
    let append = |set: &SeqSet| log.append(KIND_SETTLED, 0, |out| record::put_seq_set(out, set));
    if settled.is_empty() {
        return log.last_position();
    }
    if settled.interval_count() <= SETTLED_RANGES_MAX {
        return append(settled);
    }
    let (mut some, mut position) = (SeqSet::new(), log.last_position());
    for range in settled.ranges() {
        some.insert_range(range);
        if some.interval_count() == SETTLED_RANGES_MAX {
            position = append(&some);
            some = SeqSet::new();
        }
    }
    if some.is_empty() { position } else { append(&some) }
}

impl Index {
    pub(super) fn new(config: &BufferConfig) -> Self {
        Self {
            state: Mutex::new(State {
                next_seq: 1,
                pages: Pages::default(),
                ids: Ids::new(config.id_group_seqs(), config.settled_ids_max),
                usage: SegmentUsage::default(),
                fresh: Fresh::new(1),
                settling: Settling::new(Settled::NONE),
                known: KnownPages::new(config.index_cache_bytes),
                payloads: Payloads::default(),
                payload_cache_bytes: config.payload_cache_bytes,
                room: Room::new(config),
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
        Seq(self.lock().settled_below())
    }

    pub(super) fn settled_durable(&self) -> Settled {
        self.lock().settling.durable()
    }

    pub(super) fn is_settled(&self, seq: Seq) -> bool {
        let state = self.lock();
        seq.0 < state.next_seq && !state.pages.is_live(seq.0)
    }

    pub(super) fn is_live(&self, seq: Seq) -> bool {
        self.lock().pages.is_live(seq.0)
    }

    pub(super) fn accepted_at(&self, seq: Seq) -> AcceptedAt {
        let state = self.lock();
        if !state.pages.is_live(seq.0) {
            return AcceptedAt::Settled;
        }
        state.accepted_at(seq.0).map_or(AcceptedAt::Away, AcceptedAt::Known)
    }

    pub(super) fn unsettled(&self) -> SeqSet {
        let state = self.lock();
        let mut unsettled = SeqSet::new();
        for run in state.pages.live_runs(0) {
            unsettled.insert_range(run);
        }
        unsettled
    }

    /// Up to `pages_max` pages with something durable and unsettled, from a number on.
    pub(super) fn backlog_slice(&self, from: u64, pages_max: usize) -> Vec<BacklogPage> {
        let state = self.lock();
        let durable_below = state.fresh.durable_below();
        let mut pages = Vec::new();
        let mut next = from;
        while pages.len() < pages_max
            && let Some(mut page) = state.pages.next(next)
        {
            next = page.number + 1;
            page.keep_below(durable_below);
            if page.by_priority != [0; 4] {
                pages.push(page);
            }
        }
        pages
    }

    /// The position of a message that is not durable yet.
    pub(super) fn pending_position(&self, seq: Seq) -> Option<Position> {
        self.lock().fresh.position(seq)
    }

    pub(super) fn take_durable(&self) -> Durable {
        self.lock().fresh.take_durable()
    }

    pub(super) fn find(&self, seq: Seq) -> Lookup {
        self.lock().find(seq)
    }

    pub(super) fn find_each(&self, seqs: &[Seq]) -> Vec<Lookup> {
        let mut state = self.lock();
        seqs.iter().map(|seq| state.find(*seq)).collect()
    }

    pub(super) fn stat(&self, log: LogStat) -> BufferStat {
        let state = self.lock();
        let oldest = state.pages.first().map(|(seq, page_accepted_at)| {
            (Seq(seq), state.accepted_at(seq).unwrap_or(page_accepted_at))
        });
        BufferStat {
            unsettled: state.pages.unsettled(),
            oldest,
            quota_bytes: state.room.quotas()[Priority::Critical.index()],
            quotas: state.room.quotas(),
            evicted: state.room.evicted(),
            cached_bytes: state.payloads.bytes(),
            settled_ids: state.ids.count().saturating_sub(state.pages.records()),
            log,
        }
    }
}

impl LogClient for Index {
    fn checkpoint(&self, first_position: Position, out: &mut Vec<u8>) {
        // Only the first part; whoever needs all asks for the parts.
        self.checkpoint_part(first_position, 0, out);
    }

    fn checkpoint_part(
        &self,
        first_position: Position,
        cursor: u64,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let state = self.lock();
        // Seqs behind this segment's start are not summarised: were they lost, they were never
        // given. Knowing early what is settled does no harm.
        let next_seq = state.fresh.seq_from(first_position).unwrap_or(state.next_seq);
        let settled_below = state.settled_below();
        let summary = Summary { next_seq, settled_below: settled_below.min(next_seq) };
        let from = cursor.max(settled_below);
        summary.encode(from, state.next_seq, state.pages.live_runs(from), out)
    }

    fn next_key(&self) -> u64 {
        self.lock().fresh.durable_below()
    }

    fn chore(&self, dir: &Path, storage: &dyn Storage) -> Chored {
        let chore = self.lock().ids.take_chore();
        let done = chore.map(|chore| chore.run(dir, storage));
        let mut state = self.lock();
        let told = done.map(|done| done.tell(&mut state.ids));
        let (retired, is_waiting) = state.poll_retirable();
        let next = match told {
            Some(Err(error)) => NextChore::Retry(error),
            Some(Ok(())) => NextChore::More,
            None if is_waiting => NextChore::More,
            None => NextChore::Nothing,
        };
        Chored { retired, next }
    }

    fn placed(&self, placed: &[Placed]) {
        let mut state = self.lock();
        let State { pages, usage, fresh, settling, known, .. } = &mut *state;
        for placed in placed {
            let is_live = placed.kind == KIND_RECORD && pages.place(placed.key, placed.location);
            usage.handle_placed(placed.location, is_live);
            if placed.kind == KIND_RECORD {
                usage.handle_key(placed.location.segment, placed.key);
            }
            if is_live && let Some(meta) = fresh.meta(placed.key) {
                known.push(Known { meta: meta.clone(), location: placed.location });
            }
        }
        if let Some(last) = placed.last() {
            fresh.handle_durable(last.position);
            settling.handle_durable(last.position);
        }
    }
}

/// Of the pages that were read back: keeps what is still unsettled, and answers from it.
impl Index {
    pub(super) fn install<T>(
        &self,
        number: u64,
        mut known: Vec<Known>,
        answer: impl FnOnce(&mut State) -> T,
    ) -> T {
        let mut state = self.lock();
        debug_assert!(known.iter().all(|it| number_of(it.meta.seq.0) == number), "of that page");
        known.retain(|known| state.pages.is_live(known.meta.seq.0));
        state.known.put(number, known);
        answer(&mut state)
    }
}
