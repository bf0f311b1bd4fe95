//! What is unsettled, page by page, and what is known of it: how much more there is than memory
//! holds, told in bits.

use std::io;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::time::UnixMillis;

use super::known::Known;
use super::page::{Part, bit_of, mask_below, number_of};
use super::{Buffer, KIND_RECORD};
use crate::log::{ReadError, SegmentId, Stretched};
use crate::record::{self, RecordMeta};

/// 128 consecutive seqs, as far as they are unsettled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogPage {
    /// Which: page n holds the seqs from n × 128 on.
    pub number: u64,
    /// Bit i is set when seq `number` × 128 + i is unsettled; by
    /// [`Priority::index`](alys_stream_protocol::message::Priority::index).
    pub by_priority: [u128; 4],
    /// No message of the page has an earlier deadline; one that was settled may have had it.
    pub deadline_min: Option<UnixMillis>,
}

impl BacklogPage {
    /// How many seqs a page holds.
    pub const SEQS: u64 = 128;

    /// The first seq that belongs to it, settled or not; of page 0 it is
    /// [`Seq::VOLATILE`], which is never set.
    #[must_use]
    pub const fn first_seq(&self) -> Seq {
        Seq(self.number * Self::SEQS)
    }

    /// Drops the seqs that are not below `end`.
    pub(super) fn keep_below(&mut self, end: u64) {
        let mask = mask_below(self.number, end);
        for bits in &mut self.by_priority {
            *bits &= mask;
        }
    }
}

/// A message that is unsettled and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("message {seq} cannot be read back: it is lost unless the disk recovers")]
pub struct Unreadable {
    /// Which.
    pub seq: Seq,
    /// Why.
    #[source]
    pub source: ReadError,
}

/// Pages that are copied under one hold of the lock.
pub(super) const BACKLOG_SLICE_PAGES: usize = 256;

impl Buffer {
    /// Everything durable and unsettled, page by page, oldest first. Pages are copied in slices, so
    /// that nobody waits for all of them: what changes meanwhile may or may not be seen.
    pub fn backlog(&self) -> impl Iterator<Item = BacklogPage> + '_ {
        let mut next = Some(0);
        let mut slice = Vec::new().into_iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(page) = slice.next() {
                    return Some(page);
                }
                let pages = self.shared.index.backlog_slice(next?, BACKLOG_SLICE_PAGES);
                next = pages.last().map(|page: &BacklogPage| page.number + 1);
                slice = pages.into_iter();
            }
        })
    }

    /// What is known of those of `seqs` (ascending) that are durable and unsettled, from memory or
    /// the log; the others are left out, unreadable ones are errors. May read the disk, so it is
    /// not for a thread that must not wait.
    #[must_use]
    pub fn metas(&self, seqs: &[Seq]) -> Vec<Result<RecordMeta, Unreadable>> {
        let mut metas = Vec::with_capacity(seqs.len());
        for page in seqs.chunk_by(|a, b| number_of(a.0) == number_of(b.0)) {
            let mut state = self.shared.index.lock();
            let start = metas.len();
            let is_complete = page.iter().all(|seq| {
                if !state.is_readable(seq.0) {
                    return true;
                }
                let known = state.known.get(seq.0);
                metas.extend(known.map(|known| Ok(known.meta.clone())));
                known.is_some()
            });
            drop(state);
            if !is_complete && let Some(first) = page.first() {
                metas.truncate(start);
                self.read_back(number_of(first.0), page, &mut metas);
            }
        }
        metas
    }

    /// Those of a range that became durable while nobody took them.
    pub(super) fn read_fresh(&self, first: u64, last: u64) -> Vec<RecordMeta> {
        let seqs: Vec<Seq> = (first..=last).map(Seq).collect();
        let readable = self.metas(&seqs).into_iter().filter_map(|meta| match meta {
            Ok(meta) => Some(meta),
            Err(error) => {
                // The next start reports it as a gap (D5).
                tracing::error!(seq = %error.seq, error = %error.source, "a message is unreadable");
                None
            }
        });
        readable.collect()
    }

    /// As [`Buffer::metas`], for seqs of one page that is not in memory.
    fn read_back(
        &self,
        number: u64,
        seqs: &[Seq],
        metas: &mut Vec<Result<RecordMeta, Unreadable>>,
    ) {
        let ReadBack { known, parts, failed } = self.read_page(number);
        self.shared.index.install(number, known, |state| {
            for seq in seqs {
                if !state.is_readable(seq.0) {
                    continue;
                }
                metas.push(match state.known.get(seq.0) {
                    Some(known) => Ok(known.meta.clone()),
                    None => {
                        Err(Unreadable { seq: *seq, source: cause(&parts, failed.as_ref(), *seq) })
                    }
                });
            }
        });
    }

    /// Reads what of a page is unsettled.
    fn read_page(&self, number: u64) -> ReadBack {
        let (live, parts) = self.shared.index.lock().plan(number);
        let mut known: Vec<Known> = Vec::new();
        let mut failed = None;
        for (part, _) in &parts {
            let stretch = (part.offset, part.end);
            let read = self.shared.log.read_stretch(part.segment, stretch, &mut |found| {
                let Stretched { kind, key, location, payload } = found;
                let is_wanted = kind == KIND_RECORD
                    && number_of(key) == number
                    && live & bit_of(key) != 0
                    && known.last().is_none_or(|last| last.meta.seq.0 < key);
                if is_wanted && let Some(meta) = record::decode_meta(Seq(key), payload) {
                    known.push(Known { meta, location });
                }
            });
            if let Err(error) = read {
                failed = Some(error);
            }
        }
        ReadBack { known, parts, failed }
    }

    /// Where a message lies, as its page says when it is read back; `None` when it is settled.
    pub(super) fn locate(&self, seq: Seq) -> Result<Option<Known>, ReadError> {
        let number = number_of(seq.0);
        let ReadBack { known, parts, failed } = self.read_page(number);
        self.shared.index.install(number, known, |state| {
            if !state.is_readable(seq.0) {
                return Ok(None);
            }
            let found = state.known.get(seq.0).cloned();
            found.map(Some).ok_or_else(|| cause(&parts, failed.as_ref(), seq))
        })
    }

    /// Whether a seq was given and is not settled.
    #[must_use]
    pub fn is_live(&self, seq: Seq) -> bool {
        self.shared.index.is_live(seq)
    }
}

/// A page that was read back.
struct ReadBack {
    known: Vec<Known>,
    parts: Vec<(Part, u128)>,
    /// What the disk said, if it said no.
    failed: Option<ReadError>,
}

/// Why a message was not found in its page.
fn cause(parts: &[(Part, u128)], failed: Option<&ReadError>, seq: Seq) -> ReadError {
    let part = parts.iter().find(|(_, bits)| bits & bit_of(seq.0) != 0).map(|(part, _)| part);
    let segment = part.map_or(SegmentId(0), |part| part.segment);
    let offset = part.map_or(0, |part| u64::from(part.offset));
    match failed {
        Some(ReadError::Io { segment: of, source, .. }) if *of == segment => ReadError::Io {
            segment,
            offset,
            source: io::Error::new(source.kind(), source.to_string()),
        },
        Some(ReadError::Io { .. } | ReadError::Damaged { .. }) | None => {
            ReadError::Damaged { segment, offset }
        }
    }
}
