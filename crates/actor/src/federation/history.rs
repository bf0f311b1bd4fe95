//! The federation history on disk: entries by number, on the store of outcomes.
//!
//! Entry `n` is kept under the key `b"fed-hist"` and `n` as eight bytes, big endian. Nothing is
//! ever overwritten or evicted, so the chain stays whole from its root.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use alys_stream_messaging::log::{DurabilityError, OnCorruption, OpenError, ReadError};
use alys_stream_messaging::outcome::{OutcomeConfig, Outcomes};
use alys_stream_messaging::storage::Storage;
use alys_stream_protocol::message::MessageId;

use super::{Entry, InvalidEntry};

/// Most entries of a history. An update a day takes two: 90 years.
pub const HISTORY_ENTRIES_MAX: u64 = 65_536;

/// Bytes of one segment of the history: an update has a few kilobytes.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

const KEY_TAG: [u8; 8] = *b"fed-hist";

/// A history that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Its directory cannot be opened.
    #[error("the federation history cannot be opened: {0}")]
    Open(#[source] OpenError),
    /// An entry is damaged or missing.
    #[error(
        "entry {entry} of the federation history is lost: put its folder back from a copy, or set \
         it aside and configure the federation in force with its version"
    )]
    Lost {
        /// Which, from 0.
        entry: u64,
    },
    /// The disk does not give an entry.
    #[error("entry {entry} of the federation history cannot be read: {source}")]
    Read {
        /// Which, from 0.
        entry: u64,
        /// Why.
        source: ReadError,
    },
    /// The bytes of an entry mean nothing.
    #[error("entry {entry}: {source}")]
    Invalid {
        /// Which, from 0.
        entry: u64,
        /// Why.
        source: InvalidEntry,
    },
    /// It does not become durable.
    #[error("the federation history cannot be written: {0}")]
    Write(#[source] DurabilityError),
    /// It is as long as it may be.
    #[error(
        "the federation history has {HISTORY_ENTRIES_MAX} entries: set its folder aside and \
         configure the federation in force"
    )]
    Full,
}

/// The history of the federation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FederationHistory {
    store: Outcomes,
    next: Arc<Mutex<u64>>,
}

impl FederationHistory {
    /// Opens the history in a directory, or creates it, and reads all of it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be opened, or an entry is damaged, missing or unreadable: what
    /// follows it could not be verified.
    pub fn open(dir: &Path, storage: Arc<dyn Storage>) -> Result<(Self, Vec<Entry>), HistoryError> {
        let config = OutcomeConfig {
            // One above the bound: the store never evicts.
            count_max: usize::try_from(HISTORY_ENTRIES_MAX + 1).unwrap_or(usize::MAX),
            bytes_max: u64::MAX,
            segment_bytes: SEGMENT_BYTES,
            on_corruption: OnCorruption::Quarantine,
        };
        let (store, recovery) = Outcomes::open(dir, config, storage).map_err(HistoryError::Open)?;
        let kept = u64::try_from(store.stat().0).unwrap_or(u64::MAX);
        let mut entries = Vec::new();
        for entry in 0..kept {
            let bytes = store.get(&key(entry));
            let bytes = bytes.map_err(|source| HistoryError::Read { entry, source })?;
            // Fewer are kept than were written: one before the last is gone.
            let bytes = bytes.ok_or(HistoryError::Lost { entry })?;
            let decoded = Entry::decode(&bytes);
            entries.push(decoded.map_err(|source| HistoryError::Invalid { entry, source })?);
        }
        if !recovery.gaps.is_empty() {
            // The last ones are gone: the newest version would be forgotten (A11).
            return Err(HistoryError::Lost { entry: kept });
        }
        Ok((Self { store, next: Arc::new(Mutex::new(kept)) }, entries))
    }

    /// Appends an entry and waits until it is on stable storage.
    ///
    /// # Errors
    ///
    /// When it does not become durable; the machine must then be built again from the disk.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the entry is appended, and becomes durable with what follows it.
    pub async fn append(&self, entry: &Entry) -> Result<(), HistoryError> {
        let position = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            if *next >= HISTORY_ENTRIES_MAX {
                return Err(HistoryError::Full);
            }
            let position = self.store.put(key(*next), entry.encode());
            *next += 1;
            position
        };
        self.store.durable(position).await.map_err(HistoryError::Write)
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> u64 {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is pending and releases the directory.
    pub async fn close(&self) {
        self.store.close().await;
    }
}

fn key(entry: u64) -> MessageId {
    let mut key = [0; 16];
    let (tag, number) = key.split_at_mut(KEY_TAG.len());
    tag.copy_from_slice(&KEY_TAG);
    number.copy_from_slice(&entry.to_be_bytes());
    MessageId::new(key)
}
