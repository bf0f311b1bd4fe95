//! Dead letters of a running node: shown, accepted again, removed.
//!
//! A replayed message lives under its old identifier, so whoever follows that must not be told how
//! its first life ended: with its replay an outcome that is not final takes the place of that one in
//! the outcome store; its reason is the number under which the message lives. The next end takes the
//! place of that, whatever it is: so what is said to live, and does not, is lost. In memory are the
//! numbers of those that live, in ranges (D7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use alys_stream_messaging::buffer;
use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_protocol::message::{Message, MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::UnixMillis;

use prost::Message as _;

use super::{Audited, Delivery, State, is_pushed};
use crate::letters::deaths::end_by;
use crate::letters::{self, LettersError, Replayed};
use crate::outcome::{self, Outcome};

/// Messages that are looked at together after a start.
const MARKED_AT_ONCE: usize = 1024;

impl Delivery {
    /// Accepts the messages of dead letters again.
    pub(crate) async fn replay_letters(
        &self,
        ids: &[DeadLetterId],
    ) -> Result<Vec<(DeadLetterId, Replayed)>, LettersError> {
        let (pushed, ours): (Vec<_>, Vec<_>) =
            ids.iter().partition(|id| self.is_of_governance(**id));
        let mut action = Audited::new("replay", ids);
        let ending = self.ending.lock().await;
        if *ending {
            return action.fail(LettersError::Unavailable);
        }
        let now = self.clock.now();
        let accept = |message, from| self.accept_again(now, message, from);
        let begun = letters::begin_replay(&self.buffer, &self.dead_letters, &ours, accept);
        // Not while disks are waited for: on a full one settlements make room.
        drop(ending);
        action.replayed.clone_from(&begun.results);
        if let Err(error) = begun.finish(&self.buffer, &self.dead_letters).await {
            return action.fail(error);
        }
        for id in pushed {
            match self.hand_on_again(id).await {
                Ok(result) => action.replayed.push((id, result)),
                Err(error) => return action.fail(error),
            }
        }
        let replayed = action.replayed.clone();
        action.succeed();
        Ok(replayed)
    }

    fn is_of_governance(&self, id: DeadLetterId) -> bool {
        self.dead_letters.get(id).is_ok_and(|letter| letter.is_some_and(|it| is_pushed(&it)))
    }

    /// Its actor deals with it, and only then the letter goes (A9).
    async fn hand_on_again(&self, id: DeadLetterId) -> Result<Replayed, LettersError> {
        let letter = match self.dead_letters.get(id) {
            Ok(Some(letter)) => letter,
            Ok(None) => return Ok(Replayed::Missing),
            Err(error) => return Ok(Replayed::Refused(error.to_string())),
        };
        match self.try_again(&letter).await {
            Ok(()) => letters::purge(&self.buffer, &self.dead_letters, &[id])
                .await
                .map(|_| Replayed::HandedOn),
            Err(reason) => Ok(Replayed::Refused(reason)),
        }
    }

    /// Removes dead letters for good.
    pub(crate) async fn purge_letters(&self, ids: &[DeadLetterId]) -> Result<usize, LettersError> {
        let mut action = Audited::new("purge", ids);
        // Of a message that is dying the letter alone says so yet.
        let ending = self.ending.lock().await;
        if *ending {
            return action.fail(LettersError::Unavailable);
        }
        let (purged, position) = letters::begin_purge(&self.buffer, &self.dead_letters, ids);
        action.purged = Some(purged);
        if let Err(error) = self.dead_letters.durable(position).await {
            return action.fail(LettersError::Io(error.to_string()));
        }
        drop(ending);
        action.succeed();
        Ok(purged)
    }

    /// Its deadline is the one that its kind has from now on.
    pub(super) fn accept_again(
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
            state.replayed.insert(accepted.seq);
            self.mark_alive(&mut state, id, accepted.seq);
            self.accepted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(accepted)
    }

    /// Takes back how a message ended: it lives again, under this number. Durable before its next end
    /// is.
    fn mark_alive(&self, state: &mut State, id: MessageId, seq: Seq) {
        let alive = outcome::plain(id, OutcomeState::Accepted, seq.to_string());
        state.marked = Some(self.outcomes.put(id, alive.encode_to_vec().into()));
    }

    /// Where a message lives again, when its identifier leads to a former life or nowhere.
    pub(super) fn lives_under(&self, id: &MessageId) -> Option<Seq> {
        let alive = self.stored_outcome(id)?;
        let is_alive = !outcome::is_final(alive.state());
        let seq = Seq(is_alive.then(|| alive.reason.parse().ok()).flatten()?);
        (self.buffer.is_live(seq) && self.buffer.id_of(seq) == Some(*id)).then_some(seq)
    }

    /// How a message ended that does not live and whose outcome says that it lives again: not well,
    /// since that would be remembered. `None` of any other message.
    pub(super) fn ended_again(&self, id: &MessageId) -> Option<Outcome> {
        self.stored_outcome(id).filter(|outcome| !outcome::is_final(outcome.state()))?;
        // A crash took the second life and left the dead letter of the first one; or its outcome.
        let letter = self.dead_letters.find(id).pop();
        let end = letter.and_then(|letter| end_by(&self.dead_letters, letter, *id));
        Some(end.unwrap_or_else(|| {
            let reason = "what was replayed of it is not on the disk any more: it is lost";
            outcome::plain(*id, OutcomeState::Failed, reason)
        }))
    }

    /// Remembers what of this ends well in its second life, and removes what a crash left of the first.
    /// To be called before it is settled; not for what is `concluded`, whose outcome says more.
    pub(super) async fn end_again(
        &self,
        settled: &SeqSet,
        concluded: &BTreeSet<Seq>,
    ) -> Result<(), String> {
        let again: Vec<Seq> = {
            let state = self.lock();
            let again = settled.ranges().flat_map(|range| state.replayed.iter_in(range));
            again.filter(|seq| !concluded.contains(seq)).collect()
        };
        for seqs in again.chunks(MARKED_AT_ONCE) {
            let (mut remembered, mut letters) = (None, Vec::new());
            for (seq, id) in self.named(seqs) {
                // An earlier process may have stored more than that: the signatures.
                let is_final = |known: Outcome| outcome::is_final(known.state());
                if self.read_outcome(&id).is_ok_and(|known| !known.is_some_and(is_final)) {
                    let complete = outcome::plain(id, OutcomeState::Complete, "");
                    remembered = Some(self.outcomes.put(id, complete.encode_to_vec().into()));
                }
                letters.extend(self.former_letters(&id, seq));
            }
            if let Some(position) = remembered {
                self.outcomes.durable(position).await.map_err(|error| error.to_string())?;
            }
            if !letters.is_empty() {
                let purged = letters::purge(&self.buffer, &self.dead_letters, &letters).await;
                purged.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// The identifiers of live messages.
    fn named(&self, seqs: &[Seq]) -> Vec<(Seq, MessageId)> {
        let named = self.buffer.metas(seqs).into_iter().filter_map(|meta| match meta {
            Ok(meta) => Some((meta.seq, meta.id)),
            Err(error) => {
                let id = self.buffer.id_of(error.seq);
                if id.is_none() {
                    tracing::error!(%error, "the identifier of a replayed message cannot be read: how it ended is not remembered");
                }
                Some((error.seq, id?))
            }
        });
        named.collect()
    }

    /// Dead letters of former lives of a message.
    fn former_letters(&self, id: &MessageId, seq: Seq) -> Vec<DeadLetterId> {
        let mut letters = self.dead_letters.find(id);
        let log = self.buffer.log_id();
        letters.retain(|letter| {
            let message = self.dead_letters.message_of(*letter);
            message.is_some_and(|(of, former, _)| of == log && former < seq)
        });
        letters
    }

    /// How a message died whose dead letter a failing disk kept, and not its outcome.
    pub(super) fn died(&self, id: &MessageId, seq: Seq) -> Option<Outcome> {
        let letter = self.dead_letters.letter_of(self.buffer.log_id(), seq)?;
        end_by(&self.dead_letters, letter, *id)
    }

    /// Takes back how messages ended that live again, when a crash came between their replay and
    /// that, or they were replayed without a node. A success is none of a first life: only the dead
    /// are replayed.
    pub(super) fn finish_marks(&self, replayed: impl Iterator<Item = Seq>) {
        let live: SeqSet = replayed.filter(|seq| self.buffer.is_live(*seq)).collect();
        self.lock().replayed = live.clone();
        let mut replayed = live.iter().peekable();
        while replayed.peek().is_some() {
            let seqs: Vec<Seq> = replayed.by_ref().take(MARKED_AT_ONCE).collect();
            for (seq, id) in self.named(&seqs) {
                let is_told = |known: Outcome| {
                    let is_noted = || known.reason == seq.to_string();
                    known.state() == OutcomeState::Complete
                        || !outcome::is_final(known.state()) && is_noted()
                };
                if self.read_outcome(&id).is_ok_and(|known| !known.is_some_and(is_told)) {
                    self.mark_alive(&mut self.lock(), id, seq);
                }
            }
        }
    }

    /// Removes dead letters whose message an earlier process accepted again, when a crash came
    /// between the two (A9).
    pub(super) fn finish_replays(&self, replayed: &BTreeMap<Seq, Seq>) {
        let log = self.buffer.log_id();
        let former = |from: &Seq| self.dead_letters.letter_of(log, *from);
        let letters: Vec<_> = replayed.values().filter_map(former).collect();
        if !letters.is_empty() {
            // Not awaited: were it lost, the next start would do the same.
            let (count, _) = self.dead_letters.purge(&letters);
            tracing::info!(count, "dead letters whose message lives again are removed");
        }
    }
}
