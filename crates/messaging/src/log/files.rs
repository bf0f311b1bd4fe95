//! Names of the files of a log, and how they are created so that they survive a crash.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::SegmentId;
use crate::storage::{Storage, StorageFile};

pub(super) const IDENTITY: &str = "identity";
pub(crate) const LOCK: &str = "lock";
pub(super) const RESERVE: &str = "reserve";
pub(super) const EMERGENCY: &str = "emergency";
pub(super) const LINEAGE: &str = "lineage";
pub(super) const MARK: &str = "mark";
/// Empty, and there from when a log begins to be opened until it is.
pub(super) const STARTING: &str = "starting";
const SEGMENT_SUFFIX: &str = ".segment";
const TEMPORARY_SUFFIX: &str = ".tmp";
const QUARANTINE_SUFFIX: &str = ".quarantine";

/// Zeros are written and synced in pieces of this size: closing never waits for a whole segment, and
/// a sync of another file waits, in the journal of the file system, for no more than a piece.
const ZERO_BYTES: usize = 2 * 1024 * 1024;

/// That many zeros, which nobody writes: so they stay the page of zeros that the system has, and take
/// no memory. A buffer for each file was cleared by the allocator, and stayed resident.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; ZERO_BYTES]);

pub(crate) fn segment_path(dir: &Path, segment: SegmentId) -> PathBuf {
    dir.join(format!("{segment}{SEGMENT_SUFFIX}"))
}

pub(super) fn segment_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    if digits.len() != 16 {
        return None;
    }
    let number = u64::from_str_radix(digits, 16).ok()?;
    (number <= super::format::NUMBER_MAX).then_some(SegmentId(number))
}

/// Where the bytes of a damaged stretch are kept.
pub(super) fn quarantine_path(dir: &Path, segment: SegmentId, offset: u64) -> PathBuf {
    dir.join(format!("{segment}-{offset:08x}{QUARANTINE_SUFFIX}"))
}

pub(super) fn is_quarantine(name: &str) -> bool {
    name.ends_with(QUARANTINE_SUFFIX)
}

/// Whether a file means nothing to the next start.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY_SUFFIX)
}

pub(super) fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}

/// Creates a file of zeros under a temporary name and gives it its name once it is whole.
/// Stops with `Interrupted` when `is_cancelled` says so.
pub(super) fn create_zeroed(
    storage: &dyn Storage,
    path: &Path,
    bytes: u64,
    is_cancelled: &dyn Fn() -> bool,
) -> io::Result<Arc<dyn StorageFile>> {
    replace_with(storage, path, |file| fill_zeros(file, 0..bytes, is_cancelled))
}

/// Writes a file under a temporary name and gives it its name once it is whole, in place of what
/// has that name: after a crash it is the old one or the new one.
pub(crate) fn replace_with(
    storage: &dyn Storage,
    path: &Path,
    write: impl FnOnce(&dyn StorageFile) -> io::Result<()>,
) -> io::Result<Arc<dyn StorageFile>> {
    let temporary = temporary_path(path);
    remove_if_present(storage, &temporary)?;
    let file = storage.create(&temporary)?;
    if let Err(error) = write(&*file).and_then(|()| file.sync_data()) {
        // Space is given back at once; what cannot be removed is removed at the next start.
        if let Err(error) = storage.remove(&temporary) {
            tracing::debug!(%error, "a temporary file remains until the next start");
        }
        return Err(error);
    }
    storage.rename(&temporary, path)?;
    sync_parent(storage, path)?;
    Ok(file)
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_present(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes zeros, and syncs all but the last of them.
pub(super) fn fill_zeros(
    file: &dyn StorageFile,
    range: Range<u64>,
    is_cancelled: &dyn Fn() -> bool,
) -> io::Result<()> {
    let Range { start: mut offset, end } = range;
    while offset < end {
        if is_cancelled() {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        let piece = usize::try_from(end - offset).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
        file.write_at(ZEROS.get(..piece).unwrap_or_default(), offset)?;
        offset += u64::try_from(piece).unwrap_or(0);
        if offset < end {
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Replaces a small file, as [`replace_with`] does.
pub(super) fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(storage, path, |file| file.write_at(bytes, 0)).map(drop)
}

pub(super) fn sync_parent(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| storage.sync_dir(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_are_read_back_and_others_are_not() {
        let path = segment_path(Path::new("d"), SegmentId(0x1f));
        assert_eq!(path, Path::new("d/000000000000001f.segment"));
        assert_eq!(segment_of("000000000000001f.segment"), Some(SegmentId(0x1f)));
        for name in
            ["1f.segment", "000000000000001f.segment.tmp", "identity", "zzzzzzzzzzzzzzzz.segment"]
        {
            assert_eq!(segment_of(name), None, "{name}");
        }
    }
}
