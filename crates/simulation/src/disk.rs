//! The disk of one machine: testkit's, with a pace in virtual time, and with the bugs that are
//! planted in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_messaging::storage::{LockError, Pace, Storage, StorageFile, StorageLock, Workers};
use alys_stream_protocol::message::LogId;
use alys_stream_testkit::disk::Disk;
use fastrand::Rng;

use crate::fault::Kind;
use crate::planted::Planted;
use crate::strikes::Place;

/// How long work with files takes.
#[derive(Debug)]
pub(crate) struct DiskPace {
    rng: Mutex<Rng>,
    most_us: AtomicU64,
    place: Place,
}

/// The longest that one piece of work takes on a disk that is well.
const WELL_US: u64 = 3_000;

impl DiskPace {
    pub(crate) fn new(seed: u64, place: Place) -> Self {
        Self { rng: Mutex::new(Rng::with_seed(seed)), most_us: AtomicU64::new(WELL_US), place }
    }

    /// Lets work take up to so long; `None` for a disk that is well.
    pub(crate) fn set(&self, most: Option<Duration>) {
        let most = most.map_or(WELL_US, |most| u64::try_from(most.as_micros()).unwrap_or(WELL_US));
        self.most_us.store(most, Ordering::Relaxed);
    }
}

impl Pace for DiskPace {
    fn next(&self) -> Duration {
        let most = self.most_us.load(Ordering::Relaxed);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = rng.u64(20..=most);
        if micros > WELL_US {
            self.place.strike(Kind::SlowDisk);
        }
        Duration::from_micros(micros)
    }
}

/// The file system of one life of a machine.
#[derive(Debug)]
pub(crate) struct SimStorage {
    inner: Arc<dyn Storage>,
    pace: Arc<DiskPace>,
    ids: Mutex<Rng>,
    /// For a bug that hides a file: whether it is this life that does.
    is_hiding: bool,
    is_node: bool,
    planted: Option<Planted>,
    /// Uses of files after a sync of them failed, in all lives.
    misused: Arc<AtomicU64>,
}

impl SimStorage {
    /// The disk as the so-manieth life of a machine sees it.
    pub(crate) fn new(
        disk: &Disk,
        pace: Arc<DiskPace>,
        (seed, life): (u64, u64),
        (is_node, planted): (bool, Option<Planted>),
        misused: &Arc<AtomicU64>,
    ) -> Arc<Self> {
        let is_hiding = life > 1 && planted == Some(Planted::ForgetToReplay) && is_node;
        let ids = Mutex::new(Rng::with_seed(seed ^ life.rotate_left(17)));
        let misused = Arc::clone(misused);
        Arc::new(Self { inner: disk.mount(), pace, ids, is_hiding, is_node, planted, misused })
    }

    fn file(&self, path: &Path, inner: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        let is_in = |name: &str| path.components().any(|part| part.as_os_str() == name);
        let syncs = match self.planted {
            Some(Planted::AckBeforeFsync) if self.is_node && is_in("buffer") => Syncs::Never,
            Some(Planted::SettleUnstored | Planted::DedupWindow)
                if !self.is_node && is_in("inbox") =>
            {
                Syncs::Never
            }
            Some(Planted::RetryFsync) if self.is_node => Syncs::Again,
            _ => Syncs::Honest,
        };
        let (path, is_failed) = (path.to_path_buf(), AtomicBool::new(false));
        let misused = Arc::clone(&self.misused);
        Arc::new(SimFile { inner, syncs, path, is_failed, misused })
    }
}

impl Storage for SimStorage {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = self.inner.list(dir)?;
        if self.is_hiding && dir.ends_with("buffer") {
            let is_segment = |name: &String| name.ends_with(".segment");
            if names.iter().filter(|name| is_segment(name)).count() > 1
                && let Some(oldest) = names.iter().position(is_segment)
            {
                names.remove(oldest);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(path, self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(path, self.inner.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError> {
        self.inner.lock(path)
    }

    fn workers(&self) -> Workers {
        Workers::Tasks(Arc::<DiskPace>::clone(&self.pace))
    }

    fn mint_log_id(&self) -> LogId {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        LogId::new(ids.u128(..).to_le_bytes())
    }
}

#[derive(Debug, Clone, Copy)]
enum Syncs {
    Honest,
    Never,
    Again,
}

/// A file; its syncs may not be what they should be.
#[derive(Debug)]
struct SimFile {
    inner: Arc<dyn StorageFile>,
    syncs: Syncs,
    path: PathBuf,
    /// A sync of it failed.
    is_failed: AtomicBool,
    misused: Arc<AtomicU64>,
}

impl SimFile {
    fn used(&self, how: &str) {
        if self.is_failed.load(Ordering::Relaxed) {
            self.misused.fetch_add(1, Ordering::Relaxed);
            tracing::error!(path = %self.path.display(), how, "used after a failed sync (D11)");
        }
    }
}

impl StorageFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.used("written");
        self.inner.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.used("synced");
        let synced = match self.syncs {
            Syncs::Honest => self.inner.sync_data(),
            Syncs::Never => Ok(()),
            Syncs::Again => self.inner.sync_data().or_else(|_| {
                self.is_failed.store(true, Ordering::Relaxed);
                self.used("synced");
                self.inner.sync_data()
            }),
        };
        if synced.is_err() {
            self.is_failed.store(true, Ordering::Relaxed);
        }
        synced
    }
}
