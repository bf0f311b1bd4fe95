//! Reads a buffer without opening it: the index of it, and the damage, as the next open finds them.

use std::ops::RangeInclusive;
use std::path::Path;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;

use alys_stream_protocol::time::UnixMillis;

use super::index::{Index, PriorityStat};
use super::page::number_of;
use super::recovery::Rebuild;
use super::summary::Summary;
use super::{BufferConfig, KIND_RECORD, Recovered};
use crate::log::{self, Begun, EntryReader, Event, Gap, Location, Looked, OpenError, Visit};
use crate::record;
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
    /// The oldest unsettled message, and when it was accepted.
    pub(crate) oldest: Option<(Seq, UnixMillis)>,
    /// What the first segment after all of this would begin with, in parts.
    pub(crate) checkpoint: Vec<Vec<u8>>,
    /// The same, with the lost seqs settled.
    pub(crate) checkpoint_without_lost: Vec<Vec<u8>>,
    index: Index,
}

impl Inspected {
    /// Whether a readable message is unsettled.
    pub(crate) fn is_live(&self, seq: Seq) -> bool {
        self.index.is_live(seq)
    }
}

/// Rebuilds the index and shows every record.
struct Both<'v> {
    rebuild: Rebuild<'static>,
    visit: &'v mut dyn FnMut(Seq, Location, &[u8]),
}

impl Visit for Both<'_> {
    fn begin(&mut self, begun: &Begun) {
        self.rebuild.begin(begun);
    }

    fn is_ahead_wanted(&self) -> bool {
        self.rebuild.is_ahead_wanted()
    }

    fn ahead(&mut self, kind: u8, payload: &[u8]) {
        self.rebuild.ahead(kind, payload);
    }

    fn ahead_ended(&mut self, is_whole: bool) {
        self.rebuild.ahead_ended(is_whole);
    }

    fn is_passed_over(&self, kind: u8) -> bool {
        self.rebuild.is_passed_over(kind)
    }

    fn event(&mut self, event: Event<'_>) {
        if let Event::Entry { kind: KIND_RECORD, key, location, payload, .. } = event {
            (self.visit)(Seq(key), location, payload);
        }
        self.rebuild.event(event);
    }
}

/// Reads the buffer in a directory; shows `visit` where every record lies. `Ok(None)` when there
/// is none.
pub(crate) fn inspect(
    dir: &Path,
    storage: &dyn Storage,
    visit: &mut dyn FnMut(Seq, Location, &[u8]),
) -> Result<Option<Inspected>, OpenError> {
    let mut both = Both { rebuild: Rebuild::new(None), visit };
    let Some(looked) = log::look(dir, storage, &mut both)? else {
        return Ok(None);
    };
    let rebuild = both.rebuild;
    let index = Index::new(&BufferConfig::default());
    let stretches = rebuild.stretches();
    let (recovered, lost) = rebuild.finish(&index, looked.recovery.clone());
    let (next_seq, unsettled) = (index.next_seq(), index.lock().pages.unsettled());
    let first_live = index.settled_below();
    let settled_below = lost.first().map_or(first_live, |lost| first_live.min(lost));
    let state = index.lock();
    let without_lost = Summary { next_seq: next_seq.0, settled_below: first_live.0 };
    let checkpoint_without_lost =
        without_lost.parts(next_seq.0, |from| state.pages.live_runs(from));
    drop(state);
    let mut open = index.unsettled();
    lost.ranges().for_each(|range| {
        open.insert_range(range);
    });
    let with_lost = Summary { next_seq: next_seq.0, settled_below: settled_below.0 };
    let checkpoint = with_lost
        .parts(next_seq.0, |from| open.ranges().skip_while(move |range| range.end().0 < from));
    let oldest = oldest(dir, &looked, &index)?;
    Ok(Some(Inspected {
        looked,
        recovered,
        stretches,
        lost,
        unsettled,
        next_seq,
        settled_below,
        oldest,
        checkpoint,
        checkpoint_without_lost,
        index,
    }))
}

/// The oldest unsettled message, read back for the time at which it was accepted.
fn oldest(
    dir: &Path,
    looked: &Looked,
    index: &Index,
) -> Result<Option<(Seq, UnixMillis)>, OpenError> {
    let state = index.lock();
    let Some((seq, page_accepted_at)) = state.pages.first() else {
        return Ok(None);
    };
    let (_, parts) = state.plan(number_of(seq));
    drop(state);
    let mut accepted_at = page_accepted_at;
    if let Some((part, _)) = parts.first() {
        let stretch = (part.offset, part.end);
        EntryReader::new(dir, looked).read_stretch(
            part.segment,
            stretch,
            &mut |key, payload| {
                if key == seq
                    && let Some(meta) = record::decode_meta(Seq(seq), payload)
                {
                    accepted_at = meta.accepted_at;
                }
            },
        )?;
    }
    Ok(Some((Seq(seq), accepted_at)))
}
