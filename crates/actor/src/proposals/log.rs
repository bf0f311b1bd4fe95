//! Which proposals were told, on disk, on the store of outcomes.
//!
//! Each record is kept twice: under its number, to find all of them at the start, and under the
//! digest of its id, to recognise one whose voting is long over. The head says which number is
//! next. Open ones are written again from time to time, so that the bound of the store drops only
//! what is over.
//!
//! | key (16 bytes) | value |
//! |---|---|
//! | `b"proposal"`, then 8 zero bytes | next number (8) |
//! | `b"proposal"`, then the number from 1, big endian | format (1: 1), content (32), deadline (8), endpoint (2), id (text to the end) |
//! | first 16 bytes of SHA-256(`b"alys-stream/proposal-id/v1"`, id) | the same |
//!
//! Integers little endian; times in Unix milliseconds.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use alys_stream_messaging::log::{
    DurabilityError, Gap, OnCorruption, OpenError, Position, ReadError,
};
use alys_stream_messaging::outbox::EndpointId;
use alys_stream_messaging::outcome::{OutcomeConfig, Outcomes};
use alys_stream_messaging::storage::Storage;
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::time::UnixMillis;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bytes::Bytes;

use crate::agreement::{ContentDigest, TOPICS_MAX};

const FORMAT: u8 = 1;
const KEY_TAG: [u8; 8] = *b"proposal";
const ID_TAG: &[u8] = b"alys-stream/proposal-id/v1";

/// Numbers between two times that all open ones are written again.
const RENEW_EVERY: u64 = 4096;

/// Records that are looked through at the start: those of two rounds, and the open ones of each.
const RECORDS_MAX: u64 = 2 * (RENEW_EVERY + TOPICS_MAX as u64);

/// Entries of the store: each record twice, and the head.
const ENTRIES_MAX: usize = 65_536;

/// Bytes of one segment.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

const _: () = assert!(2 * RECORDS_MAX < ENTRIES_MAX as u64);

/// What is kept of a proposal that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalRecord {
    /// Its id.
    pub id: String,
    /// Its content.
    pub content: ContentDigest,
    /// When voting ends.
    pub deadline: UnixMillis,
    /// Who brought it last.
    pub endpoint: EndpointId,
}

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of a proposal is unreadable")]
pub struct InvalidRecord;

impl ProposalRecord {
    /// The bytes of the record.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        out.extend(self.content.0);
        out.extend(self.deadline.0.to_le_bytes());
        out.extend(self.endpoint.0.to_le_bytes());
        out.extend(self.id.as_bytes());
        out.into()
    }

    /// Reads what [`ProposalRecord::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are no record.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        let (format, rest) = bytes.split_first().ok_or(InvalidRecord)?;
        let (content, rest) = rest.split_first_chunk::<32>().ok_or(InvalidRecord)?;
        let (deadline, rest) = rest.split_first_chunk::<8>().ok_or(InvalidRecord)?;
        let (endpoint, id) = rest.split_first_chunk::<2>().ok_or(InvalidRecord)?;
        if *format != FORMAT {
            return Err(InvalidRecord);
        }
        Ok(Self {
            id: String::from_utf8(id.to_vec()).map_err(|_| InvalidRecord)?,
            content: ContentDigest(*content),
            deadline: UnixMillis(u64::from_le_bytes(*deadline)),
            endpoint: EndpointId(u16::from_le_bytes(*endpoint)),
        })
    }
}

/// A log of proposals that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProposalLogError {
    /// Its directory cannot be opened.
    #[error("the log of proposals cannot be opened: {0}")]
    Open(#[source] OpenError),
    /// A record cannot be read.
    #[error("the log of proposals cannot be read: {0}")]
    Read(#[source] ReadError),
    /// It does not become durable.
    #[error("the log of proposals cannot be written: {0}")]
    Write(#[source] DurabilityError),
}

/// The log of what was told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProposalLog {
    store: Outcomes,
    next: Arc<Mutex<u64>>,
    gaps: Arc<[Gap]>,
}

impl ProposalLog {
    /// Opens the log in a directory, or creates it. Returns the records that voting may still go on
    /// about; damaged ones are left out, and may be told again.
    ///
    /// # Errors
    ///
    /// When the directory cannot be opened or the disk says no.
    pub fn open(
        dir: &Path,
        now: UnixMillis,
        storage: Arc<dyn Storage>,
    ) -> Result<(Self, Vec<ProposalRecord>), ProposalLogError> {
        let config = OutcomeConfig {
            count_max: ENTRIES_MAX,
            segment_bytes: SEGMENT_BYTES,
            on_corruption: OnCorruption::Quarantine,
            ..OutcomeConfig::default()
        };
        let (store, recovery) =
            Outcomes::open(dir, config, storage).map_err(ProposalLogError::Open)?;
        let head = store.get(&numbered(0)).unwrap_or_default();
        let next = head.and_then(|bytes| bytes.first_chunk::<8>().copied());
        let next = next.map_or(1, u64::from_le_bytes).max(1);
        let mut open = std::collections::BTreeMap::new();
        for number in next.saturating_sub(RECORDS_MAX).max(1)..next {
            let record = store.get(&numbered(number)).ok().flatten();
            let record = record.and_then(|bytes| ProposalRecord::decode(&bytes).ok());
            if let Some(record) = record.filter(|record| record.deadline > now) {
                open.insert(record.id.clone(), record);
            }
        }
        let (next, gaps) = (Arc::new(Mutex::new(next)), recovery.gaps.into());
        Ok((Self { store, next, gaps }, open.into_values().collect()))
    }

    /// What could not be read when it was opened.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// What is known of an id, also when voting on it is over.
    ///
    /// # Errors
    ///
    /// When its record is damaged or the disk says no.
    pub fn get(&self, id: &str) -> Result<Option<ProposalRecord>, ProposalLogError> {
        let bytes = self.store.get(&by_id(id)).map_err(ProposalLogError::Read)?;
        let record = bytes.and_then(|bytes| ProposalRecord::decode(&bytes).ok());
        Ok(record.filter(|record| record.id == id))
    }

    /// Keeps a record, and waits until it is durable. `open` are all that are open, for the times
    /// when they are written again.
    ///
    /// # Errors
    ///
    /// When it does not become durable.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the record is kept, and becomes durable with what follows it.
    pub async fn append(
        &self,
        record: &ProposalRecord,
        open: Vec<ProposalRecord>,
    ) -> Result<(), ProposalLogError> {
        let position = self.put(record, open);
        self.store.durable(position).await.map_err(ProposalLogError::Write)
    }

    fn put(&self, record: &ProposalRecord, open: Vec<ProposalRecord>) -> Position {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let is_round = next.is_multiple_of(RENEW_EVERY);
        let again = open.into_iter().filter(|it| is_round && it.id != record.id);
        for record in std::iter::once(record.clone()).chain(again) {
            let bytes = record.encode();
            self.store.put(numbered(*next), bytes.clone());
            self.store.put(by_id(&record.id), bytes);
            *next += 1;
        }
        self.store.put(numbered(0), Bytes::copy_from_slice(&next.to_le_bytes()))
    }

    /// Writes what is pending and releases the directory.
    pub async fn close(&self) {
        self.store.close().await;
    }
}

fn numbered(number: u64) -> MessageId {
    let mut key = [0; 16];
    let (tag, rest) = key.split_at_mut(KEY_TAG.len());
    tag.copy_from_slice(&KEY_TAG);
    rest.copy_from_slice(&number.to_be_bytes());
    MessageId::new(key)
}

fn by_id(id: &str) -> MessageId {
    let mut engine = sha256::Hash::engine();
    engine.input(ID_TAG);
    engine.input(id.as_bytes());
    let digest = sha256::Hash::from_engine(engine).to_byte_array();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    MessageId::new(key)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alys_stream_messaging::storage::FileStorage;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn record(id: &str, deadline: UnixMillis) -> ProposalRecord {
        let (content, endpoint) = (ContentDigest([1; 32]), EndpointId(0));
        ProposalRecord { id: id.to_owned(), content, deadline, endpoint }
    }

    #[tokio::test]
    async fn an_open_one_outlives_any_number_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let open_log = || ProposalLog::open(dir.path(), NOW, Arc::new(FileStorage)).unwrap();
        let (log, _) = open_log();
        let first = record("first", NOW.saturating_add(Duration::from_secs(1)));
        log.append(&first, vec![first.clone()]).await.unwrap();
        // More than the store keeps.
        for number in 0..ENTRIES_MAX {
            let position = log.put(&record(&number.to_string(), NOW), vec![first.clone()]);
            if number % 1000 == 0 {
                log.store.durable(position).await.unwrap();
            }
        }
        log.close().await;
        drop(log);
        let (log, open) = open_log();
        assert_eq!(open, std::slice::from_ref(&first));
        assert_eq!(log.get("first").unwrap(), Some(first));
        assert_eq!(log.get("0").unwrap(), None, "dropped by the bound");
        log.close().await;
    }
}
