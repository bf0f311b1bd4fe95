//! Gives a log a new id: a restored copy must not go on under the id whose later entries others
//! have seen (D12).
//!
//! Four durable steps, in this order: the end of the log is stored again, since it is the newest
//! segment for the last time; the lineage names the former ids and the new one; a segment
//! begins under the new id, with a summary of everything before it; the identity says the new id.
//! The last step decides: before it the log is the old one, with an empty segment more.

use std::collections::BTreeSet;
use std::path::Path;

use alys_stream_protocol::message::{Epoch, LogId};

use super::directory::{Access, Directory, Place};
use super::format::{Identity, SegmentHeader};
use super::reader::store_again;
use super::recover;
use super::writer::{HASTY_SEGMENT_BYTES, made_before, write_start};
use super::{Looked, OpenError, files, lineage};
use crate::storage::Storage;

/// Gives the log in a directory, which the caller holds, a new id. `looked` is what it was found to
/// be, `checkpoint` the parts of the summary of all it holds. `Ok(None)` when there is no log.
pub(crate) fn adopt(
    dir: &Path,
    storage: &dyn Storage,
    looked: &Looked,
    checkpoint: &[Vec<u8>],
) -> Result<Option<(LogId, Epoch)>, OpenError> {
    let place = Place { storage, dir, access: Access::Own };
    let directory = Directory::read(place)?;
    let newest = directory.newest_header();
    let Some(known) = directory.identity.or(newest) else {
        return Ok(None);
    };
    let last_epoch = newest.map_or(known.epoch, |newest| newest.epoch.max(known.epoch));
    if let (Some(newest), Some(end)) = (directory.segments.last(), looked.segments.last()) {
        debug_assert_eq!(newest.header.segment, end.segment, "invariant: the caller holds it");
        recover::begin_start(storage, dir, &directory)?;
        store_again(place, newest, newest.is_header_torn(), 0..end.used_bytes)?;
    }
    let log_id = storage.mint_log_id();
    let epoch = Epoch(last_epoch.0 + 1);

    let mut ids: BTreeSet<LogId> =
        directory.segments.iter().map(|found| found.header.log_id).collect();
    ids.extend([known.log_id, log_id]);
    lineage::write(place, &ids)?;

    let first_position = looked.next_position;
    let header = SegmentHeader { log_id, segment: directory.next_segment(), epoch, first_position };
    let path = files::segment_path(dir, header.segment);
    files::create_zeroed(storage, &path, HASTY_SEGMENT_BYTES, &|| false)
        .and_then(|file| {
            write_start(&*file, &header, made_before(checkpoint))?;
            file.sync_data()
        })
        .map_err(|source| OpenError::from_io("writing", &path, source))?;

    let path = dir.join(files::IDENTITY);
    files::replace(storage, &path, &Identity { log_id, epoch }.encode())
        .map_err(|source| OpenError::from_io("writing", &path, source))?;
    Ok(Some((log_id, epoch)))
}
