//! Watches what a disk is asked and what it answers: what is stored on it, and when, and whether
//! anybody relies on a file after a sync of it failed. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_messaging::storage::{LockError, Storage, StorageFile, StorageLock};
use alys_stream_testkit::disk::{Crash, Disk};

use super::items::{self, Item, Kind};
use crate::journal::{Fact, Journal};
use crate::ledger::Place;
use crate::logs::Logs;
use crate::net::Machine;

/// What the files of one disk are known to hold, over all lives of its machine. Clones are the same
/// one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, File>,
    next: u64,
    /// Grows with every crash: a process of before gets nothing but errors, which are none of the disk's.
    generation: u64,
    /// Whether it was looked at what there was on the disk before.
    is_surveyed: bool,
    /// What was noted as stored.
    noted: BTreeSet<Item>,
    /// Lines of a ledger that were written, and of which nobody was told that they are stored.
    doubtful: BTreeSet<Place>,
}

#[derive(Debug, Default)]
struct File {
    /// Whether its name is stored.
    is_named: bool,
    /// Written, and not synced yet: what, and where.
    pending: Vec<Item>,
    dirty: Vec<Range<u64>>,
    /// What is pending is not known: the whole file tells.
    is_unclear: bool,
    /// Synced, under a name that is not stored yet.
    held: Vec<Item>,
    /// Where a failed sync dropped what was written, and it was not written again since.
    dropped: Vec<Range<u64>>,
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process is gone, or the power. What is read after that is stored.
    pub(crate) fn crash(&self, crash: Crash) {
        let mut state = self.lock();
        state.generation += 1;
        if crash != Crash::Kill {
            state.names.clear();
            state.files.clear();
            state.is_surveyed = false;
        }
    }

    /// Another machine has the disk now.
    pub(crate) fn hand_over(&self) -> Self {
        self.lock().is_surveyed = false;
        self.clone()
    }

    /// Lines of a ledger that may stand there and were not known to: they were written again.
    pub(crate) fn doubtful(&self) -> BTreeSet<Place> {
        self.lock().doubtful.clone()
    }
}

impl State {
    fn find(&mut self, path: &Path) -> u64 {
        match self.names.get(path) {
            Some(number) => *number,
            // It was there before anybody watched.
            None => self.add(path, true),
        }
    }

    fn add(&mut self, path: &Path, is_named: bool) -> u64 {
        self.next += 1;
        self.names.insert(path.to_path_buf(), self.next);
        // What is written once more into a file that was there may be damaged.
        let is_unclear = is_named;
        self.files.insert(self.next, File { is_named, is_unclear, ..File::default() });
        self.next
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let number = self.find(from);
        self.names.remove(from);
        self.names.insert(to.to_path_buf(), number);
        let Some(file) = self.files.get_mut(&number) else { return };
        file.is_named = false;
        if from.extension().is_none_or(|extension| extension != "tmp") {
            // A segment that is used again under another number: nothing that was in it counts there.
            file.dropped.clear();
        }
    }

    fn name_all(&mut self, dir: &Path) -> Vec<Item> {
        let inside = self.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let mut held = Vec::new();
        for number in inside.map(|(_, number)| number) {
            if let Some(file) = self.files.get_mut(number) {
                file.is_named = true;
                held.append(&mut file.held);
            }
        }
        held
    }

    /// What was not noted before.
    fn fresh(&mut self, items: Vec<Item>) -> Vec<Item> {
        items.into_iter().filter(|item| self.noted.insert(item.clone())).collect()
    }
}

/// The view of one process, watched.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    inner: Arc<dyn Storage>,
    witness: Witness,
    generation: u64,
}

impl Watched {
    /// The view of a process that begins now.
    pub(super) fn new(inner: Arc<dyn Storage>, witness: Witness) -> Self {
        let generation = witness.files.lock().generation;
        Self { inner, witness, generation }
    }

    fn file(&self, path: &Path, number: u64, inner: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        let (witness, path, generation) =
            (self.witness.clone(), path.to_path_buf(), self.generation);
        let is_failed = AtomicBool::new(false);
        Arc::new(WatchedFile { inner, witness, path, number, generation, is_failed })
    }
}

/// Who sees it, and where that is noted.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    pub(crate) who: Machine,
    pub(crate) journal: Journal,
    pub(crate) logs: Arc<Logs>,
    pub(crate) files: Files,
}

impl Witness {
    fn note(&self, fact: Fact) {
        self.journal.note(self.who, fact);
    }

    fn is_alive(&self, generation: u64) -> bool {
        self.files.lock().generation == generation
    }

    fn note_stored(&self, items: Vec<Item>) {
        let items = self.files.lock().fresh(items);
        items::facts(items, &self.logs).into_iter().for_each(|fact| self.note(fact));
    }

    /// Notes what is on a disk that this machine did not have before.
    pub(crate) fn survey(&self, disk: &Disk) {
        let is_known = std::mem::replace(&mut self.files.lock().is_surveyed, true);
        let paths = if is_known { Vec::new() } else { disk.paths() };
        if paths.is_empty() {
            return;
        }
        let (mut records, mut rest) = (Vec::new(), Vec::new());
        for path in paths {
            let Some(kind) = Kind::of(self.who, &path) else { continue };
            for item in items::held(kind, &disk.cached_file(&path).unwrap_or_default()) {
                if let Item::Kept { seq, id } = item {
                    records.push((seq, id));
                } else {
                    rest.push(item);
                }
            }
        }
        self.note(Fact::Found { records });
        self.note_stored(rest);
    }
}

impl Storage for Watched {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let inner = self.inner.create(path)?;
        let number = self.witness.files.lock().add(path, false);
        Ok(self.file(path, number, inner))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let inner = self.inner.open(path)?;
        let number = self.witness.files.lock().find(path);
        Ok(self.file(path, number, inner))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)?;
        self.witness.files.lock().rename(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)?;
        self.witness.files.lock().names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let synced = self.inner.sync_dir(dir);
        match &synced {
            Ok(()) => {
                let held = self.witness.files.lock().name_all(dir);
                self.witness.note_stored(held);
            }
            Err(_) if !self.witness.is_alive(self.generation) => {}
            Err(_) => self.witness.note(Fact::SyncFailed { what: dir.display().to_string() }),
        }
        synced
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError> {
        self.inner.lock(path)
    }
}

/// A file that is open.
#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn StorageFile>,
    witness: Witness,
    /// Its name when it was opened.
    path: PathBuf,
    number: u64,
    generation: u64,
    /// A sync failed by this descriptor: nothing may be done with it any more.
    is_failed: AtomicBool,
}

impl WatchedFile {
    fn kind(&self, state: &State) -> Option<Kind> {
        let mut names = state.names.iter();
        let (path, _) = names.find(|(_, number)| **number == self.number)?;
        Kind::of(self.witness.who, path)
    }

    fn misused(&self, how: &'static str) {
        let what = self.path.display().to_string();
        self.witness.note(Fact::Misused { what, how });
    }

    fn used(&self, how: &'static str) {
        if self.is_failed.load(Ordering::Relaxed) {
            self.misused(how);
        }
    }

    fn written(&self, bytes: &[u8], offset: u64, is_whole: bool) {
        let mut state = self.witness.files.lock();
        let kind = self.kind(&state);
        let items = kind.map(|kind| items::written(kind, bytes, offset));
        if !is_whole {
            // Some of it may stand there.
            state.doubtful.extend(items.iter().flatten().flat_map(|items| items::places(items)));
        }
        let Some(file) = state.files.get_mut(&self.number) else { return };
        let end = |bytes: usize| offset + u64::try_from(bytes).unwrap_or(u64::MAX);
        // Zeros at the end say that nothing is there.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        add(&mut file.dirty, offset..end(used));
        if is_whole {
            cut(&mut file.dropped, &(offset..end(bytes.len())));
            match items {
                Some(Some(items)) => file.pending.extend(items),
                Some(None) => file.is_unclear = true,
                None => {}
            }
        }
    }

    /// Everything that was written is stored.
    fn synced(&self) {
        let mut state = self.witness.files.lock();
        let kind = self.kind(&state);
        let Some(file) = state.files.get_mut(&self.number) else { return };
        file.dirty.clear();
        let mut items = std::mem::take(&mut file.pending);
        if std::mem::take(&mut file.is_unclear)
            && let Some(kind) = kind
        {
            items = items::held(kind, &self.content());
        }
        let is_relied_on = !file.dropped.is_empty();
        if !file.is_named {
            file.held.append(&mut items);
        }
        drop(state);
        self.witness.note_stored(items);
        if is_relied_on {
            self.misused("synced without what a failed sync had dropped");
        }
    }

    fn content(&self) -> Vec<u8> {
        let bytes = self.inner.size().ok().and_then(|size| usize::try_from(size).ok());
        let mut content = vec![0; bytes.unwrap_or(0)];
        let read = self.inner.read_at(&mut content, 0).unwrap_or(0);
        content.truncate(read);
        content
    }

    fn failed(&self) {
        self.is_failed.store(true, Ordering::Relaxed);
        let mut state = self.witness.files.lock();
        if let Some(file) = state.files.get_mut(&self.number) {
            let pending = std::mem::take(&mut file.pending);
            file.is_unclear = false;
            let dirty = std::mem::take(&mut file.dirty);
            dirty.into_iter().for_each(|range| add(&mut file.dropped, range));
            state.doubtful.extend(items::places(&pending));
        }
        drop(state);
        self.witness.note(Fact::SyncFailed { what: self.path.display().to_string() });
    }
}

impl StorageFile for WatchedFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.witness.is_alive(self.generation) {
            return self.inner.write_at(bytes, offset);
        }
        self.used("written after a failed sync");
        let written = self.inner.write_at(bytes, offset);
        self.written(bytes, offset, written.is_ok());
        written
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.witness.is_alive(self.generation) {
            return self.inner.sync_data();
        }
        self.used("synced after a failed sync");
        let synced = self.inner.sync_data();
        match &synced {
            Ok(()) => self.synced(),
            Err(_) => self.failed(),
        }
        synced
    }
}

/// Adds a range to others, as one with the last if it goes on there.
fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    if range.is_empty() {
        return;
    }
    match ranges.last_mut().filter(|last| last.end == range.start) {
        Some(last) => last.end = range.end,
        None => ranges.push(range),
    }
}

/// Takes a range out of others.
fn cut(ranges: &mut Vec<Range<u64>>, range: &Range<u64>) {
    let left = ranges
        .iter()
        .flat_map(|it| [it.start..it.end.min(range.start), it.start.max(range.end)..it.end]);
    *ranges = left.filter(|it| !it.is_empty()).collect();
}

#[cfg(test)]
mod tests;
