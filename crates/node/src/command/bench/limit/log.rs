//! A bare log: one thread, one file that was written before, one `fdatasync` for everything that
//! came while the last one ran.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::failure::Failure;

/// Bytes of the file; then it is written from the beginning again.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of one write while the file is prepared.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A log of entries of type `T`.
pub(super) struct GroupLog<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for GroupLog<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<T> {
    pending: Mutex<Pending<T>>,
    work: Condvar,
    syncs: AtomicU64,
}

struct Pending<T> {
    bytes: Vec<u8>,
    entries: Vec<T>,
    group: Arc<Group>,
}

/// What is made durable together.
#[derive(Debug, Default)]
pub(super) struct Group {
    is_durable: AtomicBool,
    waiting: Notify,
}

impl Group {
    /// Waits until it is on stable storage.
    pub(super) async fn durable(&self) {
        let notified = self.waiting.notified();
        let mut notified = std::pin::pin!(notified);
        notified.as_mut().enable();
        if !self.is_durable.load(Ordering::Acquire) {
            notified.await;
        }
    }

    fn publish(&self) {
        self.is_durable.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }
}

impl<T: Send + 'static> GroupLog<T> {
    /// Makes the file, or does without one; `durable` is given what became durable, in order.
    ///
    /// # Errors
    ///
    /// When the disk says no.
    pub(super) fn create(
        path: Option<&Path>,
        mut durable: impl FnMut(Vec<T>) + Send + 'static,
    ) -> Result<Self, Failure> {
        let file = path.map(prepared).transpose()?;
        let shared = Arc::new(Shared {
            pending: Mutex::new(Pending {
                bytes: Vec::new(),
                entries: Vec::new(),
                group: Arc::default(),
            }),
            work: Condvar::new(),
            syncs: AtomicU64::new(0),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("bare-log".to_owned())
            .spawn(move || writer.write(file, &mut durable))
            .map_err(|error| Failure::other(format_args!("a thread for the bare log: {error}")))?;
        Ok(Self { shared })
    }

    /// Appends what `fill` writes; entries are in the order of these calls.
    pub(super) fn append(&self, fill: impl FnOnce(&mut Vec<u8>, &mut Vec<T>)) -> Arc<Group> {
        let mut pending = lock(&self.shared.pending);
        let Pending { bytes, entries, .. } = &mut *pending;
        let is_first = entries.is_empty();
        fill(bytes, entries);
        let group = Arc::clone(&pending.group);
        drop(pending);
        if is_first {
            self.shared.work.notify_one();
        }
        group
    }

    /// How often it synced.
    pub(super) fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }
}

impl<T> Shared<T> {
    fn write(&self, file: Option<File>, durable: &mut impl FnMut(Vec<T>)) {
        let (mut at, mut bytes) = (0, Vec::new());
        loop {
            let mut pending = lock(&self.pending);
            while pending.entries.is_empty() {
                pending = self.work.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            bytes.clear();
            std::mem::swap(&mut bytes, &mut pending.bytes);
            let entries = std::mem::take(&mut pending.entries);
            let group = std::mem::take(&mut pending.group);
            drop(pending);
            if let Some(file) = &file
                && let Err(error) = commit(file, &mut at, &bytes)
            {
                // Whoever waits for it is never told; the measurement ends with its timeout.
                crate::output::note(format_args!("the bare log: {error}"));
                return;
            }
            self.syncs.fetch_add(1, Ordering::Relaxed);
            durable(entries);
            group.publish();
        }
    }
}

fn commit(file: &File, at: &mut u64, bytes: &[u8]) -> io::Result<()> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if *at + length > FILE_BYTES {
        *at = 0;
    }
    file.write_all_at(bytes, *at)?;
    *at += length;
    file.sync_data()
}

/// A file whose every block was written before, so that a sync has no metadata to write.
fn prepared(path: &Path) -> Result<File, Failure> {
    let failed = |error| Failure::file("write", path, &error);
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(failed)?;
    let zeroes = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < FILE_BYTES {
        file.write_all_at(&zeroes, at).map_err(failed)?;
        at += u64::try_from(CHUNK_BYTES).unwrap_or(FILE_BYTES);
    }
    file.sync_all().map_err(failed)?;
    Ok(file)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
