//! The buffer: what was accepted and is not settled yet, on disk.
//!
//! A message gets its `seq` here, once, and keeps it until it is settled. Not here: who gets it and
//! when ([`crate::outbox`]), why it died ([`crate::dead_letter`]).
//!
//! Invariants:
//! - M8: sequence numbers are dense, from 1, and given in the order of acceptance (D1).
//! - M9: what is not durable is neither read nor handed to the outbox.
//! - M10: a message whose id is live, or among the last settled ones, is not stored twice.
//! - M11: everything accepted is settled exactly once, here, after its dead letter if it has one
//!   (D2); what cannot be read back is a reported gap and counts as settled (D5).
//!
//! # Memory
//!
//! However long the backlog is, memory is bounded by configuration (D7) but for bits: about one and
//! a half bytes per unsettled message in pages (`page`, `pages`) and as much in filters of ids
//! (`ids`), which the cache of payloads (`payloads`) gives way to. What is known of single messages
//! is a cache of whole pages (`known`); a page that is not there is read back from the log by one
//! read of where its records lie. Ids are in files beside the log, `ids-*` (`ids::spill`), which
//! also say what segments said that went: among the last million settled messages, however large
//! they were, each is known by its id (M10, M36). Recovery is one pass under the same bounds, after
//! a look at the newest segment, which knows what is settled.
//!
//! # Entries
//!
//! | kind | key | payload |
//! |---|---|---|
//! | 0 checkpoint | 0 | next seq (8), lowest seq that is not settled (8), settled seqs above it: count (4), then first (8) and last (8) of each range |
//! | 1 record | seq | see the `record` module |
//! | 2 settled | 0 | count of ranges (4), then first (8) and last (8) of each |
//!
//! A checkpoint with very many ranges is several such entries, one behind the other, each with a
//! part of them; so is a settlement.

use std::path::Path;
use std::sync::{Arc, MutexGuard};

use alys_stream_protocol::message::{
    Epoch, Forgotten, LogId, Message, MessageId, Opening, Priority, Seq, Settled,
};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;
use tokio::sync::Notify;

use crate::log::{
    CommitObserver, Log, LogClient, LogOptions, LogStat, OpenError, Position, ReadError,
};
use crate::record::{self, RecordMeta};
use crate::storage::Storage;

mod backlog;
mod bits;
mod config;
mod durable;
mod fresh;
mod ids;
mod index;
mod inspect;
mod known;
mod openings;
mod page;
mod pages;
mod payloads;
mod recovery;
mod room;
mod settling;
mod summary;
mod waiting;
mod words;

pub use backlog::{BacklogPage, Unreadable};
pub use config::{
    BufferConfig, ID_GROUP_MESSAGES, ID_GROUP_MESSAGES_MAX, ID_GROUP_MESSAGES_MIN,
    INDEX_CACHE_BYTES, PAYLOAD_CACHE_BYTES, PENDING_BYTES_MAX, QUOTA_BYTES, QUOTA_PERCENT,
    RESERVE_BYTES, SETTLED_IDS_MAX, WhenFull,
};
pub(crate) use ids::copy as copy_ids;
pub use index::{BufferStat, PriorityStat};
pub(crate) use inspect::{Inspected, inspect};
pub(crate) use openings::copy_repaired as copy_repaired_openings;
pub use recovery::{RecordGap, Recovered};
pub use words::{Accepted, AppendCause, AppendError};

use fresh::Durable;
use ids::{Asked, Ids, IdsUnreadable, Reading};
use index::{Index, State};
use openings::Openings;
use recovery::Rebuild;
use waiting::Waiting;

pub(crate) const KIND_RECORD: u8 = 1;
pub(crate) const KIND_SETTLED: u8 = 2;

/// The buffer. Cheap to clone; the last clone to go closes it.
#[derive(Debug, Clone)]
pub struct Buffer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    openings: Openings,
    index: Arc<Index>,
    config: BufferConfig,
    waiting: Waiting,
    /// Something was dropped for others.
    evicted: Notify,
}

impl Buffer {
    /// Opens the buffer in a directory, or creates it.
    ///
    /// # Errors
    ///
    /// When the directory is locked, not writable, of a newer version or of another log, when it is
    /// empty while a repair in place has its files beside it, or when the disk says no. Damaged
    /// content is not an error: it is in [`Recovered::gaps`].
    pub fn open(
        dir: &Path,
        config: BufferConfig,
        storage: Arc<dyn Storage>,
    ) -> Result<(Self, Recovered), OpenError> {
        let index = Arc::new(Index::new(&config));
        let files = Arc::clone(&storage);
        let options = LogOptions { dir, name: "buffer", config: config.log(), storage };
        let ids = Ids::new(config.id_group_seqs(), config.settled_ids_max);
        let mut rebuild = Rebuild::new(Some(Reading::new(ids, dir, &*files)));
        let client = Arc::<Index>::clone(&index) as Arc<_>;
        let (log, recovery) = Log::open_ahead(&options, client, &mut rebuild)?;
        let (recovered, lost) = rebuild.finish(&index, recovery);
        let found = recovered.gaps.is_empty().then(|| index.settled_durable().count);
        let openings = Openings::open(&*files, dir, &log, index.next_seq(), found)?;
        // A gap is settled as far as this log goes: nobody can send what is not there (M11).
        index::log_settled(&log, &lost);
        log.mark_found(LogClient::next_key(&*index));
        log.wake_chores();
        let (waiting, evicted) = (Waiting::default(), Notify::new());
        let shared = Shared { log, openings, index, config, waiting, evicted };
        Ok((Self { shared: Arc::new(shared) }, recovered))
    }

    /// Identifies the log of this buffer.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.shared.log.log_id()
    }

    /// How often it was opened.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.log.epoch()
    }

    /// Which opening of the log this is.
    #[must_use]
    pub fn opening(&self) -> Opening {
        self.shared.openings.present()
    }

    /// Whether somebody whose latest record of this log has the number `highest`, and came in the
    /// opening `seen`, cannot have it from this log: then it is an old copy of another (D12).
    #[must_use]
    pub fn is_contradicted_by(&self, seen: Opening, highest: Seq) -> bool {
        self.shared.openings.contradict(seen, highest)
    }

    /// Whether somebody was told that more is over than this log knew when it was opened again:
    /// then it is an old copy of another, and would send again what was forgotten (D12).
    #[must_use]
    pub fn is_outlived_by(&self, forgotten: Forgotten) -> bool {
        self.shared.openings.are_outlived_by(forgotten)
    }

    /// The seq that the next accepted message gets.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.shared.index.next_seq()
    }

    /// How far it is settled on disk: what peers may be told (M42).
    #[must_use]
    pub fn settled_durable(&self) -> Settled {
        self.shared.index.settled_durable()
    }

    /// Every seq below it is settled, on disk or not.
    #[must_use]
    pub fn settled_below(&self) -> Seq {
        self.shared.index.settled_below()
    }

    /// Accepts messages, all or none: gives them their places, to be durable with the next commit.
    ///
    /// Accepted means durable: callers wait for [`Buffer::durable`] (or [`Buffer::written`], in
    /// that durability class) before they say so.
    ///
    /// # Errors
    ///
    /// Gives all messages back when the quota or the disk is full, one is too large, or the log
    /// failed.
    pub fn append(
        &self,
        now: UnixMillis,
        mut messages: Vec<Message>,
    ) -> Result<Vec<Accepted>, AppendError> {
        if messages.len() == 1
            && let Some(message) = messages.pop()
        {
            return self.append_one(now, message).map(|accepted| vec![accepted]);
        }
        if let Err(cause) = self.admit(&messages) {
            return Err(AppendError { messages, cause });
        }
        // All or none: whether each of them is new is known before the first one is taken (M34).
        let looked_up = self.look_up(|ids, asked| {
            let mut found = Some(Vec::with_capacity(messages.len()));
            for message in &messages {
                match (ids.lookup(&message.id, asked), &mut found) {
                    (Some(seq), Some(found)) => found.push(seq),
                    (Some(_), None) => {}
                    (None, _) => found = None,
                }
            }
            found
        });
        let (mut state, found) = match looked_up {
            Ok(looked_up) => looked_up,
            Err(cause) => return Err(AppendError { messages, cause: cause.into() }),
        };
        if let Err(cause) = state.admit(messages.iter().map(needs)) {
            drop(state);
            return Err(AppendError { messages, cause });
        }
        self.tell_evicted(&state);
        let (log, first) = (&self.shared.log, state.next_seq);
        let accepted = messages.into_iter().zip(found).map(|(message, found)| {
            // Two of them may be the same.
            let found = found.or_else(|| state.ids.lookup_from(first, &message.id));
            state.append(log, now, message, found)
        });
        Ok(accepted.collect())
    }

    /// Accepts one message, as [`Buffer::append`] does, without an allocation of its own.
    ///
    /// # Errors
    ///
    /// As [`Buffer::append`].
    pub fn append_one(&self, now: UnixMillis, message: Message) -> Result<Accepted, AppendError> {
        let needs = needs(&message);
        self.accept(message, needs, |state, log, message, found| {
            state.append(log, now, message, found)
        })
    }

    /// Accepts a message again that died under `replayed_from` ([`Seq::VOLATILE`] when that was in
    /// another log). It keeps its id, gets a new place, and remembers the old one on disk, so that
    /// a replay that a crash cut short is recognised: [`Recovered::replayed`].
    ///
    /// A message that is live, or that was accepted after it died there, is a duplicate (M10).
    ///
    /// # Errors
    ///
    /// As [`Buffer::append`].
    pub fn replay(
        &self,
        now: UnixMillis,
        message: Message,
        replayed_from: Seq,
    ) -> Result<Accepted, AppendError> {
        let bytes = record::encoded_bytes(&message) + record::REPLAYED_BYTES;
        let needs = (message.priority, index::stored_bytes(bytes));
        self.accept(message, needs, |state, log, message, found| {
            state.replay(log, now, message, replayed_from, found)
        })
    }

    /// Lets `take` have one message and the place that its id has, if there is room for what it
    /// needs.
    fn accept(
        &self,
        message: Message,
        needs: (Priority, u64),
        take: impl FnOnce(&mut State, &Log, Message, Option<Seq>) -> Accepted,
    ) -> Result<Accepted, AppendError> {
        let admitted = self.admit(std::slice::from_ref(&message)).and_then(|()| {
            let (mut state, found) = self.look_up(|ids, asked| ids.lookup(&message.id, asked))?;
            state.admit(std::iter::once(needs))?;
            Ok((state, found))
        });
        match admitted {
            Ok((mut state, found)) => {
                self.tell_evicted(&state);
                Ok(take(&mut state, &self.shared.log, message, found))
            }
            Err(cause) => Err(AppendError { messages: vec![message], cause }),
        }
    }

    /// Finds what `find` looks for among the ids. Files are read while nobody waits for the lock;
    /// what is found holds as long as the lock that is returned with it (M10).
    fn look_up<T>(
        &self,
        find: impl Fn(&Ids, &mut Asked) -> Option<T>,
    ) -> Result<(MutexGuard<'_, State>, T), IdsUnreadable> {
        let mut asked = Asked::default();
        loop {
            let state = self.shared.index.lock();
            if let Some(found) = find(&state.ids, &mut asked) {
                return Ok((state, found));
            }
            drop(state);
            asked.read()?;
        }
    }

    fn admit(&self, messages: &[Message]) -> Result<(), AppendCause> {
        let oversize = messages.iter().position(|message| !record::is_encodable(message));
        if let Some((index, message)) = oversize.and_then(|i| messages.get(i).map(|m| (i, m))) {
            let trace = message.traceparent.as_ref().map_or(0, String::len);
            let bytes = message.payload.len().max(trace);
            return Err(AppendCause::TooLarge { index, bytes });
        }
        if self.shared.log.failure().is_some() {
            return Err(AppendCause::Poisoned);
        }
        if self.shared.log.is_disk_full() {
            return Err(AppendCause::DiskFull);
        }
        if self.shared.log.pending_bytes() > self.shared.config.pending_bytes_max {
            return Err(AppendCause::Backlog);
        }
        Ok(())
    }

    /// The records that became durable since the last call, in order of seq; `None` once the log
    /// is closed (or failed) and all were handed out. For one consumer.
    ///
    /// # Cancel safety
    ///
    /// Records are taken only when it returns.
    pub async fn next_durable(&self) -> Option<Vec<RecordMeta>> {
        let mut watermark = self.shared.log.watch_durable();
        loop {
            let is_open = watermark.borrow_and_update().end == crate::log::End::Open;
            match self.shared.index.take_durable() {
                Durable::Known(fresh) => return Some(fresh),
                Durable::ReadBack(first, last) => {
                    let fresh = self.read_fresh(first, last);
                    if !fresh.is_empty() {
                        return Some(fresh);
                    }
                    continue;
                }
                Durable::Nothing => {}
            }
            if !is_open || watermark.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Reads a message that is durable and not settled: from the cache, else from the log.
    /// `Ok(None)` when it is settled, unknown or not durable yet (M9).
    ///
    /// # Errors
    ///
    /// When its bytes are damaged or the disk says no.
    pub fn read(&self, seq: Seq) -> Result<Option<Message>, ReadError> {
        self.fetch(seq, self.shared.index.find(seq))
    }

    /// Reads several messages, as [`Buffer::read`] does each of them, and takes the lock once for
    /// all that are in memory.
    pub fn read_each(&self, seqs: &[Seq]) -> Vec<Result<Option<Message>, ReadError>> {
        let found = self.shared.index.find_each(seqs);
        seqs.iter().zip(found).map(|(seq, found)| self.fetch(*seq, found)).collect()
    }

    fn fetch(&self, seq: Seq, found: index::Lookup) -> Result<Option<Message>, ReadError> {
        let location = match found {
            index::Lookup::Absent => return Ok(None),
            index::Lookup::Cached(message) => return Ok(Some(message)),
            index::Lookup::Stored(location) => location,
            index::Lookup::Away => match self.locate(seq)? {
                Some(known) => known.location,
                None => return Ok(None),
            },
        };
        let damaged =
            ReadError::Damaged { segment: location.segment, offset: u64::from(location.offset) };
        match self.shared.log.read(location) {
            Ok(bytes) => record::decode(&bytes).map(Some).ok_or(damaged),
            // Settled meanwhile, and its segment gone or reused.
            Err(_) if !self.shared.index.is_live(seq) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Settles messages: they are done. Durable with the next commit; settling again is harmless.
    /// What relies on it waits for [`Buffer::position_durable`].
    pub fn settle(&self, seqs: &SeqSet) -> Position {
        let mut state = self.shared.index.lock();
        let position = state.settle(&self.shared.log, seqs);
        let (retired, is_waiting) = state.poll_retirable();
        drop(state);
        if is_waiting {
            self.shared.log.wake_chores();
        }
        self.shared.log.retire(&retired);
        self.shared.log.tell_room();
        position
    }

    /// The seq of a message that is live or was settled not long ago. `None`, too, when that
    /// cannot be read at present; [`Buffer::append`] says so.
    #[must_use]
    pub fn lookup(&self, id: &MessageId) -> Option<Seq> {
        self.look_up(|ids, asked| ids.lookup(id, asked)).ok().and_then(|(_, found)| found)
    }

    /// The id of a message whose record cannot be read; `None` when it is not known any more, or
    /// cannot be read either. May read a whole file of ids: for what is rare.
    #[must_use]
    pub fn id_of(&self, seq: Seq) -> Option<MessageId> {
        let known = self.shared.index.lock().ids.id_of(seq.0);
        known.unwrap_or_else(|(spill, place)| {
            spill.id_at(place).unwrap_or_else(|error| {
                tracing::error!(%seq, %error, "a file of ids cannot be read");
                None
            })
        })
    }

    /// Whether a seq was given and is settled.
    #[must_use]
    pub fn is_settled(&self, seq: Seq) -> bool {
        self.shared.index.is_settled(seq)
    }

    /// When an unsettled message was accepted; `None`, too, when that cannot be read. May read the
    /// disk.
    #[must_use]
    pub fn accepted_at(&self, seq: Seq) -> Option<UnixMillis> {
        match self.shared.index.accepted_at(seq) {
            index::AcceptedAt::Known(accepted_at) => Some(accepted_at),
            index::AcceptedAt::Settled => None,
            index::AcceptedAt::Away => self.locate(seq).ok()?.map(|known| known.meta.accepted_at),
        }
    }

    /// Every seq that is durable or about to be, and not settled.
    #[must_use]
    pub fn unsettled(&self) -> SeqSet {
        self.shared.index.unsettled()
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stat(&self) -> BufferStat {
        self.shared.index.stat(self.shared.log.stat())
    }

    /// Counters of the log below.
    #[must_use]
    pub fn log_stat(&self) -> LogStat {
        self.shared.log.stat()
    }

    /// Names who is told about commits, for metrics. The first call counts.
    pub fn observe(&self, observer: Arc<dyn CommitObserver>) {
        self.shared.log.observe(observer);
    }

    /// Writes what is pending, ends the threads and releases the directory. Everything appended
    /// before is durable, or its waiters are told that it is not.
    pub async fn close(&self) {
        self.shared.log.close().await;
    }
}

/// What a message needs to be accepted.
fn needs(message: &Message) -> (Priority, u64) {
    (message.priority, index::stored_bytes(record::encoded_bytes(message)))
}
