//! How messages ended: a durable, bounded store of final outcomes by message id.
//!
//! An outcome is opaque bytes, such as the collected signatures of a request, so that whoever asks
//! after a restart gets the same answer. The oldest go when there are too many.
//!
//! # Entries
//!
//! | kind | key | payload |
//! |---|---|---|
//! | 0 checkpoint | 0 | next key (8) |
//! | 1 outcome | counts up from 1 | message id (16), then the bytes |

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_protocol::message::MessageId;
use bytes::Bytes;
use serde::Deserialize;

use crate::log::{
    DurabilityError, Event, Location, Log, LogClient, LogConfig, LogOptions, OnCorruption,
    OpenError, Placed, Position, ReadError, Recovery, SegmentUsage,
};
use crate::record::ByteReader;
use crate::storage::Storage;

const KIND_OUTCOME: u8 = 1;
const ID_BYTES: usize = 16;

/// Bounds of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutcomeConfig {
    /// Most outcomes that are kept; default 100 000.
    pub count_max: usize,
    /// Most bytes of outcomes that are kept; default 256 MiB.
    pub bytes_max: u64,
    /// Bytes of one segment file, 8 KiB to 1 GiB; default 16 MiB.
    pub segment_bytes: u64,
    /// What to do about damage found at start-up; default `quarantine`.
    pub on_corruption: OnCorruption,
}

impl Default for OutcomeConfig {
    fn default() -> Self {
        Self {
            count_max: 100_000,
            bytes_max: 256 * 1024 * 1024,
            segment_bytes: 16 * 1024 * 1024,
            on_corruption: OnCorruption::Quarantine,
        }
    }
}

#[derive(Debug)]
struct Outcome {
    id: MessageId,
    bytes: u64,
    /// Where it lies, once it is durable.
    location: Option<Location>,
    /// The bytes, until it is durable.
    pending: Option<Bytes>,
}

#[derive(Debug)]
struct State {
    next_key: u64,
    outcomes: BTreeMap<u64, Outcome>,
    ids: HashMap<MessageId, u64>,
    bytes: u64,
    usage: SegmentUsage,
    config: OutcomeConfig,
}

impl State {
    fn new(config: OutcomeConfig) -> Self {
        Self {
            next_key: 1,
            outcomes: BTreeMap::new(),
            ids: HashMap::new(),
            bytes: 0,
            usage: SegmentUsage::default(),
            config,
        }
    }

    fn insert(&mut self, key: u64, outcome: Outcome) {
        self.next_key = self.next_key.max(key + 1);
        self.bytes += outcome.bytes;
        if let Some(earlier) = self.ids.insert(outcome.id, key) {
            self.remove(earlier);
        }
        self.outcomes.insert(key, outcome);
        while self.outcomes.len() > self.config.count_max || self.bytes > self.config.bytes_max {
            let Some(oldest) = self.outcomes.first_key_value().map(|(key, _)| *key) else {
                break;
            };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, key: u64) {
        let Some(outcome) = self.outcomes.remove(&key) else {
            return;
        };
        self.bytes -= outcome.bytes;
        if self.ids.get(&outcome.id) == Some(&key) {
            self.ids.remove(&outcome.id);
        }
        if let Some(location) = outcome.location {
            self.usage.handle_released(location.segment);
        }
    }
}

#[derive(Debug)]
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
        // Outcomes are not summarised: a segment stays while one in it is kept. Keys that are
        // skipped after a crash do no harm.
        out.extend_from_slice(&self.lock().next_key.to_le_bytes());
    }

    fn next_key(&self) -> u64 {
        self.lock().next_key
    }

    fn placed(&self, placed: &[Placed]) {
        let mut state = self.lock();
        let state = &mut *state;
        for placed in placed {
            let outcome = state.outcomes.get_mut(&placed.key);
            state.usage.handle_placed(placed.location, outcome.is_some());
            if let Some(outcome) = outcome {
                outcome.location = Some(placed.location);
                outcome.pending = None;
            }
        }
    }
}

/// The store. Cheap to clone; the last clone to go closes it.
#[derive(Debug, Clone)]
pub struct Outcomes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    client: Arc<Client>,
}

impl Outcomes {
    /// Opens the store in a directory, or creates it.
    ///
    /// # Errors
    ///
    /// When the directory is locked, not writable, of a newer version or of another log, or when
    /// the disk says no.
    pub fn open(
        dir: &Path,
        config: OutcomeConfig,
        storage: Arc<dyn Storage>,
    ) -> Result<(Self, Recovery), OpenError> {
        let mut state = State::new(config);
        let client = Arc::new(Client { state: Mutex::new(State::new(config)) });
        let log_config = LogConfig::new(config.segment_bytes, config.on_corruption)
            .with_reserve(crate::log::RESERVE_BYTES);
        let options = LogOptions { dir, name: "outcomes", config: log_config, storage };
        let (log, recovery) =
            Log::open(&options, Arc::<Client>::clone(&client) as Arc<_>, &mut |event| {
                rebuild(&mut state, &event);
            })?;
        state.next_key = state.next_key.max(recovery.next_key);
        log.mark_found(state.next_key);
        *client.lock() = state;
        Ok((Self { shared: Arc::new(Shared { log, client }) }, recovery))
    }

    /// Stores the outcome of a message; a later one replaces an earlier one.
    pub fn put(&self, id: MessageId, bytes: Bytes) -> Position {
        let mut state = self.shared.client.lock();
        let key = state.next_key;
        let position = self.shared.log.append(KIND_OUTCOME, key, |out| {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&bytes);
        });
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        state.insert(key, Outcome { id, bytes: length, location: None, pending: Some(bytes) });
        let retired = state.usage.poll_retirable(u64::MAX);
        drop(state);
        self.shared.log.retire(&retired);
        position
    }

    /// The outcome of a message, if it is kept.
    ///
    /// # Errors
    ///
    /// When its bytes are damaged or the disk says no.
    pub fn get(&self, id: &MessageId) -> Result<Option<Bytes>, ReadError> {
        let location = {
            let state = self.shared.client.lock();
            let outcome = state.ids.get(id).and_then(|key| state.outcomes.get(key));
            let Some(outcome) = outcome else {
                return Ok(None);
            };
            match (&outcome.pending, outcome.location) {
                (Some(bytes), _) => return Ok(Some(bytes.clone())),
                (None, Some(location)) => location,
                (None, None) => return Ok(None),
            }
        };
        match self.shared.log.read(location) {
            Ok(bytes) => Ok(Some(bytes.slice(ID_BYTES.min(bytes.len())..))),
            // Dropped meanwhile, and its segment gone or reused.
            Err(_) if !self.shared.client.lock().ids.contains_key(id) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many are kept, and their bytes.
    #[must_use]
    pub fn stat(&self) -> (usize, u64) {
        let state = self.shared.client.lock();
        (state.outcomes.len(), state.bytes)
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

fn rebuild(state: &mut State, event: &Event<'_>) {
    match event {
        Event::Checkpoint { payload } => {
            let next_key = ByteReader::new(payload).u64().unwrap_or(1);
            state.next_key = state.next_key.max(next_key);
        }
        Event::Entry { kind: KIND_OUTCOME, key, location, payload, .. } => {
            let id = ByteReader::new(payload).array().map(MessageId::new);
            state.usage.handle_placed(*location, id.is_some());
            if let Some(id) = id {
                let bytes = u64::try_from(payload.len() - ID_BYTES).unwrap_or(u64::MAX);
                let location = Some(*location);
                state.insert(*key, Outcome { id, bytes, location, pending: None });
            }
        }
        Event::Entry { location, .. } => state.usage.handle_placed(*location, false),
        Event::Damage(_) => {}
    }
}
