//! A file system in memory, behind the seam of `messaging::storage`, that fails on command.
//!
//! A [`Disk`] is the device; [`Disk::mount`] is the view of one process on it. A crash ends every
//! mount there is, decides what of the unsynced writes survived, and lets the next mount begin.
//!
//! Not here: directories as files of their own (they exist as soon as they are created), renames
//! from one directory to another, and links.
//!
//! Invariants:
//! - K1: what a sync confirmed survives every crash: bytes and length by `sync_data` of the file,
//!   names by `sync_dir` of the directory.
//! - K2: what was not synced may survive in any part and any order, as the seed says: whole writes,
//!   512-byte sectors of them, the beginning of a sector, a length without its bytes, a later name
//!   without an earlier one. Bytes that were not written never change by it.
//! - K3: after a failed sync the file is clean: what it should have stored stays readable until the
//!   power fails, also to the next process, and is never stored unless it is written once more,
//!   whatever later syncs answer.
//! - K4: after a crash an old mount answers nothing but errors.
//! - K5: the same seed and the same calls in the same order give the same bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_messaging::Storage;

mod mount;
mod names;
mod node;
mod state;

use mount::Mount;
use state::State;

pub use node::SECTOR_BYTES;

/// How a process and its machine end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crash {
    /// The process is killed: everything written stays in the cache, and still unsynced; after a
    /// failed sync it stays there and is not even that (K3).
    Kill,
    /// The power fails, and nothing unsynced was stored.
    Lose,
    /// The power fails, and anything unsynced may have been stored in part (K2).
    Tear,
}

impl Crash {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Kill, Self::Lose, Self::Tear];
}

/// What a storage call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `create_dir_all`.
    CreateDir,
    /// `list`.
    List,
    /// `create`.
    Create,
    /// `open`.
    Open,
    /// `rename`; the path is the new one.
    Rename,
    /// `remove`.
    Remove,
    /// `sync_dir`.
    SyncDir,
    /// `lock`.
    Lock,
    /// `size`.
    Size,
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `sync_data`.
    SyncData,
}

/// A storage call that is about to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// How many calls there were, this one included.
    pub number: u64,
    /// What it is.
    pub operation: Operation,
    /// On which file or directory.
    pub path: PathBuf,
}

/// What a fault of the disk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// A sync of a file failed.
    SyncFailed,
    /// A sync of a directory failed.
    DirSyncFailed,
    /// A write found no room.
    NoRoom,
    /// Of what was unsynced in a file a part was stored, and a part was not, when the power failed.
    Torn,
}

/// Who is told of all [`Harm`] as it happens. It must not use the disk.
pub type Witness = Arc<dyn Fn(Harm) + Send + Sync>;

/// What is called before each storage call, without any lock held: to delay it, to block it until
/// a test goes on, or to write it down.
pub type Hook = Arc<dyn Fn(&Call) + Send + Sync>;

/// The files of a disk with what of them is stored.
pub type Image = BTreeMap<PathBuf, Vec<u8>>;

/// The device. Clones are the same one.
#[derive(Clone)]
pub struct Disk {
    device: Arc<Device>,
}

struct Device {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

impl Device {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hook(&self) -> Option<Hook> {
        self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.device.fmt(f)
    }
}

impl Disk {
    /// An empty disk whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            device: Arc::new(Device {
                state: Mutex::new(State::new(seed)),
                hook: Mutex::new(None),
            }),
        }
    }

    /// A disk with files that are stored already.
    #[must_use]
    pub fn from_image(seed: u64, image: &Image) -> Self {
        let this = Self::new(seed);
        for (path, bytes) in image {
            this.store_file(path, bytes.clone());
        }
        this
    }

    /// The view of a process that starts now. It answers until the next crash (K4).
    #[must_use]
    pub fn mount(&self) -> Arc<dyn Storage> {
        let generation = self.device.state().generation;
        Arc::new(Mount::new(Arc::clone(&self.device), generation))
    }

    /// Ends every mount, decides what survives, and heals: no fault outlives it but the bound of
    /// space, and calls are counted from 0 again.
    pub fn crash(&self, crash: Crash) {
        self.device.state().crash(crash);
    }

    /// Lets the `call`-th storage call from now, and every later one, fail until
    /// [`Disk::crash`]. Whether that call itself still has its effect is up to the seed.
    pub fn crash_at(&self, call: u64) {
        let mut state = self.device.state();
        state.crash_at = Some(state.calls + call.max(1));
    }

    /// After `skip` more calls of `sync_data`, lets the power fail in the middle of one: it and every
    /// later call fail until [`Disk::crash`], which decides what was stored of it.
    pub fn crash_in_sync(&self, skip: u64) {
        let mut state = self.device.state();
        state.crash_in_sync = Some(state.syncs.done.saturating_add(skip));
    }

    /// Takes [`Disk::crash_at`] back; returns how many calls were left.
    pub fn disarm(&self) -> Option<u64> {
        let mut state = self.device.state();
        let call = state.crash_at.take()?;
        Some(call.saturating_sub(state.calls))
    }

    /// Whether the call of [`Disk::crash_at`] was reached.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.device.state().is_down
    }

    /// Storage calls since the last crash.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.device.state().calls
    }

    /// Calls of `sync_data` since the last crash.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.device.state().syncs.done
    }

    /// Calls of `sync_dir` since the last crash.
    #[must_use]
    pub fn dir_syncs(&self) -> u64 {
        self.device.state().dir_syncs.done
    }

    /// After `skip` more calls of `sync_data`, lets `count` of them fail (K3).
    pub fn fail_syncs(&self, skip: u64, count: u64) {
        self.device.state().syncs.fail(skip, count);
    }

    /// After `skip` more calls of `sync_dir`, lets `count` of them fail. The names stay unsynced.
    pub fn fail_dir_syncs(&self, skip: u64, count: u64) {
        self.device.state().dir_syncs.fail(skip, count);
    }

    /// Writes and syncs of files after one of their syncs failed: a promise broken by the caller
    /// (D11), which K3 makes lose data.
    #[must_use]
    pub fn uses_after_failed_sync(&self) -> u64 {
        self.device.state().uses_after_failed_sync
    }

    /// Bounds the bytes of all files; `None` is without bound. What does not fit is written in
    /// part and answered with `StorageFull`.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.device.state().space = bytes;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.device.state().used_bytes()
    }

    /// Names who is called before each storage call; `None` for nobody.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.device.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Names who is told of all harm; `None` for nobody.
    pub fn set_witness(&self, witness: Option<Witness>) {
        self.device.state().witness = witness;
    }

    /// The files and what is stored of them: as after [`Crash::Lose`], without crashing.
    #[must_use]
    pub fn image(&self) -> Image {
        self.device.state().image()
    }

    /// What a process reads in a file now, stored or not. `None` when there is no such file.
    #[must_use]
    pub fn cached_file(&self, path: &Path) -> Option<Vec<u8>> {
        self.device.state().cached_file(path)
    }

    /// The files that a process sees now.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.device.state().paths()
    }

    /// Puts a file there, stored, whatever was there.
    pub fn store_file(&self, path: &Path, bytes: Vec<u8>) {
        self.device.state().store_file(path, bytes);
    }

    /// Flips one bit of a file: in the cache, where it is stored and on its way there. `false` when
    /// there is no such bit.
    #[must_use]
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u8) -> bool {
        self.device.state().flip_bit(path, offset, bit)
    }
}
