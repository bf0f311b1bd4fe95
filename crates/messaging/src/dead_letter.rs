//! Dead letters: messages with a cause of death, kept with everything needed to judge and replay
//! them.
//!
//! A dead letter is durable before the buffer settles its message. Not here: what is done when a crash
//! comes between the two (the actor layer), and who may remove which.
//!
//! They are bounded by bytes and, when configured, by age. Beyond the bound the oldest go for good,
//! with a log line each, and [`DeadLetterStat`] tells long before how near that is. The newest one
//! is kept whatever its bytes, but no longer than any other. None goes before [`DeadLetters::expire`]
//! was called after it was stored: until its message is settled, it alone says that this is dead.
//!
//! # Entries
//!
//! | kind | key | payload |
//! |---|---|---|
//! | 0 checkpoint | 0 | next id (8); set of purged ids: count (4), then first (8) and last (8) of each range |
//! | 1 dead letter | id | see the `codec` module |
//! | 2 purged | 0 | set of ids |

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_protocol::message::{LogId, MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use crate::log::{
    DurabilityError, Log, LogClient, LogConfig, LogOptions, OpenError, Placed, Position, ReadError,
    Recovery,
};
use crate::record;
use crate::storage::Storage;

mod codec;
mod config;
mod letter;
mod look;
mod state;

pub use config::{BYTES_MAX, DeadLetterConfig, FOUND_MAX, LETTER_BYTES_MIN, NEARLY_FULL_PERCENT};
pub use letter::{DeadAttempt, DeadLetter, DeadLetterId};
pub use look::LookedLetters;
pub use state::DeadLetterStat;

use state::{Kept, State, rebuild};

const KIND_DEAD: u8 = 1;
const KIND_PURGED: u8 = 2;

#[derive(Debug, Default)]
struct Client {
    state: Mutex<State>,
}

impl Client {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogClient for Client {
    fn checkpoint(&self, _first_position: Position, out: &mut Vec<u8>) {
        let state = self.lock();
        out.extend_from_slice(&state.next_id.to_le_bytes());
        record::put_seq_set(out, &state.purged);
    }

    fn next_key(&self) -> u64 {
        self.lock().next_id
    }

    fn placed(&self, placed: &[Placed]) {
        let mut state = self.lock();
        let state = &mut *state;
        for placed in placed {
            let kept =
                (placed.kind == KIND_DEAD).then(|| state.kept.get_mut(&placed.key)).flatten();
            state.usage.handle_placed(placed.location, kept.is_some());
            if let Some(kept) = kept {
                kept.location = Some(placed.location);
            }
        }
    }
}

/// Dead letters that can be read: an open store, or one that is looked at.
pub trait ReadLetters {
    /// Reads one; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When its bytes are damaged or the disk says no.
    fn get(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, ReadError>;

    /// Reads up to `count` of them, oldest first, from the one behind `after` on.
    ///
    /// # Errors
    ///
    /// When the bytes of one are damaged or the disk says no.
    fn list(
        &self,
        after: Option<DeadLetterId>,
        count: usize,
    ) -> Result<Vec<(DeadLetterId, DeadLetter)>, ReadError>;

    /// How many there are.
    fn count(&self) -> u64;
}

impl ReadLetters for DeadLetters {
    fn get(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, ReadError> {
        Self::get(self, id)
    }

    fn list(
        &self,
        after: Option<DeadLetterId>,
        count: usize,
    ) -> Result<Vec<(DeadLetterId, DeadLetter)>, ReadError> {
        Self::list(self, after, count)
    }

    fn count(&self) -> u64 {
        self.stat().count
    }
}

/// The store. Cheap to clone; the last clone to go closes it.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    client: Arc<Client>,
    config: DeadLetterConfig,
}

impl DeadLetters {
    /// Opens the store in a directory, or creates it.
    ///
    /// # Errors
    ///
    /// When the directory is locked, not writable, of a newer version or of another log, or when
    /// the disk says no.
    pub fn open(
        dir: &Path,
        config: DeadLetterConfig,
        storage: Arc<dyn Storage>,
    ) -> Result<(Self, Recovery), OpenError> {
        let client = Arc::new(Client::default());
        let log_config = LogConfig::new(config.segment_bytes, config.on_corruption)
            .with_reserve(crate::log::RESERVE_BYTES);
        let options = LogOptions { dir, name: "dead", config: log_config, storage };
        let mut state = State::default();
        let (log, recovery) =
            Log::open(&options, Arc::<Client>::clone(&client) as Arc<_>, &mut |event| {
                rebuild(&mut state, &event);
            })?;
        state.next_id = state.next_id.max(recovery.next_key);
        state.held_from = state.next_id;
        log.mark_found(state.next_id);
        *client.lock() = state;
        Ok((Self { shared: Arc::new(Shared { log, client, config }) }, recovery))
    }

    /// Drops for good what is older than it may be at `now`, the newest one too, and what is beyond
    /// the bytes; returns how many. To be called when the messages of all that are stored are settled.
    pub fn expire(&self, now: UnixMillis) -> u64 {
        let mut state = self.shared.client.lock();
        state.held_from = state.next_id;
        self.drop_oldest(&mut state, now)
    }

    fn drop_oldest(&self, state: &mut State, now: UnixMillis) -> u64 {
        let dropped = state.drop_oldest(&self.shared.config, now);
        if !dropped.is_empty() {
            // Not awaited: after a crash they are dropped once more.
            let log = &self.shared.log;
            let position = log.append(KIND_PURGED, 0, |out| record::put_seq_set(out, &dropped));
            tracing::debug!(%position, count = dropped.count(), "dead letters were dropped");
            log.retire(&state.usage.poll_retirable(u64::MAX));
        }
        dropped.count()
    }

    /// The dead letters of a message, oldest first: several when it died in several logs, or was
    /// replayed and died again before its first one was removed. At most [`FOUND_MAX`], the newest.
    #[must_use]
    pub fn find(&self, id: &MessageId) -> Vec<DeadLetterId> {
        self.shared.client.lock().find(id)
    }

    /// The dead letter of a message that died under this number of a log.
    #[must_use]
    pub fn letter_of(&self, log: LogId, seq: Seq) -> Option<DeadLetterId> {
        self.shared.client.lock().ids.get(&(log, seq)).copied().map(DeadLetterId)
    }

    /// Which message a dead letter is of, without reading it: the log, its number there, and its id.
    #[must_use]
    pub fn message_of(&self, id: DeadLetterId) -> Option<(LogId, Seq, MessageId)> {
        self.shared.client.lock().kept.get(&id.0).map(|kept| (kept.log, kept.seq, kept.id))
    }

    /// Stores a dead letter, and drops the oldest ones beyond the bounds, as far as their messages are
    /// known to be settled; the buffer may settle its message once the position is durable. The second
    /// of two for one message is not stored.
    pub fn put(&self, letter: &DeadLetter) -> (DeadLetterId, Position) {
        let mut state = self.shared.client.lock();
        if let Some(id) = state.ids.get(&(letter.log, letter.seq)).copied() {
            let position = state.kept.get(&id).map_or(Position(0), |kept| kept.position);
            return (DeadLetterId(id), position);
        }
        let id = state.next_id;
        let mut bytes = 0;
        let position = self.shared.log.append(KIND_DEAD, id, |out| {
            let before = out.len();
            codec::encode(out, letter);
            bytes = out.len() - before;
        });
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let (log, seq) = (letter.log, letter.seq);
        let (message, died_at) = (letter.message.id, letter.died_at);
        let kept = Kept { log, seq, id: message, died_at, bytes, position, location: None };
        state.insert(id, kept);
        self.drop_oldest(&mut state, letter.died_at);
        (DeadLetterId(id), position)
    }

    /// Reads one; `None` when it was purged, never was, or is not durable yet.
    ///
    /// # Errors
    ///
    /// When its bytes are damaged or the disk says no.
    pub fn get(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, ReadError> {
        let location = self.shared.client.lock().kept.get(&id.0).and_then(|kept| kept.location);
        let Some(location) = location else {
            return Ok(None);
        };
        match self.shared.log.read(location) {
            Ok(bytes) => codec::decode(&bytes).map(Some).ok_or_else(|| ReadError::Damaged {
                segment: location.segment,
                offset: u64::from(location.offset),
            }),
            // Purged meanwhile, and its segment gone or reused.
            Err(_) if !self.shared.client.lock().kept.contains_key(&id.0) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads up to `count` of them, oldest first, from the one behind `after` on.
    ///
    /// # Errors
    ///
    /// When the bytes of one are damaged or the disk says no.
    pub fn list(
        &self,
        after: Option<DeadLetterId>,
        count: usize,
    ) -> Result<Vec<(DeadLetterId, DeadLetter)>, ReadError> {
        let from = after.map_or(0, |id| id.0 + 1);
        let ids: Vec<u64> = {
            let state = self.shared.client.lock();
            let durable = state.kept.range(from..).filter(|(_, kept)| kept.location.is_some());
            durable.map(|(id, _)| *id).take(count).collect()
        };
        let mut letters = Vec::with_capacity(ids.len());
        for id in ids.into_iter().map(DeadLetterId) {
            if let Some(letter) = self.get(id)? {
                letters.push((id, letter));
            }
        }
        Ok(letters)
    }

    /// Removes some for good; returns how many there were, and when that is durable.
    pub fn purge(&self, ids: &[DeadLetterId]) -> (usize, Position) {
        let mut state = self.shared.client.lock();
        let purged: SeqSet =
            ids.iter().filter(|id| state.purge(id.0)).map(|id| Seq(id.0)).collect();
        if purged.is_empty() {
            return (0, self.shared.log.last_position());
        }
        let position =
            self.shared.log.append(KIND_PURGED, 0, |out| record::put_seq_set(out, &purged));
        let retired = state.usage.poll_retirable(u64::MAX);
        drop(state);
        self.shared.log.retire(&retired);
        (usize::try_from(purged.count()).unwrap_or(usize::MAX), position)
    }

    /// The messages of one log that have a dead letter.
    #[must_use]
    pub fn seqs_of(&self, log: LogId) -> SeqSet {
        let state = self.shared.client.lock();
        state.ids.range((log, Seq(0))..=(log, Seq(u64::MAX))).map(|((_, seq), _)| *seq).collect()
    }

    /// The dead letters of messages of other logs than this one, with what they are of: the number and
    /// the id. An adopted log has them of its former lives.
    #[must_use]
    pub fn of_other_logs(&self, log: LogId) -> Vec<(DeadLetterId, Seq, MessageId)> {
        let state = self.shared.client.lock();
        let others = state.kept.iter().filter(|(_, kept)| kept.log != log);
        others.map(|(id, kept)| (DeadLetterId(*id), kept.seq, kept.id)).collect()
    }

    /// Counts and sizes; takes the same time however many there are.
    #[must_use]
    pub fn stat(&self) -> DeadLetterStat {
        self.shared.client.lock().stat(&self.shared.config)
    }

    /// Waits until a position is on stable storage.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn durable(&self, position: Position) -> Result<(), DurabilityError> {
        self.shared.log.durable(position).await
    }

    /// Writes what is pending, ends the threads and releases the directory.
    pub async fn close(&self) {
        self.shared.log.close().await;
    }
}
