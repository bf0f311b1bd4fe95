//! Tools that write: into a new directory, or a new identity.

use std::path::Path;

use alys_stream_protocol::message::{Epoch, LogId, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use super::look::inspect_held;
use super::{Holder, Inspection, ToolError, inspect};
use crate::buffer::{self, KIND_RECORD};
use crate::log::{self, OpenError, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SegmentCopier};
use crate::record;
use crate::storage::Storage;

/// What [`repair`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What the old directory holds, and what of it is damaged.
    pub from: Inspection,
    /// Records that were copied, settled ones included.
    pub records: u64,
    /// Of these, unsettled ones.
    pub unsettled: u64,
    /// Unsettled messages that could not be read. In the copy they count as settled: nobody can
    /// send them any more.
    pub lost: SeqSet,
}

/// What [`adopt`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    /// The id that the log had.
    pub former: LogId,
    /// The id that it has.
    pub log_id: LogId,
    /// The epoch that was begun by it.
    pub epoch: Epoch,
    /// Messages that will be sent under the new id.
    pub unsettled: u64,
    /// The seq that the next accepted message gets.
    pub next_seq: Seq,
}

/// Copies every valid record of the buffer in `from` into a new directory `to`, and changes nothing
/// in `from`. The copy is the same log: same id, same seqs, the same messages unsettled, in a later
/// epoch, so that the old directory is fenced once the copy was in use (D12).
///
/// # Errors
///
/// When a process has `from` open, there is no buffer, `to` has files, or the disk says no. What
/// was written of `to` is then left behind, and is not taken for a buffer.
pub fn repair(from: &Path, to: &Path, storage: &dyn Storage) -> Result<Repaired, ToolError> {
    // Not even the lock file is to be made where nothing is.
    inspect(from, storage)?;
    let _lock = log::hold(from, storage)?;
    copy_held(from, to, storage)
}

/// As [`repair`], for one who holds `from`.
pub(super) fn copy_held(
    from: &Path,
    to: &Path,
    storage: &dyn Storage,
) -> Result<Repaired, ToolError> {
    let nothing = || ToolError::NotABuffer { dir: from.to_path_buf() };
    storage.create_dir_all(to).map_err(|source| OpenError::from_io("creating", to, source))?;
    let names = storage.list(to).map_err(|source| OpenError::from_io("listing", to, source))?;
    if !names.is_empty() {
        return Err(ToolError::NotEmpty { dir: to.to_path_buf() });
    }
    let inspection = inspect_held(from, storage, Holder::Nobody)?;
    let summary = buffer::inspect(from, storage, &mut |_, _, _| {})?.ok_or_else(nothing)?;
    let identity = (inspection.log_id, Epoch(inspection.epoch.0 + 1));
    let checkpoint = summary.checkpoint_without_lost.clone();
    // As large as they were.
    let largest = inspection.segments.iter().map(|segment| segment.file_bytes).max();
    let segment_bytes = largest.unwrap_or(0).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    let mut copier = SegmentCopier::new(storage, to, identity, checkpoint, segment_bytes);
    let mut records = 0;
    let mut failed = None;
    buffer::inspect(from, storage, &mut |seq, _, payload| {
        if failed.is_some() || record::decode_meta(seq, payload).is_none() {
            return;
        }
        match copier.push(KIND_RECORD, seq.0, payload) {
            Ok(()) => records += 1,
            Err(error) => failed = Some(error),
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    buffer::copy_ids(from, to, storage, &summary.looked.log_ids)
        .and_then(|()| {
            buffer::copy_repaired_openings(from, to, storage, identity, inspection.next_seq)
        })
        .map_err(|source| OpenError::from_io("copying ids and openings to", to, source))?;
    copier.finish(inspection.next_seq.0)?;
    let (unsettled, lost) = (inspection.unsettled_records(), inspection.lost.clone());
    Ok(Repaired { from: inspection, records, unsettled, lost })
}

/// Gives the buffer in a directory a new `log_id`: for a restored copy, which must not go on under
/// the id whose later messages governance has seen (D12). What is unsettled stays so and will be
/// sent under the new id, which means that what had been delivered after the copy was made is
/// delivered again. Atomic: after a crash it is adopted or as it was.
///
/// # Errors
///
/// When a process has the directory open, there is no buffer, or the disk says no.
pub fn adopt(dir: &Path, storage: &dyn Storage) -> Result<Adopted, ToolError> {
    let nothing = || ToolError::NotABuffer { dir: dir.to_path_buf() };
    inspect(dir, storage)?;
    let _lock = log::hold(dir, storage)?;
    let found = buffer::inspect(dir, storage, &mut |_, _, _| {})?.ok_or_else(nothing)?;
    let (log_id, epoch) =
        log::adopt(dir, storage, &found.looked, &found.checkpoint)?.ok_or_else(nothing)?;
    Ok(Adopted {
        former: found.looked.log_id,
        log_id,
        epoch,
        unsettled: found.unsettled.iter().map(|stat| stat.records).sum(),
        next_seq: found.next_seq,
    })
}
