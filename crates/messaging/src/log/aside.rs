//! Where a buffer is put, or made, beside the place that it has: what a repair in place leaves when it
//! is cut short.
//!
//! Invariant: where there is no buffer and one beside its place, none is made: its messages would be
//! forgotten, and their numbers given again under a new id (D2, D12).

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::storage::Storage;

/// The log that can be repaired in place.
pub(super) const NAME: &str = "buffer";

/// Behind the name of a buffer: the damaged one, once its copy is to take its place.
pub(crate) const DAMAGED: &str = ".damaged";

/// Its copy, until that is whole and in its place.
pub(crate) const REPAIRING: &str = ".repairing";

/// A copy as it was called before that.
pub(crate) const REPAIRED: &str = ".repaired";

pub(crate) use super::files::LOCK;

/// The name of a directory with something behind it.
pub(crate) fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().map_or_else(|| OsString::from("buffer"), OsString::from);
    name.push(suffix);
    dir.with_file_name(name)
}

/// Whether a directory has more than the lock of who looked into it.
pub(crate) fn has_files(dir: &Path, storage: &dyn Storage) -> Result<bool, OpenError> {
    match storage.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| name != LOCK)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(OpenError::from_io("listing", dir, source)),
    }
}

/// Refuses a place that has nothing while there is something beside it.
pub(crate) fn check(dir: &Path, storage: &dyn Storage) -> Result<(), OpenError> {
    if has_files(dir, storage)? {
        return Ok(());
    }
    for suffix in [DAMAGED, REPAIRING, REPAIRED] {
        let aside = beside(dir, suffix);
        if has_files(&aside, storage)? {
            return Err(OpenError::Aside { dir: dir.to_path_buf(), aside });
        }
    }
    Ok(())
}
