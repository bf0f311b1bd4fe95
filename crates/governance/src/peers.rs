//! The nodes that ever opened a session: whose log is whose.
//!
//! Needed after a restart, to answer requests that were stored before it and to push to nodes that
//! are away. One small JSON file, replaced as a whole when a new log appears.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use alys_stream_messaging::storage::Storage;
use alys_stream_protocol::message::LogId;

use crate::sync::lock;

const FILE: &str = "peers.json";

/// Most logs that are remembered. A node has a new one only when its buffer was lost or renewed.
const LOGS_MAX: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Peers {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    /// Log, as hexadecimal text, to node.
    logs: Mutex<BTreeMap<String, String>>,
}

impl Peers {
    pub(crate) fn open(folder: &Path, storage: Arc<dyn Storage>) -> io::Result<Self> {
        storage.create_dir_all(folder)?;
        // What a process that was killed renamed may not be on the disk yet.
        storage.sync_dir(folder)?;
        let logs = if storage.list(folder)?.iter().any(|name| name == FILE) {
            let file = storage.open(&folder.join(FILE))?;
            let mut bytes = vec![0; usize::try_from(file.size()?).unwrap_or(0)];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            serde_json::from_slice(&bytes).map_err(io::Error::other)?
        } else {
            BTreeMap::new()
        };
        Ok(Self { storage, folder: folder.to_owned(), logs: Mutex::new(logs) })
    }

    /// Whose log it is.
    pub(crate) fn node_of(&self, log: LogId) -> Option<String> {
        lock(&self.logs).get(&log.to_string()).cloned()
    }

    /// Every node.
    pub(crate) fn nodes(&self) -> BTreeSet<String> {
        lock(&self.logs).values().cloned().collect()
    }

    /// Remembers whose log it is. Blocks when that is new: not for a task of the runtime.
    pub(crate) fn remember(&self, log: LogId, node_id: &str) -> io::Result<()> {
        let mut logs = lock(&self.logs);
        let key = log.to_string();
        if logs.get(&key).is_some_and(|known| known == node_id) {
            return Ok(());
        }
        if logs.len() >= LOGS_MAX && !logs.contains_key(&key) {
            return Err(io::Error::other(format!("{LOGS_MAX} logs are known already")));
        }
        let mut changed = logs.clone();
        changed.insert(key, node_id.to_owned());
        self.write(&changed)?;
        *logs = changed;
        Ok(())
    }

    fn write(&self, logs: &BTreeMap<String, String>) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(logs).map_err(io::Error::other)?;
        let (path, temporary) = (self.folder.join(FILE), self.folder.join("peers.json.tmp"));
        if self.storage.list(&self.folder)?.iter().any(|name| name == "peers.json.tmp") {
            self.storage.remove(&temporary)?;
        }
        let file = self.storage.create(&temporary)?;
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        self.storage.rename(&temporary, &path)?;
        self.storage.sync_dir(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_messaging::storage::FileStorage;

    use super::*;

    #[test]
    fn logs_are_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Peers::open(folder.path(), Arc::new(FileStorage)).unwrap();
        let (one, two) = (LogId::new([1; 16]), LogId::new([2; 16]));
        let peers = open();
        peers.remember(one, "alys-1").unwrap();
        peers.remember(one, "alys-1").unwrap();
        peers.remember(two, "alys-1").unwrap();
        assert_eq!(open().node_of(two).as_deref(), Some("alys-1"));
        assert_eq!(open().nodes().len(), 1);
        assert_eq!(open().node_of(LogId::new([3; 16])), None);
    }
}
