//! How messages end that have a dead letter, also when a crash came in between.
//!
//! The dead letter is stored first. As long as its message is not settled, the letter alone says that
//! it is dead: without it the next start would send the message. And once the letter is removed, the
//! outcome alone says that the message did not end well: a number that is known and settled counts as
//! delivered. So a node at its start, and a tool before it removes anything, finish what a crash left
//! half done, in the order of every end: outcome, settlement, and only then may the letter go.
//!
//! Not here: how a running node lets messages die (`delivery::settle`), and messages that live again
//! (`delivery::letters`).
//!
//! Invariants:
//! - A20: a dead letter is removed only once its message is settled and it is remembered how that
//!   ended, both durably (D2).

use alys_stream_messaging::buffer::Buffer;
use alys_stream_messaging::dead_letter::{DeadLetterId, DeadLetters};
use alys_stream_messaging::log::{DurabilityError, Position};
use alys_stream_messaging::outbox::{Attempt, Cause, OWN_REFUSAL};
use alys_stream_messaging::outcome::Outcomes;
use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::submission::OutcomeState;
use prost::Message as _;

use super::LettersError;
use crate::outcome::{self, Outcome};

/// Most errors that a chain names.
const CHAIN_MAX: usize = 16;

/// Ends messages that have a dead letter and are not settled: a crash came between the two (A20). To
/// be called before letters are removed, or messages sent. Returns what was settled.
///
/// # Errors
///
/// When a store cannot be written. No letter is removed by this, so the next one finishes it.
///
/// # Cancel safety
///
/// As after a crash: the next one finishes it.
pub async fn finish_deaths(
    buffer: &Buffer,
    store: &DeadLetters,
    outcomes: &Outcomes,
) -> Result<SeqSet, LettersError> {
    Dying::find(buffer, store, outcomes).settle(buffer, outcomes).await?.finish(buffer).await
}

/// Messages that have a dead letter and are not settled.
#[derive(Debug)]
#[must_use = "their letters alone say that they are dead until it is finished"]
pub(crate) struct Dying {
    seqs: SeqSet,
    /// Where the last of their outcomes is stored.
    remembered: Option<Position>,
}

impl Dying {
    /// The part of [`finish_deaths`] that waits for nobody: finds them, and stores how they ended.
    /// Blocks on the disk.
    pub(crate) fn find(buffer: &Buffer, store: &DeadLetters, outcomes: &Outcomes) -> Self {
        let log = buffer.log_id();
        let mut dying = Self { seqs: SeqSet::new(), remembered: None };
        for seq in store.seqs_of(log).iter().filter(|seq| buffer.is_live(*seq)) {
            let Some(letter) = store.letter_of(log, seq) else { continue };
            if let Some((_, _, id)) = store.message_of(letter) {
                dying.add(store, outcomes, (letter, seq, id));
            }
        }
        // One that died before its log was adopted has its number and its id still.
        for (letter, seq, id) in store.of_other_logs(log) {
            if buffer.is_live(seq) && buffer.id_of(seq) == Some(id) {
                dying.add(store, outcomes, (letter, seq, id));
            }
        }
        dying
    }

    fn add(
        &mut self,
        store: &DeadLetters,
        outcomes: &Outcomes,
        (letter, seq, id): (DeadLetterId, Seq, MessageId),
    ) {
        let Some(end) = end_by(store, letter, id) else { return };
        self.seqs.insert(seq);
        // What is stored says more: how far a signature request got.
        if outcome::stored_final(outcomes, &id).is_none() {
            self.remembered = Some(outcomes.put(id, end.encode_to_vec().into()));
        }
    }

    /// Settles them once it is durable how they ended. Their letters may go once that is durable, too.
    pub(crate) async fn settle(
        self,
        buffer: &Buffer,
        outcomes: &Outcomes,
    ) -> Result<Settling, LettersError> {
        let Self { seqs, remembered } = self;
        if let Some(position) = remembered {
            outcomes.durable(position).await.map_err(|error| failed(&error))?;
        }
        if seqs.is_empty() {
            return Ok(Settling { seqs, settled: None });
        }
        tracing::info!(count = seqs.count(), "messages with a dead letter are settled");
        let settled = Some(buffer.settle(&seqs));
        Ok(Settling { seqs, settled })
    }
}

/// Messages that have a dead letter and are settled, but perhaps not durably.
#[derive(Debug)]
#[must_use = "their letters may not go before it is finished"]
pub(crate) struct Settling {
    seqs: SeqSet,
    settled: Option<Position>,
}

impl Settling {
    /// Whether there was nothing to settle.
    pub(crate) const fn is_finished(&self) -> bool {
        self.settled.is_none()
    }

    /// Waits until it is durable.
    pub(crate) async fn finish(self, buffer: &Buffer) -> Result<SeqSet, LettersError> {
        if let Some(position) = self.settled {
            buffer.position_durable(position).await.map_err(|error| failed(&error))?;
        }
        Ok(self.seqs)
    }
}

fn failed(error: &DurabilityError) -> LettersError {
    LettersError::Io(error.to_string())
}

/// How a message ended that has this dead letter: not well, also when the letter cannot be read.
/// `None` when there is no such letter.
pub(crate) fn end_by(store: &DeadLetters, letter: DeadLetterId, id: MessageId) -> Option<Outcome> {
    match store.get(letter) {
        Ok(letter) => letter.map(|it| outcome::plain(id, end_of(&it.cause), words(&it.cause))),
        Err(error) => {
            tracing::error!(%id, %error, "a dead letter cannot be read back");
            Some(outcome::plain(id, OutcomeState::Failed, error.to_string()))
        }
    }
}

/// What followers of a dead message are told.
pub(crate) const fn end_of(cause: &Cause) -> OutcomeState {
    match cause {
        Cause::Expired | Cause::TimedOut { .. } => OutcomeState::TimedOut,
        Cause::Refused { .. } | Cause::Evicted => OutcomeState::Failed,
    }
}

/// What went wrong, outermost first: the cause of death, then what came of the attempts, newest first,
/// each once.
pub(crate) fn error_chain(cause: &Cause, attempts: &[Attempt]) -> Vec<String> {
    let mut chain = vec![words(cause)];
    for Attempt { endpoint, code, text, .. } in attempts.iter().rev() {
        let error = match *code {
            OWN_REFUSAL => format!("{endpoint}: {text}"),
            code => format!("{endpoint} refused it with code {code}: {text}"),
        };
        if !chain.contains(&error) && chain.len() < CHAIN_MAX {
            chain.push(error);
        }
    }
    chain
}

/// A cause of death in words.
pub(crate) fn words(cause: &Cause) -> String {
    match cause {
        Cause::Expired => "its deadline passed before it was sent".to_owned(),
        Cause::TimedOut { may_have_been_seen: true } => {
            "its deadline passed after it was sent: a peer may have acted on it".to_owned()
        }
        Cause::TimedOut { may_have_been_seen: false } => "its deadline passed".to_owned(),
        Cause::Refused { code, text } => format!("refused with code {code}: {text}"),
        Cause::Evicted => "the buffer was full, and it made room for others".to_owned(),
    }
}
