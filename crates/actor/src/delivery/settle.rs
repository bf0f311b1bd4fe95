//! The driver that makes endings durable, in the one order that keeps D2 through a crash:
//! outcomes and dead letters first, then the settlement in the buffer, then everybody who waits.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_messaging::dead_letter::{DeadAttempt, DeadLetter};
use alys_stream_messaging::log::Position;
use alys_stream_messaging::outbox::{Attempt, EndpointId};
use alys_stream_protocol::message::{MessageId, MessageKind, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::submission::OutcomeState;
use prost::Message as _;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::{Counts, Death, Delivery, Ended, Loss, State, Tries};
use crate::letters::deaths::{Settling, end_of, error_chain, words};
use crate::outcome::{self, Outcome};

/// Shortest time from one settlement to the next while nobody waits for one: each is an entry of the
/// log that senders wait for as well, and a sync of its own when it comes alone.
const SETTLE_MIN: Duration = Duration::from_millis(10);

/// Runs until the stores close or fail.
///
/// # Errors
///
/// When a store cannot be written any more; the supervisor then starts over from the disk.
pub(super) async fn run(delivery: Arc<Delivery>) -> Result<(), String> {
    delivery.release_letters().await?;
    loop {
        delivery.settle.notified().await;
        loop {
            let begun = Instant::now();
            let mut ending = delivery.ending.lock().await;
            let ended = std::mem::take(&mut delivery.lock().ended);
            if ended.is_empty() {
                break;
            }
            *ending = true;
            delivery.make_durable(ended).await?;
            *ending = false;
            drop(ending);
            tokio::select! {
                biased;
                () = delivery.settle_now.notified() => {}
                () = tokio::time::sleep_until(begun + SETTLE_MIN) => {}
            }
        }
    }
}

/// Bytes of payloads of dead letters that wait for one sync (D7).
const UNSYNCED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What became of a message that died.
enum Buried {
    /// It is a dead letter once this is durable.
    Letter { over: Over, position: Position, bytes: usize },
    /// It cannot be read back, or it was over.
    Lost(Option<Over>),
}

/// One message that is over, and what its followers are told.
struct Over {
    seq: Seq,
    id: MessageId,
    outcome: Outcome,
    /// A signature request: the Bridge is told.
    is_signing: bool,
}

impl Over {
    /// Only signature requests are concluded by what is answered.
    const fn signed(seq: Seq, id: MessageId, outcome: Outcome) -> Self {
        Self { seq, id, outcome, is_signing: true }
    }
}

impl Delivery {
    /// Nothing happens to dead letters until this is durable.
    pub(super) async fn hold_letters(&self, settling: Settling) {
        if settling.is_finished() {
            return;
        }
        let mut ending = Arc::clone(&self.ending).lock_owned().await;
        *ending = true;
        *self.held_letters() = Some((ending, settling));
    }

    async fn release_letters(&self) -> Result<(), String> {
        let held = self.held_letters().take();
        let Some((mut ending, settling)) = held else { return Ok(()) };
        let dead = settling.finish(&self.buffer).await.map_err(|error| error.to_string())?;
        tracing::debug!(dead = dead.count(), "dead letters and buffer agree");
        *ending = false;
        Ok(())
    }

    fn held_letters(&self) -> MutexGuard<'_, Option<(OwnedMutexGuard<bool>, Settling)>> {
        self.held_letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make_durable(&self, ended: Ended) -> Result<(), String> {
        let Ended { mut settled, dead, lost, concluded, refused } = ended;
        let (deaths, answered) = (u64::try_from(dead.len()).unwrap_or(u64::MAX), concluded.len());
        let mut over: Vec<Over> = concluded
            .into_iter()
            .map(|(seq, id, outcome)| Over::signed(seq, id, outcome))
            .collect();
        let signed = over.iter().map(|over| over.seq).collect();
        self.end_again(&settled, &signed).await?;
        settled.extend(dead.iter().map(|death| death.seq));
        over.extend(self.bury_all(dead).await?);
        for loss in lost {
            settled.insert(loss.seq);
            over.extend(self.lose(loss));
        }
        self.store_outcomes(&over).await?;
        // What lives again must not be remembered by its first end once it is over.
        let marked = self.lock().marked.take();
        if let Some(marked) = marked {
            self.outcomes.durable(marked).await.map_err(|error| error.to_string())?;
        }
        settled.extend(over.iter().map(|over| over.seq));
        let echoes = self.echo_candidates(&settled);
        if !settled.is_empty() {
            let position = self.buffer.settle(&settled);
            self.buffer.position_durable(position).await.map_err(|error| error.to_string())?;
            self.refusals.forget(&settled);
            if deaths > 0 {
                self.dead_letters.expire(self.clock.now());
            }
        }
        // Were it lost, the message would be offered once more, behind later ones of its key (D4).
        if let Some((_, position)) = refused {
            self.refusals.durable(position).await.map_err(|error| error.to_string())?;
        }
        tracing::debug!(settled = settled.count(), deaths, answered, "settled");
        let mut guard = self.lock();
        let state = &mut *guard;
        self.announce(state, &settled, deaths, over, &echoes);
        settled.ranges().for_each(|range| _ = state.replayed.remove_range(range));
        // What waited for that in the order of its key goes on.
        state.outbox.handle_ends_durable(&settled);
        if let Some((ticket, _)) = refused {
            state.outbox.handle_remembered(ticket);
        }
        self.pump(state);
        Ok(())
    }

    /// Makes dead letters durable, with few syncs. Gives what their followers are told.
    async fn bury_all(&self, dead: Vec<Death>) -> Result<Vec<Over>, String> {
        let mut over = Vec::with_capacity(dead.len());
        let (mut last, mut bytes) = (None, 0);
        for death in dead {
            match self.bury(death) {
                Buried::Letter { over: one, position, bytes: more } => {
                    over.push(one);
                    (last, bytes) = (Some(position), bytes + more);
                }
                Buried::Lost(lost) => over.extend(lost),
            }
            if bytes >= UNSYNCED_BYTES_MAX {
                self.letters_durable(last.take()).await?;
                bytes = 0;
            }
        }
        self.letters_durable(last).await?;
        Ok(over)
    }

    async fn letters_durable(&self, position: Option<Position>) -> Result<(), String> {
        let Some(position) = position else { return Ok(()) };
        self.dead_letters.durable(position).await.map_err(|error| error.to_string())
    }

    /// Stores a dead letter, to be durable before anything else happens to its message.
    fn bury(&self, death: Death) -> Buried {
        let Death { seq, cause, tries, collected } = death;
        let message = match self.buffer.read(seq) {
            Ok(Some(message)) => message,
            Ok(None) => return Buried::Lost(None),
            Err(error) => {
                tracing::error!(%seq, %error, "a dying message cannot be read back");
                self.metrics.gap();
                self.holes.add(seq..=seq);
                return Buried::Lost(self.lose(Loss { seq, collected }));
            }
        };
        let id = message.id;
        let is_signing = message.kind == MessageKind::SIGNATURE_REQUEST;
        let end = end_of(&cause);
        let reason = words(&cause);
        tracing::warn!(%seq, %id, kind = %message.kind, %reason, "dead letter");
        self.metrics.dead_letter(cause.as_str());
        let attempts = self.all_attempts(seq, tries);
        let refused_by = attempts.last().map_or("none", |last| last.endpoint.as_str());
        self.metrics.dropped(refused_by, message.kind.as_str(), cause.as_str());
        let (died_at, error_chain) = (self.clock.now(), error_chain(&cause, &attempts));
        let letter = DeadLetter {
            log: self.buffer.log_id(),
            seq,
            message,
            accepted_at: self.buffer.accepted_at(seq).unwrap_or(died_at),
            died_at,
            cause,
            error_chain,
            attempts: attempts.into_iter().map(dead_attempt).collect(),
        };
        let (_, position) = self.dead_letters.put(&letter);
        let mut outcome = collected.unwrap_or_else(|| outcome::plain(id, end, ""));
        outcome.reason = reason;
        let (over, bytes) = (Over { seq, id, outcome, is_signing }, letter.message.payload.len());
        Buried::Letter { over, position, bytes }
    }

    /// How a message ends that is a hole (D2): like every end it is remembered by the id.
    fn lose(&self, Loss { seq, collected }: Loss) -> Option<Over> {
        let id = self.buffer.id_of(seq)?;
        let is_signing = collected.is_some();
        let mut outcome = collected.unwrap_or_else(|| outcome::plain(id, OutcomeState::Failed, ""));
        "it cannot be read back from the disk of the node: a reported gap"
            .clone_into(&mut outcome.reason);
        Some(Over { seq, id, outcome, is_signing })
    }

    /// Everything that was tried with a message, in order. One that was not in memory when it died
    /// brings no refusals: those are remembered on the disk.
    fn all_attempts(&self, seq: Seq, tries: Tries) -> Vec<Attempt> {
        let Tries { refusals: mut attempts, unanswered } = tries;
        if attempts.is_empty() {
            let known = self.refusals.history(seq);
            attempts = known.map(|history| history.attempts).unwrap_or_else(|error| {
                tracing::error!(%seq, %error, "the refusals of a dead message cannot be read back");
                Vec::new()
            });
        }
        attempts.extend(unanswered);
        attempts.sort_by_key(|attempt| attempt.at);
        attempts
    }

    async fn store_outcomes(&self, over: &[Over]) -> Result<(), String> {
        let mut last = None;
        for Over { id, outcome, .. } in over {
            last = Some(self.outcomes.put(*id, outcome.encode_to_vec().into()));
        }
        match last {
            Some(position) => {
                self.outcomes.durable(position).await.map_err(|error| error.to_string())
            }
            None => Ok(()),
        }
    }

    /// Acknowledgements that may be echoed once `settling` is durable.
    fn echo_candidates(&self, settling: &SeqSet) -> Vec<(EndpointId, u64)> {
        let mut state = self.lock();
        let mut echoes = Vec::new();
        let settled_below = self.buffer.settled_below();
        for (index, ledger) in state.ledgers.iter_mut().enumerate() {
            let is_settled = |seq| settling.contains(seq) || self.buffer.is_settled(seq);
            if let Some(ack_id) = ledger.candidate(settled_below, is_settled) {
                let endpoint = EndpointId(u16::try_from(index).unwrap_or(u16::MAX));
                echoes.push((endpoint, ack_id));
            }
        }
        echoes
    }

    /// Everything is durable: whoever waits is told, and what held on for it lets go.
    fn announce(
        &self,
        state: &mut State,
        settled: &SeqSet,
        deaths: u64,
        over: Vec<Over>,
        echoes: &[(EndpointId, u64)],
    ) {
        state.counts.settled += settled.count().saturating_sub(deaths);
        state.counts.dead_letters += deaths;
        for (endpoint, ack_id) in echoes {
            if let Some(ledger) = state.ledgers.get_mut(usize::from(endpoint.0)) {
                ledger.publish(*ack_id);
            }
        }
        let mut handled = Vec::new();
        for Over { seq, id, outcome, is_signing } in over {
            if is_signing {
                self.news.handle(id, &outcome);
            }
            handled.extend(state.kept.remove(&id).unwrap_or_default());
            state.counts.count(&outcome);
            state.followed.remove(&seq);
            state.followers.tell(id, outcome);
        }
        // Not awaited: a crash before it is durable hands the answers on again, to nobody.
        _ = self.inbox.handled(&handled);
        if state.followed.is_empty() {
            return;
        }
        for seq in settled.iter() {
            if let Some(id) = state.followed.remove(&seq) {
                state.followers.tell(id, outcome::plain(id, OutcomeState::Complete, ""));
            }
        }
    }
}

impl Counts {
    /// Counts the end of a signature request; of other messages there is nothing to count here.
    fn count(&mut self, outcome: &Outcome) {
        match outcome.state() {
            _ if outcome.inputs == 0 => {}
            OutcomeState::Complete => self.signatures_complete += 1,
            OutcomeState::Failed | OutcomeState::TimedOut => self.signatures_failed += 1,
            OutcomeState::Unspecified | OutcomeState::Accepted | OutcomeState::Pending => {}
        }
    }
}

fn dead_attempt(attempt: Attempt) -> DeadAttempt {
    let Attempt { endpoint, at, code, text } = attempt;
    DeadAttempt { endpoint, at, code, text }
}
