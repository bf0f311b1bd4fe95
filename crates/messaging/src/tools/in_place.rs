//! A repair whose copy takes the place of the damaged buffer.
//!
//! | step | its place | `.damaged` | `.repairing` |
//! |---|---|---|---|
//! | copy | damaged | – | in part, then whole |
//! | move the damaged one aside | – | damaged | whole |
//! | move the copy | copy | damaged | – |
//!
//! Invariants:
//! - Every name means one thing in every step, and each is on the disk before the next: whoever
//!   comes later knows from the names alone how far it got.
//! - What is moved, and what takes its place, is held until all of it is on the disk: nobody writes to
//!   either meanwhile. Where nothing is for a moment, nobody makes a new buffer
//!   ([`crate::log::aside`]).

use std::io;
use std::path::{Path, PathBuf};

use super::change::copy_held;
use super::look::inspect_held;
use super::{Holder, Repaired, ToolError, inspect};
use crate::log::aside::{self, DAMAGED, REPAIRED, REPAIRING, beside, has_files};
use crate::log::{self, OpenError};
use crate::storage::Storage;

/// What [`repair_in_place`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedInPlace {
    /// What was copied, and what was not.
    pub repaired: Repaired,
    /// Where the damaged buffer is now.
    pub kept: PathBuf,
    /// Whether an earlier repair had made the copy and was cut short.
    pub is_resumed: bool,
}

/// Copies a buffer as [`super::repair`] does and puts the copy in its place; the damaged one is kept
/// beside it. What cuts it short loses nothing: called again, it finishes that.
///
/// # Errors
///
/// When a process has the buffer open, there is none, an earlier one is kept beside it, or the disk
/// says no.
pub fn repair_in_place(dir: &Path, storage: &dyn Storage) -> Result<RepairedInPlace, ToolError> {
    let kept = beside(dir, DAMAGED);
    let is_kept = has_files(&kept, storage)?;
    if is_kept && !has_files(dir, storage)? {
        return finish(dir, kept, storage);
    }
    if is_kept {
        return Err(ToolError::Kept { dir: kept });
    }
    inspect(dir, storage)?;
    let _damaged = log::hold(dir, storage)?;
    let copy = beside(dir, REPAIRING);
    // A copy that was cut short, or is older than what the buffer has now.
    clear(&copy, storage)?;
    let repaired = copy_held(dir, &copy, storage)?;
    // Before it has its name: nobody may use it until that is on the disk.
    let _copy = log::hold(&copy, storage)?;
    rename(dir, &kept, storage)?;
    rename(&copy, dir, storage)?;
    Ok(RepairedInPlace { repaired, kept, is_resumed: false })
}

/// Whether there is no buffer here because a repair in place was cut short.
#[must_use]
pub fn is_cut_short(dir: &Path, storage: &dyn Storage) -> bool {
    matches!(aside::check(dir, storage), Err(OpenError::Aside { .. }))
}

/// The damaged one was moved, and its copy was not.
fn finish(dir: &Path, kept: PathBuf, storage: &dyn Storage) -> Result<RepairedInPlace, ToolError> {
    let _damaged = log::hold(&kept, storage)?;
    let from = inspect_held(&kept, storage, Holder::Nobody)?;
    for suffix in [REPAIRING, REPAIRED] {
        let copy = beside(dir, suffix);
        if !has_files(&copy, storage)? {
            continue;
        }
        let _copy = log::hold(&copy, storage)?;
        let Ok(found) = inspect_held(&copy, storage, Holder::Nobody) else {
            continue;
        };
        // The identity is written last; an operator may have put something else there.
        let is_whole = found.is_sound() && found.log_id == from.log_id && found.epoch > from.epoch;
        if !is_whole {
            continue;
        }
        // Whoever looked for a buffer there may have left a lock.
        clear(dir, storage)?;
        rename(&copy, dir, storage)?;
        let (records, unsettled) = (found.records, found.unsettled_records());
        let lost = from.lost.clone();
        let repaired = Repaired { from, records, unsettled, lost };
        return Ok(RepairedInPlace { repaired, kept, is_resumed: true });
    }
    Err(ToolError::NoCopy { dir: dir.to_path_buf(), kept })
}

/// Removes the files of a directory that nobody has, if there is one.
fn clear(dir: &Path, storage: &dyn Storage) -> Result<(), ToolError> {
    let names = match storage.list(dir) {
        Ok(names) if !names.is_empty() => names,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::from_io("listing", dir, source).into()),
    };
    let _held = log::hold(dir, storage)?;
    for name in names {
        let path = dir.join(name);
        let removed = log::remove_if_present(storage, &path);
        removed.map_err(|source| OpenError::from_io("removing", &path, source))?;
    }
    // What another one made meanwhile is an error of the next step.
    let removed = log::remove_if_present(storage, &dir.join(aside::LOCK));
    removed.map_err(|source| OpenError::from_io("removing", dir, source))?;
    storage.sync_dir(dir).map_err(|source| OpenError::from_io("syncing", dir, source))?;
    Ok(())
}

fn rename(from: &Path, to: &Path, storage: &dyn Storage) -> Result<(), ToolError> {
    storage.rename(from, to).map_err(|source| OpenError::from_io("renaming", from, source))?;
    let parent = from.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    storage.sync_dir(parent).map_err(|source| OpenError::from_io("syncing", parent, source))?;
    Ok(())
}
