//! What was applied: one durable line for every message that reached the application.
//!
//! Not the inbox, which says what was received and what is still to be done: the ledger outlives
//! both, so that anyone can count afterwards, even when the process is gone ([`read_ledger`]), and
//! so that a message id is recognised on another stream, in another dialect, after a restart.
//!
//! Files of [`SLOTS`] slots of 80 bytes, zero-filled when created; little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 1 | reserved, 0 |
//! | 2 | reserved, 0 |
//! | 4 | kind |
//! | 16 | message id |
//! | 16 | log of the sender |
//! | 8 | sequence number in that log |
//! | 8 | when it was received, Unix milliseconds |
//! | 16 | content digest |
//! | 4 | reserved, 0 |
//! | 4 | CRC-32C of the file's number (4 bytes) and the 76 bytes before |
//!
//! Invariants:
//! - G4: a message id is applied by one record alone; another record with the same id is a
//!   duplicate when the content is the same, else a conflict, and is not applied.
//! - G5: a damaged slot costs no other slot.
//! - G16: a line that was written again, because the sync of its file failed, is one application:
//!   both have the same sender, number and time.
//! - G17: what opening finds is on the disk: a process that was killed may have left lines in the
//!   cache alone.
//! - G20: lines of messages that are still to be done do not stand behind a hole: the power failed
//!   before they were durable, and all of them are applied again, in their order (D4).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use alys_stream_messaging::storage::{FileStorage, Storage, StorageFile};
use alys_stream_protocol::message::{LogId, MessageId, MessageKind, Seq};
use alys_stream_protocol::time::UnixMillis;

use crate::sync::lock;

mod known;
mod lines;
mod slot;

use known::{KnownIds, Recovered};
use lines::Lines;
use slot::{SLOT_BYTES, encode};

/// Slots of one file: 4 MiB.
pub const SLOTS: usize = 4 * 1024 * 1024 / SLOT_BYTES;

/// Files that are kept; older ones are removed. About 13 million applications.
pub const FILES_MAX: usize = 256;

/// Folder of the ledger in the data directory.
pub const FOLDER: &str = "ledger";

/// One message handed to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Application {
    /// Its identity across governance nodes and dialects.
    pub id: MessageId,
    /// What it is.
    pub kind: MessageKind,
    /// The log that its record came from.
    pub sender: LogId,
    /// Its place in that log.
    pub seq: Seq,
    /// When it was received.
    pub received: UnixMillis,
    /// Digest of its content.
    pub digest: [u8; 16],
}

/// What is known about a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing; it belongs to this record now.
    New,
    /// It belongs to this very record.
    Own {
        /// Whether that record was applied.
        is_applied: bool,
        /// When it was first received.
        received: UnixMillis,
    },
    /// It belongs to another record with the same content.
    Duplicate {
        /// When that was first received.
        received: UnixMillis,
    },
    /// It belongs to another record with another content.
    Conflict,
}

/// Counts, over everything that the ledger still holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct LedgerStat {
    /// Messages applied, each time counted.
    pub messages: u64,
    /// Message ids that were applied more than once; anything but 0 breaks D3.
    pub twice: u64,
    /// Messages applied, by kind.
    pub by_kind: BTreeMap<String, u64>,
}

/// The durable record of applications, and the memory of message ids.
#[derive(Debug)]
pub struct Ledger {
    index: Mutex<Index>,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Index {
    known: KnownIds,
    stat: LedgerStat,
}

#[derive(Debug)]
struct Writer {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    /// Numbers of the files, ascending; the last one is written.
    files: Vec<u32>,
    /// Of the next file. One that could not be begun is not tried again: what lies there now is
    /// nobody's (D11).
    next_number: u32,
    file: Option<Arc<dyn StorageFile>>,
    next_slot: usize,
}

impl Ledger {
    /// Opens or creates the ledger in a folder.
    ///
    /// `ids_max` bounds how many message ids are remembered. `is_unhandled` says of a message whether
    /// it will come again, because the inbox does not know it to be done.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn open(
        folder: &Path,
        storage: Arc<dyn Storage>,
        ids_max: usize,
        is_unhandled: impl Fn(&Application) -> bool,
    ) -> io::Result<Self> {
        storage.create_dir_all(folder)?;
        let mut index = Index { known: KnownIds::new(ids_max), stat: LedgerStat::default() };
        let (mut next_slot, mut newest) = (SLOTS, None);
        let files = file_numbers(&storage.list(folder)?);
        for number in &files {
            let lines = Lines::read(&*storage, &path(folder, *number), *number, &is_unhandled)?;
            lines.applications.iter().for_each(|line| index.handle_recovered(line));
            next_slot = lines.next_slot;
            newest = Some((*number, next_slot)).filter(|_| next_slot > 0).or(newest);
        }
        if let Some((number, slots)) = newest {
            store_again(&*storage, &path(folder, number), slots)?;
        }
        storage.sync_dir(folder)?;
        let next_number = files.last().map_or(1, |last| last + 1);
        let folder = folder.to_owned();
        let writer = Writer { storage, folder, files, next_number, file: None, next_slot };
        Ok(Self { index: Mutex::new(index), writer: Mutex::new(writer) })
    }

    /// Says whose each message id is, and gives it to its record when it is nobody's (G4).
    pub fn claim<'a>(
        &self,
        applications: impl IntoIterator<Item = &'a Application>,
    ) -> Vec<Standing> {
        let mut index = lock(&self.index);
        applications.into_iter().map(|application| index.known.claim(application)).collect()
    }

    /// Takes the ids of records back that will not be applied, as far as these own them: a later
    /// record with such an id may be applied (G4).
    pub fn release<'a>(&self, applications: impl IntoIterator<Item = &'a Application>) {
        let mut index = lock(&self.index);
        applications.into_iter().for_each(|application| index.known.release(application));
    }

    /// Counts applications. Says of each whether it may be performed: its record owns the id and
    /// was not applied before.
    pub fn apply<'a>(&self, applications: impl IntoIterator<Item = &'a Application>) -> Vec<bool> {
        let mut index = lock(&self.index);
        let apply = |application| index.apply(application);
        applications.into_iter().map(apply).collect()
    }

    /// Writes applications and syncs. Blocks: not for a task of the runtime.
    ///
    /// # Errors
    ///
    /// What the file system says; nothing of it counts as written then, and the next call begins a
    /// new file, because a file whose sync failed is never trusted again (D11).
    pub fn write(&self, applications: &[Application]) -> io::Result<()> {
        let mut writer = lock(&self.writer);
        let mut rest = applications;
        while !rest.is_empty() {
            let room = writer.room()?;
            let (now, later) = rest.split_at(room.min(rest.len()));
            writer.write(now)?;
            rest = later;
        }
        Ok(())
    }

    /// What was applied so far.
    #[must_use]
    pub fn stat(&self) -> LedgerStat {
        lock(&self.index).stat.clone()
    }
}

impl LedgerStat {
    fn count(&mut self, kind: MessageKind) {
        self.messages += 1;
        match self.by_kind.get_mut(kind.as_str()) {
            Some(count) => *count += 1,
            None => drop(self.by_kind.insert(kind.as_str().to_owned(), 1)),
        }
    }
}

impl Index {
    fn apply(&mut self, application: &Application) -> bool {
        let is_applied_now = self.known.apply(application);
        if is_applied_now {
            self.stat.count(application.kind);
        }
        is_applied_now
    }

    fn handle_recovered(&mut self, application: &Application) {
        match self.known.recover(application) {
            // G16: the same line once more is one application.
            Recovered::Again => return,
            Recovered::Twice => self.stat.twice += 1,
            Recovered::New => {}
        }
        self.stat.count(application.kind);
    }
}

impl Writer {
    /// How many slots are free in the file that is written; begins a new one when none is.
    fn room(&mut self) -> io::Result<usize> {
        if self.next_slot >= SLOTS {
            self.begin_file()?;
        } else if self.file.is_none()
            && let Some(number) = self.files.last()
        {
            self.file = Some(self.storage.open(&path(&self.folder, *number))?);
        }
        Ok(SLOTS - self.next_slot)
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let number = self.next_number;
        self.next_number += 1;
        let file = self.storage.create(&path(&self.folder, number))?;
        // Written once ahead of use, so that a sync has no metadata to write.
        file.write_at(&vec![0; SLOTS * SLOT_BYTES], 0)?;
        file.sync_data()?;
        self.storage.sync_dir(&self.folder)?;
        self.files.push(number);
        (self.file, self.next_slot) = (Some(file), 0);
        while self.files.len() > FILES_MAX {
            let oldest = self.files.remove(0);
            self.storage.remove(&path(&self.folder, oldest))?;
        }
        Ok(())
    }

    fn write(&mut self, applications: &[Application]) -> io::Result<()> {
        let (Some(file), Some(number)) = (&self.file, self.files.last()) else {
            return Err(io::Error::other("no ledger file is open"));
        };
        let bytes: Vec<u8> =
            applications.iter().flat_map(|application| encode(*number, application)).collect();
        let written = file.write_at(&bytes, offset(self.next_slot)).and_then(|()| file.sync_data());
        if let Err(error) = written {
            (self.file, self.next_slot) = (None, SLOTS);
            return Err(error);
        }
        self.next_slot += applications.len();
        Ok(())
    }
}

fn offset(slot: usize) -> u64 {
    u64::try_from(slot * SLOT_BYTES).unwrap_or(u64::MAX)
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("applied-{number:08}.ledger"))
}

fn file_numbers(names: &[String]) -> Vec<u32> {
    let mut numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| name.strip_prefix("applied-")?.strip_suffix(".ledger")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Writes the slots of a file once more and syncs it: after a failed sync they count as clean, and
/// its process may have ended before it wrote them to another file (G17).
fn store_again(storage: &dyn Storage, path: &Path, slots: usize) -> io::Result<()> {
    let file = storage.open(path)?;
    let mut bytes = vec![0; slots * SLOT_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    file.write_at(bytes.get(..read).unwrap_or_default(), 0)?;
    file.sync_data()
}

/// Reads the ledger of a data directory whose process is gone: how often each message was applied.
///
/// # Errors
///
/// When there is no ledger, or the file system says so.
pub fn read_ledger(data_dir: &Path) -> Result<Vec<(MessageId, u64)>, LedgerError> {
    let folder = data_dir.join(FOLDER);
    let storage = FileStorage;
    let unreadable = |source| LedgerError { folder: folder.clone(), source };
    let mut applications = BTreeSet::new();
    for number in file_numbers(&storage.list(&folder).map_err(unreadable)?) {
        let lines = Lines::read(&storage, &path(&folder, number), number, &|_| false)
            .map_err(unreadable)?
            .applications;
        // G16.
        applications.extend(lines.iter().map(|it| (it.id, it.sender, it.seq, it.received)));
    }
    let mut counts = BTreeMap::<MessageId, u64>::new();
    for (id, ..) in applications {
        *counts.entry(id).or_default() += 1;
    }
    Ok(counts.into_iter().collect())
}

/// A ledger that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: the ledger cannot be read ({source}); give the data directory of a governance node", folder.display())]
pub struct LedgerError {
    /// Its folder.
    pub folder: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

#[cfg(test)]
mod tests;
