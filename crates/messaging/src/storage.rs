//! The seam to the file system.
//!
//! Everything durable in this crate goes through [`Storage`] and [`StorageFile`]; the real one is
//! [`FileStorage`], the only place that touches the file system. A simulated one may lose what was
//! not synced, tear the last write, flip bits, run out of space or fail a sync: the calls are cut
//! so that each of these is the answer to one call.
//!
//! Not here: any format. Bytes go in and come out as they are.
//!
//! Invariants:
//! - M1: a name exists after a crash only once [`Storage::sync_dir`] of its directory returned.
//! - M2: bytes exist after a crash only once [`StorageFile::sync_data`] returned.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::message::LogId;

mod file;
mod workers;

pub use file::FileStorage;
pub use workers::{Offload, Pace, Workers};
pub(crate) use workers::{Worker, guarded, release_after};

/// A file system, as far as a log needs one.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Creates a directory and what is missing above it.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in `dir`, in order. Directories are not listed.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a file that does not exist yet, to read and write.
    ///
    /// # Errors
    ///
    /// What the file system says; `AlreadyExists` when it does.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file that exists, to read and write.
    ///
    /// # Errors
    ///
    /// What the file system says; `NotFound` when it does not exist.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file that exists, to read it only: for tools that look at what is not theirs.
    ///
    /// # Errors
    ///
    /// What the file system says; `NotFound` when it does not exist.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.open(path)
    }

    /// Renames a file over whatever has the new name; a directory only to a name that is free, or
    /// that of an empty one.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in `dir` survive a crash.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock of a directory, held until the value is dropped or the process ends.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] when another holder exists.
    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError>;

    /// Whether the lock of a directory could be taken, without keeping it.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] when a holder exists.
    fn probe_lock(&self, path: &Path) -> Result<(), LockError> {
        self.lock(path).map(drop)
    }

    /// Who does work that waits for it.
    fn workers(&self) -> Workers {
        Workers::Threads
    }

    /// The id of a new log: random, so that no other log ever has it.
    fn mint_log_id(&self) -> LogId {
        LogId::new(uuid::Uuid::new_v4().into_bytes())
    }
}

/// An open file with positioned reads and writes.
pub trait StorageFile: fmt::Debug + Send + Sync + 'static {
    /// How many bytes it has.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn size(&self) -> io::Result<u64>;

    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    ///
    /// What the file system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file when needed.
    ///
    /// # Errors
    ///
    /// What the file system says; part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content survive a crash, and the size as far as it is needed to read it.
    ///
    /// # Errors
    ///
    /// What the file system says. It must not be tried again on the same file: the cache may be
    /// clean already.
    fn sync_data(&self) -> io::Result<()>;
}

/// A lock that is held while the value lives.
pub trait StorageLock: fmt::Debug + Send + Sync + 'static {}

/// A lock that could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process (or another value in this one) holds it.
    #[error("held by another process")]
    Held {
        /// Its process id, when it left one.
        pid: Option<u32>,
    },
    /// The lock file cannot be opened.
    #[error("the lock file cannot be used")]
    Io(#[source] io::Error),
}

/// Whether the file system is out of space or quota: backpressure, not corruption.
#[must_use]
pub fn is_storage_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
