//! Writes entries into the segments of a new directory, under the id of an existing log.
//!
//! Nothing there looks like a segment until [`SegmentCopier::finish`] gives every file its name,
//! the newest first: a copy that was cut short is an empty directory or one with reported gaps,
//! never a whole one with less in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream_protocol::message::{Epoch, LogId};

use super::format::{self, EntryHeader, Identity, Mark, SegmentHeader};
use super::writer::{made_before, to_u64, write_start};
use super::{BATCH_BYTES_MAX, OpenError, Position, SegmentId, files};
use crate::storage::{Storage, StorageFile};

#[derive(Debug)]
struct Part {
    segment: SegmentId,
    salt: u32,
    file: Arc<dyn StorageFile>,
    offset: u64,
}

/// Copies entries one by one.
pub(crate) struct SegmentCopier<'a> {
    storage: &'a dyn Storage,
    dir: &'a Path,
    identity: Identity,
    /// What every segment begins with: the parts of a summary.
    checkpoint: Vec<Vec<u8>>,
    segment_bytes: u64,
    next_position: Position,
    batch: Vec<u8>,
    part: Option<Part>,
    written: Vec<(PathBuf, PathBuf)>,
}

impl<'a> SegmentCopier<'a> {
    pub(crate) const fn new(
        storage: &'a dyn Storage,
        dir: &'a Path,
        (log_id, epoch): (LogId, Epoch),
        checkpoint: Vec<Vec<u8>>,
        segment_bytes: u64,
    ) -> Self {
        Self {
            storage,
            dir,
            identity: Identity { log_id, epoch },
            checkpoint,
            segment_bytes,
            next_position: Position(1),
            batch: Vec::new(),
            part: None,
            written: Vec::new(),
        }
    }

    /// Copies one entry; its position is a new one.
    pub(crate) fn push(&mut self, kind: u8, key: u64, payload: &[u8]) -> Result<(), OpenError> {
        let stored = to_u64(format::stored_bytes(payload.len()));
        let used = self.part.as_ref().map_or(0, |part| part.offset) + to_u64(self.batch.len());
        if self.part.is_none() || used + stored > self.segment_bytes {
            self.end_part()?;
            self.begin_part()?;
        }
        let Some(salt) = self.part.as_ref().map(|part| part.salt) else {
            return Ok(());
        };
        let at = self.batch.len();
        let position = self.next_position;
        self.next_position = Position(position.0 + 1);
        EntryHeader::begin(&mut self.batch, kind, position, key, |out| {
            out.extend_from_slice(payload);
        });
        if let Some(entry) = self.batch.get_mut(at..) {
            // Nothing of a copy counts before all of it is durable.
            format::seal_entry(entry, payload.len(), salt, false);
        }
        if self.batch.len() >= BATCH_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Gives all files their names and the directory its mark and identity.
    pub(crate) fn finish(mut self, next_key: u64) -> Result<(), OpenError> {
        if self.part.is_none() {
            self.begin_part()?;
        }
        let mark = self.end_part()?.map(|part| Mark {
            log_id: self.identity.log_id,
            segment: part.segment,
            next_position: self.next_position,
            next_key,
            offset: u32::try_from(part.offset).unwrap_or(u32::MAX),
        });
        for (temporary, path) in self.written.iter().rev() {
            self.storage
                .rename(temporary, path)
                .map_err(|source| OpenError::from_io("renaming", path, source))?;
        }
        self.storage
            .sync_dir(self.dir)
            .map_err(|source| OpenError::from_io("syncing", self.dir, source))?;
        if let Some(mark) = mark {
            self.replace(files::MARK, &mark.encode())?;
        }
        self.replace(files::IDENTITY, &self.identity.encode())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), OpenError> {
        let path = self.dir.join(name);
        files::replace(self.storage, &path, bytes)
            .map_err(|source| OpenError::from_io("writing", &path, source))
    }

    fn begin_part(&mut self) -> Result<(), OpenError> {
        let segment = SegmentId(to_u64(self.written.len()) + 1);
        let path = files::segment_path(self.dir, segment);
        let temporary = files::temporary_path(&path);
        let header = SegmentHeader {
            log_id: self.identity.log_id,
            segment,
            epoch: self.identity.epoch,
            first_position: self.next_position,
        };
        let begin = || {
            let file = self.storage.create(&temporary)?;
            let offset = write_start(&*file, &header, made_before(&self.checkpoint))?;
            Ok((file, offset))
        };
        let (file, offset) =
            begin().map_err(|source| OpenError::from_io("writing", &temporary, source))?;
        self.part = Some(Part { segment, salt: header.salt(), file, offset });
        self.written.push((temporary, path));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OpenError> {
        if let Some(part) = &mut self.part {
            part.file.write_at(&self.batch, part.offset).map_err(|source| {
                OpenError::from_io("writing", &files::segment_path(self.dir, part.segment), source)
            })?;
            part.offset += to_u64(self.batch.len());
            self.batch.clear();
        }
        Ok(())
    }

    fn end_part(&mut self) -> Result<Option<Part>, OpenError> {
        self.flush()?;
        let part = self.part.take();
        if let Some(part) = &part {
            part.file.sync_data().map_err(|source| {
                OpenError::from_io("syncing", &files::segment_path(self.dir, part.segment), source)
            })?;
        }
        Ok(part)
    }
}
