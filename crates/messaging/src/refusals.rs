//! Who refused which live message, how often, and when it is due again: a small durable store, so
//! that the retry queue survives a restart.
//!
//! It holds only messages that were refused at least once and are not settled. A message that is
//! refused again replaces what was known of it. What belongs to a settled message, or to another
//! log, goes when the store is opened; until then it takes disk and nothing else.
//!
//! Not here: when a message is due and who is asked again, see [`crate::retry`] and
//! [`crate::outbox`]. In memory is only where each lies.
//!
//! Invariants:
//! - M23: what was put last is what is found, before and after a crash, once it is durable; beyond
//!   the bounds the oldest are forgotten, and such a message is offered again.
//!
//! # Entries
//!
//! | kind | key | payload |
//! |---|---|---|
//! | 0 checkpoint | 0 | nothing |
//! | 1 history | seq | see the `codec` module |

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_protocol::message::{LogId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use bytes::Bytes;

use crate::log::{
    DurabilityError, Event, Location, Log, LogClient, LogConfig, LogOptions, OpenError, Placed,
    Position, ReadError, Recovery, SegmentUsage,
};
use crate::storage::Storage;

mod codec;
mod config;
mod history;

pub use config::{BYTES_MAX, COUNT_MAX, RefusalConfig};
pub use history::{EndpointHistory, History, Standing};

const KIND_HISTORY: u8 = 1;

#[derive(Debug)]
struct Kept {
    position: Position,
    bytes: u64,
    /// Where it lies, once it is durable.
    location: Option<Location>,
}

#[derive(Debug)]
struct State {
    kept: BTreeMap<Seq, Kept>,
    /// The same by age, to forget the oldest.
    order: BTreeMap<Position, Seq>,
    /// The bytes of what is not durable yet.
    pending: BTreeMap<Seq, Bytes>,
    bytes: u64,
    usage: SegmentUsage,
    config: RefusalConfig,
}

impl State {
    fn new(config: RefusalConfig) -> Self {
        Self {
            kept: BTreeMap::new(),
            order: BTreeMap::new(),
            pending: BTreeMap::new(),
            bytes: 0,
            usage: SegmentUsage::default(),
            config,
        }
    }

    fn insert(&mut self, seq: Seq, kept: Kept) {
        self.remove(seq);
        self.bytes += kept.bytes;
        self.order.insert(kept.position, seq);
        self.kept.insert(seq, kept);
        while self.kept.len() > self.config.count_max || self.bytes > self.config.bytes_max {
            let Some(oldest) = self.order.first_key_value().map(|(_, seq)| *seq) else {
                break;
            };
            tracing::warn!(seq = %oldest, "the refusals of a message are forgotten: it is offered again");
            self.remove(oldest);
        }
    }

    fn remove(&mut self, seq: Seq) {
        self.pending.remove(&seq);
        let Some(kept) = self.kept.remove(&seq) else {
            return;
        };
        self.order.remove(&kept.position);
        self.bytes -= kept.bytes;
        if let Some(location) = kept.location {
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
    fn checkpoint(&self, _first_position: Position, _out: &mut Vec<u8>) {
        // Nothing is summarised: a segment stays while something in it is kept.
    }

    fn placed(&self, placed: &[Placed]) {
        let mut state = self.lock();
        let state = &mut *state;
        for placed in placed {
            let seq = Seq(placed.key);
            let kept = state.kept.get_mut(&seq).filter(|kept| kept.position == placed.position);
            state.usage.handle_placed(placed.location, kept.is_some());
            if let Some(kept) = kept {
                kept.location = Some(placed.location);
                state.pending.remove(&seq);
            }
        }
    }
}

/// The store. Cheap to clone; the last clone to go closes it.
#[derive(Debug, Clone)]
pub struct Refusals {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    client: Arc<Client>,
    buffer: LogId,
}

impl Refusals {
    /// Opens the store in a directory, or creates it. Of what it holds, only what belongs to the
    /// log `buffer` and to a message that `is_live` is kept.
    ///
    /// # Errors
    ///
    /// When the directory is locked, not writable, of a newer version or of another log, or when
    /// the disk says no.
    pub fn open(
        dir: &Path,
        config: RefusalConfig,
        storage: Arc<dyn Storage>,
        buffer: LogId,
        is_live: &dyn Fn(Seq) -> bool,
    ) -> Result<(Self, Recovery), OpenError> {
        let mut state = State::new(config);
        let client = Arc::new(Client { state: Mutex::new(State::new(config)) });
        let log_config = LogConfig::new(config.segment_bytes, config.on_corruption)
            .with_reserve(crate::log::RESERVE_BYTES);
        let options = LogOptions { dir, name: "refusals", config: log_config, storage };
        let (log, recovery) =
            Log::open(&options, Arc::<Client>::clone(&client) as Arc<_>, &mut |event| {
                rebuild(&mut state, &event, &|log, seq| log == buffer && is_live(seq));
            })?;
        *client.lock() = state;
        log.mark_found(LogClient::next_key(&*client));
        Ok((Self { shared: Arc::new(Shared { log, client, buffer }) }, recovery))
    }

    /// Stores every refusal of a message, in place of what was stored of it before.
    pub fn put(&self, seq: Seq, history: &History) -> Position {
        let mut payload = Vec::new();
        codec::encode(&mut payload, self.shared.buffer, history);
        let mut state = self.shared.client.lock();
        let position = self.shared.log.append(KIND_HISTORY, seq.0, |out| {
            out.extend_from_slice(&payload);
        });
        let bytes = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        state.insert(seq, Kept { position, bytes, location: None });
        if state.kept.contains_key(&seq) {
            state.pending.insert(seq, payload.into());
        }
        self.retire(state);
        position
    }

    /// Messages are settled: what is known of them is not needed any more.
    pub fn forget(&self, settled: &SeqSet) {
        let mut state = self.shared.client.lock();
        for range in settled.ranges() {
            let known: Vec<Seq> = state.kept.range(range).map(|(seq, _)| *seq).collect();
            for seq in known {
                state.remove(seq);
            }
        }
        self.retire(state);
    }

    fn retire(&self, mut state: MutexGuard<'_, State>) {
        let retired = state.usage.poll_retirable(u64::MAX);
        drop(state);
        self.shared.log.retire(&retired);
    }

    /// Every refusal of a message; empty when nobody refused it.
    ///
    /// # Errors
    ///
    /// When its bytes are damaged or the disk says no.
    pub fn history(&self, seq: Seq) -> Result<History, ReadError> {
        let location = {
            let state = self.shared.client.lock();
            let Some(kept) = state.kept.get(&seq) else {
                return Ok(History::default());
            };
            match (state.pending.get(&seq), kept.location) {
                (Some(bytes), _) => return Ok(codec::decode(bytes).unwrap_or_default()),
                (None, Some(location)) => location,
                (None, None) => return Ok(History::default()),
            }
        };
        let damaged =
            ReadError::Damaged { segment: location.segment, offset: u64::from(location.offset) };
        match self.shared.log.read(location) {
            Ok(bytes) => codec::decode(&bytes).ok_or(damaged),
            // Forgotten meanwhile, and its segment gone or reused.
            Err(_) if !self.is_at(seq, location) => self.history(seq),
            Err(error) => Err(error),
        }
    }

    fn is_at(&self, seq: Seq, location: Location) -> bool {
        let state = self.shared.client.lock();
        state.kept.get(&seq).is_some_and(|kept| kept.location == Some(location))
    }

    /// How many messages have refusals, and the bytes of those.
    #[must_use]
    pub fn stat(&self) -> (usize, u64) {
        let state = self.shared.client.lock();
        (state.kept.len(), state.bytes)
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

fn rebuild(state: &mut State, event: &Event<'_>, is_wanted: &dyn Fn(LogId, Seq) -> bool) {
    match event {
        Event::Entry { kind: KIND_HISTORY, key, position, location, payload } => {
            let seq = Seq(*key);
            let is_kept = codec::decode_log(payload).is_some_and(|log| is_wanted(log, seq));
            state.usage.handle_placed(*location, is_kept);
            if is_kept {
                let bytes = u64::try_from(payload.len()).unwrap_or(u64::MAX);
                let (position, location) = (*position, Some(*location));
                state.insert(seq, Kept { position, bytes, location });
            }
        }
        Event::Entry { location, .. } => state.usage.handle_placed(*location, false),
        Event::Checkpoint { .. } | Event::Damage(_) => {}
    }
}
