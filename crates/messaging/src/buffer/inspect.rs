//! Reads a buffer without opening it: the index of it, and the damage, as the next open finds them.

use std::ops::RangeInclusive;
use std::path::Path;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;

use super::index::{Index, PriorityStat};
use super::recovery::Rebuild;
use super::{BufferConfig, KIND_RECORD, Recovered};
use crate::log::{self, Event, Gap, Location, LogClient, LogStat, Looked, OpenError, Position};
use crate::storage::Storage;

/// A buffer that was looked at.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) looked: Looked,
    pub(crate) recovered: Recovered,
    /// Damaged stretches with all seqs that lay in them, then nothing for what is just missing.
    pub(crate) stretches: Vec<(Gap, Option<RangeInclusive<Seq>>)>,
    /// Unsettled and unreadable.
    pub(crate) lost: SeqSet,
    pub(crate) unsettled: [PriorityStat; 4],
    pub(crate) next_seq: Seq,
    pub(crate) settled_below: Seq,
    /// What the first segment after all of this would begin with.
    pub(crate) checkpoint: Vec<u8>,
    /// The same, with the lost seqs settled.
    pub(crate) checkpoint_without_lost: Vec<u8>,
}

/// Reads the buffer in a directory; shows `visit` where every record lies. `Ok(None)` when there
/// is none.
pub(crate) fn inspect(
    dir: &Path,
    storage: &dyn Storage,
    visit: &mut dyn FnMut(Seq, Location, &[u8]),
) -> Result<Option<Inspected>, OpenError> {
    let mut rebuild = Rebuild::new(0);
    let looked = log::look(dir, storage, &mut |event| {
        if let Event::Entry { kind: KIND_RECORD, key, location, payload, .. } = event {
            visit(Seq(key), location, payload);
        }
        rebuild.handle_event(event);
    })?;
    let Some(looked) = looked else {
        return Ok(None);
    };
    let index = Index::new(&BufferConfig::default());
    let stretches = rebuild.stretches();
    let (recovered, lost) = rebuild.finish(&index, looked.recovery.clone());
    let summarise = || {
        let mut out = Vec::new();
        index.checkpoint(Position(u64::MAX), &mut out);
        out
    };
    let (next_seq, settled_below) = (index.next_seq(), index.settled_below());
    let unsettled = index.stat(LogStat::default()).unsettled;
    let checkpoint = summarise();
    index.lock().settle_lost(&lost);
    let checkpoint_without_lost = summarise();
    Ok(Some(Inspected {
        looked,
        recovered,
        stretches,
        lost,
        unsettled,
        next_seq,
        settled_below,
        checkpoint,
        checkpoint_without_lost,
    }))
}
