//! Batches as one compressed block, both ways: zstd level 1.
//!
//! Contexts and scratch memory are made once and used again. Nothing that a peer says makes room
//! for more than its credit allows.
//!
//! Invariants:
//! - T39: a block is inflated into room of the size that it states, which is checked before against
//!   what the credit left could hold; more does not fit and is refused.
//! - T55: a block holds at most [`limits::BATCH_RECORDS_MAX`] records, counted while they are read.

use std::fmt;

use alys_stream_protocol::limits;
use alys_stream_protocol::session::{Batch, Data, Frame, Record, frame};
use bytes::{Buf as _, Bytes};
use prost::Message as _;
use prost::encoding::decode_varint;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::violation::SessionViolation;

/// What `zstd` calls level 1: the fastest of the ordinary ones.
const LEVEL: i32 = 1;

/// The tag of `Batch.records`: field 1, counted length.
const RECORDS_TAG: u64 = (1 << 3) | 2;

/// Compresses the batches of one direction.
#[derive(Default)]
pub(super) struct Squeeze {
    context: Option<Compressor<'static>>,
    /// The encoded batch.
    plain: Vec<u8>,
}

impl fmt::Debug for Squeeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Squeeze").finish_non_exhaustive()
    }
}

impl Squeeze {
    /// Puts the records of a batch into one block; returns how long they were encoded, and are now.
    /// A batch that does not shrink stays as it is.
    pub(super) fn compress(&mut self, data: &mut Data) -> Option<(usize, usize)> {
        let mut batch = Batch { records: std::mem::take(&mut data.records) };
        let measured = self.block(&batch);
        data.records = std::mem::take(&mut batch.records);
        let (block, before) = measured?;
        let after = block.len();
        if after < before
            && let Ok(uncompressed_bytes) = u32::try_from(before)
        {
            data.records.clear();
            data.compressed = block;
            data.uncompressed_bytes = uncompressed_bytes;
        }
        Some((before, after))
    }

    fn block(&mut self, batch: &Batch) -> Option<(Bytes, usize)> {
        self.plain.clear();
        // Room grows as needed, so that encoding cannot fail.
        batch.encode(&mut self.plain).ok()?;
        if self.context.is_none() {
            self.context = Compressor::new(LEVEL).ok();
        }
        let context = self.context.as_mut()?;
        let mut block = Vec::with_capacity(zstd_safe::compress_bound(self.plain.len()));
        context.compress_to_buffer(&self.plain, &mut block).ok()?;
        // Room for what did not shrink would be kept as long as the frame.
        block.shrink_to_fit();
        Some((block.into(), self.plain.len()))
    }
}

/// Inflates the batches of one direction.
#[derive(Default)]
pub struct Inflate {
    context: Option<Decompressor<'static>>,
}

impl fmt::Debug for Inflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflate").finish_non_exhaustive()
    }
}

impl Inflate {
    /// Replaces the block of a frame that has one by its records: what a session takes.
    ///
    /// # Errors
    ///
    /// When it is longer than `bytes_max` says, or is no block of records.
    pub fn inflate_frame(
        &mut self,
        frame: &mut Frame,
        bytes_max: impl FnOnce() -> Result<usize, SessionViolation>,
    ) -> Result<(), SessionViolation> {
        match &mut frame.kind {
            Some(frame::Kind::Data(data)) if !data.compressed.is_empty() => {
                self.inflate(data, bytes_max()?)
            }
            _ => Ok(()),
        }
    }

    /// Replaces the block of a batch by its records.
    ///
    /// # Errors
    ///
    /// When it is longer than `bytes_max`, or is no block of records.
    pub(super) fn inflate(
        &mut self,
        data: &mut Data,
        bytes_max: usize,
    ) -> Result<(), SessionViolation> {
        let block = std::mem::take(&mut data.compressed);
        let bytes =
            usize::try_from(std::mem::take(&mut data.uncompressed_bytes)).unwrap_or(usize::MAX);
        if !data.records.is_empty() {
            return Err(unreadable("the frame holds records beside it"));
        }
        if bytes > bytes_max {
            return Err(SessionViolation::Inflated { bytes, bytes_max });
        }
        // T39: what the block itself says is checked before there is room for it.
        let stated = zstd_safe::get_frame_content_size(&block).ok().flatten();
        if stated != u64::try_from(bytes).ok() {
            return Err(unreadable("its length is not the one stated"));
        }
        if self.context.is_none() {
            self.context = Decompressor::new().ok();
        }
        let context = self.context.as_mut().ok_or_else(|| unreadable("no memory for it"))?;
        let mut plain = Vec::with_capacity(bytes);
        let written = context
            .decompress_to_buffer(&block, &mut plain)
            .map_err(|error| SessionViolation::Unreadable(error.to_string()))?;
        if written != bytes {
            return Err(unreadable("its length is not the one stated"));
        }
        data.records = records(plain.into())?;
        Ok(())
    }
}

/// Reads the records of an encoded [`Batch`], each a view into it.
fn records(mut plain: Bytes) -> Result<Vec<Record>, SessionViolation> {
    let mut records = Vec::new();
    while plain.has_remaining() {
        let tag = decode_varint(&mut plain).map_err(|error| unreadable(&error.to_string()))?;
        let length = decode_varint(&mut plain).map_err(|error| unreadable(&error.to_string()))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if tag != RECORDS_TAG || length > plain.len() {
            return Err(unreadable("it holds something else than records"));
        }
        if records.len() == limits::BATCH_RECORDS_MAX {
            let count_max = limits::BATCH_RECORDS_MAX;
            return Err(SessionViolation::BatchTooLong { count: count_max + 1, count_max });
        }
        let record = Record::decode(plain.split_to(length));
        records.push(record.map_err(|error| unreadable(&error.to_string()))?);
    }
    Ok(records)
}

fn unreadable(why: &str) -> SessionViolation {
    SessionViolation::Unreadable(why.to_owned())
}

#[cfg(test)]
mod tests;
