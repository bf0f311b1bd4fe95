//! The reserve: a file that is given up when the disk is full (M20).
//!
//! There are two. The reserve proper, `reserve`, is space in which what is pending may still be
//! written; it is made when the first whole segment is, so that a log which is hardly used costs
//! nothing. The other, `emergency`, is a small segment written with zeros beforehand, whose only
//! entry will be a summary: with that durable, segments that nothing needs any more go, however
//! much is pending before the settlements that freed them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;
use super::writer::HASTY_SEGMENT_BYTES;
use crate::storage::{Storage, StorageFile, is_storage_full};

/// Whether space is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reserve {
    /// Not yet, or never.
    #[default]
    Unmade,
    /// It is there.
    InPlace,
    /// It was given up, or there was no space to make it.
    Missing,
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(files::RESERVE)
}

/// Looks for the reserve of an earlier start. One of another size is removed.
pub(super) fn find(storage: &dyn Storage, dir: &Path, bytes: u64) -> io::Result<Reserve> {
    let path = path(dir);
    let size = match storage.open(&path) {
        Ok(file) => file.size()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reserve::Unmade),
        Err(error) => return Err(error),
    };
    if size == bytes && bytes > 0 {
        return Ok(Reserve::InPlace);
    }
    storage.remove(&path)?;
    storage.sync_dir(dir)?;
    Ok(Reserve::Unmade)
}

/// Gives the space back; whether there was any.
pub(super) fn release(storage: &dyn Storage, dir: &Path) -> io::Result<bool> {
    match storage.remove(&path(dir)) {
        Ok(()) => storage.sync_dir(dir).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Does something at start-up, once more without the reserve when there is no space for it: a node
/// must be able to start on a full disk, or it could never make some.
pub(super) fn retrying<T>(
    storage: &dyn Storage,
    dir: &Path,
    action: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    once_more(dir, || release(storage, dir).unwrap_or(false), action)
}

/// Does something, once more when there was no space for it and `release` gives some back.
pub(super) fn once_more<T>(
    dir: &Path,
    release: impl FnOnce() -> bool,
    mut action: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match action() {
        Err(error) if is_storage_full(&error) && release() => {
            tracing::warn!(dir = %dir.display(), "no space left; the reserve is given up");
            action()
        }
        result => result,
    }
}

/// Bytes of the emergency segment.
pub(super) fn emergency_bytes(reserve_bytes: u64) -> u64 {
    (reserve_bytes / 2).min(HASTY_SEGMENT_BYTES)
}

pub(super) fn emergency_path(dir: &Path) -> PathBuf {
    dir.join(files::EMERGENCY)
}

/// Looks for the emergency segment of an earlier start.
pub(super) fn find_emergency(
    storage: &dyn Storage,
    dir: &Path,
    reserve_bytes: u64,
) -> io::Result<Option<Arc<dyn StorageFile>>> {
    let path = emergency_path(dir);
    let file = match storage.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = emergency_bytes(reserve_bytes);
    if bytes > 0 && file.size()? == bytes {
        return Ok(Some(file));
    }
    drop(file);
    storage.remove(&path)?;
    storage.sync_dir(dir)?;
    Ok(None)
}
