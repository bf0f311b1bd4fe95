//! The memory of peers that found the log to be rolled back: a restart must not make it pass for a
//! whole one (D12).
//!
//! What a peer can know of a log is what it held when it was opened. A copy that is found out, goes
//! on accepting and is opened again holds more by then, and the numbers that a peer knows from the
//! log's former life would look like its own. So the first number that was in doubt is written down,
//! for the endpoint that found it out alone: a peer that lies harms itself. It counts until an
//! operator adopts another id for the log.
//!
//! A file of: the id of the log (16 bytes), then for each endpoint the length of its name (1 byte),
//! its name, and the first number in doubt (8 bytes, little endian).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_messaging::storage::Storage;
use alys_stream_protocol::message::{LogId, Seq};

const FILE: &str = "rolled-back";
const TEMPORARY: &str = "rolled-back.tmp";

/// What was found out, and where it is written down.
#[derive(Debug)]
pub(super) struct Fence {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    log: LogId,
    /// The first number in doubt, by the names of endpoints.
    in_doubt: Mutex<BTreeMap<String, Seq>>,
}

impl Fence {
    /// Reads what earlier lives of this log found out.
    pub(super) fn open(storage: &Arc<dyn Storage>, dir: &Path, log: LogId) -> io::Result<Self> {
        let (storage, dir) = (Arc::clone(storage), dir.to_path_buf());
        let this = Self { storage, dir, log, in_doubt: Mutex::default() };
        // What a process that was killed renamed may not be on the disk yet.
        this.storage.sync_dir(&this.dir)?;
        if this.has(FILE)? {
            let file = this.storage.open(&this.dir.join(FILE))?;
            let mut bytes = vec![0; usize::try_from(file.size()?).unwrap_or(0)];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            *this.lock() = decode(&bytes, log);
        }
        Ok(this)
    }

    /// The first number that is in doubt for an endpoint.
    pub(super) fn below(&self, endpoint: &str) -> Option<Seq> {
        self.lock().get(endpoint).copied()
    }

    /// Writes down what an endpoint found out, unless it did before.
    pub(super) fn raise(&self, endpoint: &str, below: Seq) -> io::Result<()> {
        let mut in_doubt = self.lock();
        if in_doubt.contains_key(endpoint) {
            return Ok(());
        }
        let mut changed = in_doubt.clone();
        changed.insert(endpoint.to_owned(), below);
        self.write(&changed)?;
        *in_doubt = changed;
        Ok(())
    }

    fn write(&self, in_doubt: &BTreeMap<String, Seq>) -> io::Result<()> {
        let (path, temporary) = (self.dir.join(FILE), self.dir.join(TEMPORARY));
        if self.has(TEMPORARY)? {
            self.storage.remove(&temporary)?;
        }
        let file = self.storage.create(&temporary)?;
        file.write_at(&encode(in_doubt, self.log), 0)?;
        file.sync_data()?;
        self.storage.rename(&temporary, &path)?;
        self.storage.sync_dir(&self.dir)
    }

    fn has(&self, name: &str) -> io::Result<bool> {
        Ok(self.storage.list(&self.dir)?.iter().any(|it| it == name))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seq>> {
        self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(in_doubt: &BTreeMap<String, Seq>, log: LogId) -> Vec<u8> {
    let mut bytes = log.as_bytes().to_vec();
    for (name, below) in in_doubt {
        // The configuration bounds names far below that.
        if let Ok(length) = u8::try_from(name.len()) {
            bytes.push(length);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&below.0.to_le_bytes());
        }
    }
    bytes
}

/// Nothing, when it is of another log: which this one was before it was adopted.
fn decode(bytes: &[u8], log: LogId) -> BTreeMap<String, Seq> {
    let mut in_doubt = BTreeMap::new();
    let Some(mut rest) = bytes.strip_prefix(log.as_bytes().as_slice()) else {
        return in_doubt;
    };
    while let Some((length, behind)) = rest.split_first()
        && let Some((name, behind)) = behind.split_at_checked(usize::from(*length))
        && let Some((below, behind)) = behind.split_first_chunk::<8>()
    {
        let name = String::from_utf8_lossy(name).into_owned();
        in_doubt.insert(name, Seq(u64::from_le_bytes(*below)));
        rest = behind;
    }
    in_doubt
}
