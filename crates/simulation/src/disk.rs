//! The disk of one machine: testkit's, watched (`watch`), with the bugs that are planted in it
//! (`spoilt`), and with a pace in virtual time.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_messaging::storage::{LockError, Pace, Storage, StorageFile, StorageLock, Workers};
use alys_stream_protocol::message::LogId;
use alys_stream_testkit::disk::Disk;
use fastrand::Rng;

use crate::fault::Kind;
use crate::planted::Planted;
use crate::strikes::Place;

mod items;
mod spoilt;
mod watch;

pub(crate) use items::letters;
use spoilt::Spoilt;
use watch::Watched;
pub(crate) use watch::{Files, Witness};

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
}

impl SimStorage {
    /// The disk as the so-manieth life of a machine sees it.
    pub(crate) fn new(
        disk: &Disk,
        witness: Witness,
        pace: Arc<DiskPace>,
        (seed, life): (u64, u64),
        planted: Option<Planted>,
    ) -> Arc<Self> {
        let who = witness.who;
        let watched = Arc::new(Watched::new(disk.mount(), witness));
        let inner = match planted {
            Some(bug) => Arc::new(Spoilt::new(watched, bug, who, life)),
            None => watched as Arc<dyn Storage>,
        };
        let ids = Mutex::new(Rng::with_seed(seed ^ life.rotate_left(17)));
        Arc::new(Self { inner, pace, ids })
    }
}

impl Storage for SimStorage {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.inner.open(path)
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
