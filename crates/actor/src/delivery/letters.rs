//! Dead letters of a running node: shown, accepted again, removed.
//!
//! A replayed message lives under its old identifier, so whoever follows that must not be told how
//! its first life ended: `State::replayed` says which live messages that is about, and the end of
//! such a message is stored before it is settled, in place of the first one.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_messaging::buffer;
use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_messaging::record::RecordMeta;
use alys_stream_protocol::message::{Message, MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::UnixMillis;

use super::settle::Over;
use super::{Delivery, State};
use crate::letters::{self, LetterFilter, LettersError, PageBounds, Replayed};
use crate::outcome;

/// How operators' actions are told from the rest of the log.
const AUDIT: &str = "alys_stream::audit";

impl Delivery {
    /// Accepts the messages of dead letters again.
    pub(crate) async fn replay_letters(
        &self,
        ids: &[DeadLetterId],
    ) -> Result<Vec<(DeadLetterId, Replayed)>, LettersError> {
        let now = self.clock.now();
        let accept = |message, from| self.accept_again(now, message, from);
        let replayed = letters::replay(&self.buffer, &self.dead_letters, ids, accept).await?;
        for (id, result) in &replayed {
            tracing::info!(target: AUDIT, action = "replay", dead_letter = id.0, ?result, "dead letter");
        }
        Ok(replayed)
    }

    /// Removes dead letters for good.
    pub(crate) async fn purge_letters(&self, ids: &[DeadLetterId]) -> Result<usize, LettersError> {
        let purged = letters::purge(&self.dead_letters, ids).await?;
        let dead_letters = letters::in_words(ids);
        tracing::info!(target: AUDIT, action = "purge", purged, dead_letters, "dead letters");
        Ok(purged)
    }

    /// Its deadline is the one that its kind has from now on.
    fn accept_again(
        &self,
        now: UnixMillis,
        mut message: Message,
        from: Seq,
    ) -> Result<buffer::Accepted, String> {
        message.deadline = None;
        self.router.prepare(now, &mut message).map_err(|error| error.to_string())?;
        let id = message.id;
        // Under the lock: it cannot end before it is known as replayed.
        let mut state = self.lock();
        let accepted = self.buffer.replay(now, message, from).map_err(|error| error.to_string())?;
        if !accepted.is_duplicate {
            state.replayed.insert(accepted.seq, id);
            state.counts.accepted += 1;
        }
        Ok(accepted)
    }

    /// Whether a message lives again, so that the end of its first life does not count.
    pub(super) fn is_replayed(&self, state: &State, id: &MessageId) -> bool {
        !state.replayed.is_empty()
            && self.buffer.lookup(id).is_some_and(|seq| state.replayed.contains_key(&seq))
    }

    /// How replayed messages ended that just settle: stored, in place of how they ended first.
    pub(super) fn replayed_over(&self, settled: &SeqSet, over: &[Over]) -> Vec<Over> {
        let state = self.lock();
        let ended = state.replayed.iter().filter(|(seq, _)| {
            settled.contains(**seq) && !over.iter().any(|over| over.seq == **seq)
        });
        ended
            .map(|(seq, id)| Over {
                seq: *seq,
                id: *id,
                outcome: outcome::plain(*id, OutcomeState::Complete, ""),
            })
            .collect()
    }

    /// Whether a message that an earlier process left had ended there. Of one that was replayed,
    /// only a success counts: anything else may be how it ended first.
    pub(super) fn had_ended(&self, meta: &RecordMeta, is_replayed: bool) -> bool {
        self.stored_outcome(&meta.id)
            .is_some_and(|outcome| !is_replayed || outcome.state() == OutcomeState::Complete)
    }

    /// Removes dead letters whose message an earlier process accepted again, when a crash came
    /// between the two (A9).
    pub(super) fn finish_replays(&self, replayed: &BTreeMap<Seq, Seq>) {
        let log = self.buffer.log_id();
        let dead = self.dead_letters.seqs_of(log);
        let cut_short: BTreeSet<Seq> =
            replayed.values().copied().filter(|from| dead.contains(*from)).collect();
        if cut_short.is_empty() {
            return;
        }
        let mut bounds = PageBounds { after: None, count_max: 256, bytes_max: 1 << 20 };
        loop {
            let page = letters::page(&self.dead_letters, &LetterFilter::default(), bounds);
            let done: Vec<_> = page
                .letters
                .iter()
                .filter(|(_, letter)| letter.log == log && cut_short.contains(&letter.seq))
                .map(|(id, _)| *id)
                .collect();
            // Not awaited: were it lost, the next start would do the same.
            let (count, _) = self.dead_letters.purge(&done);
            tracing::info!(count, "dead letters whose message lives again are removed");
            bounds.after = page.next;
            if page.next.is_none() {
                return;
            }
        }
    }
}
