//! What was appended and is not handed out as durable yet. Pure.

use std::collections::VecDeque;

use alys_stream_protocol::message::Seq;

use crate::log::Position;
use crate::record::RecordMeta;

/// Messages whose description waits in memory until it is handed out; of more only the numbers are
/// kept, and what is known of them is read back.
const FRESH_MAX: usize = 32_768;

/// Messages that are read back and handed out at once.
const READ_BACK_MAX: u64 = 1024;

#[derive(Debug)]
pub(super) struct Fresh {
    /// Where each message lies in the log that is not durable yet. Their seqs are dense.
    pending: VecDeque<Position>,
    /// The seq of the first one of those.
    pending_first: u64,
    /// What is known of those to be handed out, in order of seq.
    metas: VecDeque<RecordMeta>,
    /// Behind those: first and last that are to be handed out and only counted here.
    counted: Option<(u64, u64)>,
}

/// What is to be handed out.
#[derive(Debug)]
pub(super) enum Durable {
    Known(Vec<RecordMeta>),
    /// From the first to the last of these, as far as they are unsettled.
    ReadBack(u64, u64),
    Nothing,
}

impl Fresh {
    pub(super) const fn new(next_seq: u64) -> Self {
        Self {
            pending: VecDeque::new(),
            pending_first: next_seq,
            metas: VecDeque::new(),
            counted: None,
        }
    }

    pub(super) fn push(&mut self, position: Position, meta: RecordMeta) {
        self.pending.push_back(position);
        match &mut self.counted {
            Some((_, last)) => *last = meta.seq.0,
            None if self.metas.len() < FRESH_MAX => self.metas.push_back(meta),
            None => self.counted = Some((meta.seq.0, meta.seq.0)),
        }
    }

    /// Everything below it is durable.
    pub(super) const fn durable_below(&self) -> u64 {
        self.pending_first
    }

    /// Where a message lies in the log that is not durable yet.
    pub(super) fn position(&self, seq: Seq) -> Option<Position> {
        let at = usize::try_from(seq.0.checked_sub(self.pending_first)?).ok()?;
        self.pending.get(at).copied()
    }

    /// The first seq whose entry is at `position` or behind it.
    pub(super) fn seq_from(&self, position: Position) -> Option<u64> {
        let before = self.pending.partition_point(|pending| *pending < position);
        let is_one = before < self.pending.len();
        is_one.then(|| self.pending_first + u64::try_from(before).unwrap_or(u64::MAX))
    }

    /// What is known of a message that was not handed out yet.
    pub(super) fn meta(&self, seq: u64) -> Option<&RecordMeta> {
        let at = self.metas.binary_search_by_key(&seq, |meta| meta.seq.0).ok()?;
        self.metas.get(at)
    }

    /// Everything up to `position` is durable.
    pub(super) fn handle_durable(&mut self, position: Position) {
        while self.pending.front().is_some_and(|pending| *pending <= position) {
            self.pending.pop_front();
            self.pending_first += 1;
        }
    }

    pub(super) fn take_durable(&mut self) -> Durable {
        let count = self.metas.partition_point(|meta| meta.seq.0 < self.pending_first);
        if count > 0 {
            return Durable::Known(self.metas.drain(..count).collect());
        }
        let Some((first, last)) = self.counted.filter(|(first, _)| *first < self.pending_first)
        else {
            return Durable::Nothing;
        };
        let end = (last + 1).min(self.pending_first).min(first + READ_BACK_MAX);
        self.counted = (end <= last).then_some((end, last));
        Durable::ReadBack(first, end - 1)
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::message::{MessageId, MessageKind, Priority};
    use alys_stream_protocol::time::UnixMillis;

    use super::*;

    fn meta(seq: u64) -> RecordMeta {
        RecordMeta {
            seq: Seq(seq),
            id: MessageId::new([0; 16]),
            kind: MessageKind(1000),
            priority: Priority::Low,
            deadline: None,
            ordering_key: None,
            payload_bytes: 0,
            accepted_at: UnixMillis(0),
        }
    }

    #[test]
    fn what_nobody_takes_is_only_counted_and_handed_out_in_order() {
        let mut fresh = Fresh::new(10);
        let count = u64::try_from(FRESH_MAX).unwrap() + 3000;
        for n in 0..count {
            fresh.push(Position(100 + 2 * n), meta(10 + n));
        }
        assert_eq!(fresh.position(Seq(12)), Some(Position(104)));
        assert_eq!(fresh.seq_from(Position(103)), Some(12));
        assert!(matches!(fresh.take_durable(), Durable::Nothing));
        fresh.handle_durable(Position(100 + 2 * (count - 500)));
        assert_eq!(fresh.durable_below(), 10 + count - 499);
        let mut seqs = Vec::new();
        loop {
            match fresh.take_durable() {
                Durable::Known(metas) => seqs.extend(metas.iter().map(|meta| meta.seq.0)),
                Durable::ReadBack(first, last) => seqs.extend(first..=last),
                Durable::Nothing => break,
            }
        }
        assert_eq!(seqs, (10..10 + count - 499).collect::<Vec<_>>());
        fresh.handle_durable(Position(u64::MAX));
        assert!(
            matches!(fresh.take_durable(), Durable::ReadBack(first, _) if first == 10 + count - 499)
        );
        fresh.push(Position(u64::MAX), meta(10 + count));
        assert_eq!(fresh.metas.len(), 1, "it has caught up");
    }
}
