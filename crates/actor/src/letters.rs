//! Dead letters as an operator sees them: which are meant, and accepting their messages again.
//!
//! Works on the stores alone, so that it serves a running node and a directory that nobody uses.
//! Not here: why a message died (the outbox), how a dead letter is stored (the messaging layer), and
//! how it ends its message (`deaths`).
//!
//! Invariants:
//! - A9: a dead letter is removed by a replay only once its message is durable under its new number;
//!   a crash in between leaves both, and the next replay of it recognises that.

use alys_stream_messaging::buffer::{self, Buffer};
use alys_stream_messaging::dead_letter::{DeadLetter, DeadLetterId, DeadLetters, ReadLetters};
use alys_stream_messaging::log::Position;
use alys_stream_protocol::message::{Message, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use crate::delivery::is_pushed;

pub(crate) mod deaths;
mod filter;

pub use deaths::finish_deaths;
pub use filter::{CauseKind, LetterFilter, UnknownCause};

/// How much of a list is wanted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageBounds {
    /// Only those behind this one.
    pub after: Option<DeadLetterId>,
    /// Most letters.
    pub count_max: usize,
    /// Most bytes of letters, about; the first one is given in any case.
    pub bytes_max: usize,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LettersPage {
    /// The letters, oldest first.
    pub letters: Vec<(DeadLetterId, DeadLetter)>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<DeadLetterId>,
    /// How many there are, whatever the filter.
    pub total: u64,
    /// Some that cannot be read back any more; they can be purged.
    pub unreadable: Vec<DeadLetterId>,
}

/// Ranges of numbers that an audit line names.
const IN_WORDS_MAX: usize = 64;

/// Removed ones that are passed by before it is asked again whether any is left.
const REMOVED_MAX: u64 = 64;

/// Why a letter is not replayed whose message is none of ours.
const PUSHED: &str = "governance sent it, and its actor has to deal with it: replay it on the node \
                      while that runs, not offline";

/// Dead letters that are looked at for one page.
const LOOKED_AT_MAX: usize = 10_000;

/// Reads a page of the dead letters that are meant. Blocks on the disk.
#[must_use]
pub fn page(store: &impl ReadLetters, filter: &LetterFilter, bounds: PageBounds) -> LettersPage {
    let mut page = LettersPage { total: store.count(), ..LettersPage::default() };
    let (mut after, mut bytes) = (bounds.after, 0);
    for _ in 0..LOOKED_AT_MAX {
        if page.letters.len() >= bounds.count_max || bytes > bounds.bytes_max {
            page.next = after;
            return page;
        }
        match next(store, after) {
            Next::None => return page,
            Next::Unreadable(id) => {
                page.unreadable.push(id);
                after = Some(id);
            }
            Next::Letter(id, letter) => {
                after = Some(id);
                if filter.matches(&letter) {
                    bytes += letter_bytes(&letter);
                    page.letters.push((id, *letter));
                }
            }
        }
    }
    page.next = after;
    page
}

/// About what a letter takes in memory and on a wire.
fn letter_bytes(letter: &DeadLetter) -> usize {
    let attempts: usize =
        letter.attempts.iter().map(|a| a.text.len() + a.endpoint.len() + 32).sum();
    let errors: usize = letter.error_chain.iter().map(String::len).sum();
    letter.message.payload.len() + attempts + errors + size_of::<DeadLetter>()
}

enum Next {
    None,
    Letter(DeadLetterId, Box<DeadLetter>),
    Unreadable(DeadLetterId),
}

impl Next {
    fn first_of(letters: Vec<(DeadLetterId, DeadLetter)>) -> Self {
        let first = letters.into_iter().next();
        first.map_or(Self::None, |(id, letter)| Self::Letter(id, Box::new(letter)))
    }
}

/// The next letter. One that is damaged costs no other (D10): it is named and passed over.
fn next(store: &impl ReadLetters, after: Option<DeadLetterId>) -> Next {
    if let Ok(letters) = store.list(after, 1) {
        return Next::first_of(letters);
    }
    // The error does not say which; ids are dense but for those that were removed.
    let mut id = DeadLetterId(after.map_or(1, |DeadLetterId(id)| id + 1));
    loop {
        match store.get(id) {
            Err(error) => {
                tracing::error!(id = id.0, %error, "a dead letter cannot be read back");
                return Next::Unreadable(id);
            }
            // It can be read now.
            Ok(Some(letter)) => return Next::Letter(id, Box::new(letter)),
            Ok(None) => {}
        }
        // It may have been removed meanwhile, and be the last one.
        if id.0.is_multiple_of(REMOVED_MAX)
            && let Ok(letters) = store.list(Some(id), 1)
        {
            return Next::first_of(letters);
        }
        id.0 += 1;
    }
}

/// What a replay made of one dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// Accepted under a new number; no dead letter any more.
    Accepted(Seq),
    /// Accepted again before, under this number; no dead letter any more.
    AlreadyAccepted(Seq),
    /// Governance sent it, and the actor it is for has dealt with it now; no dead letter any more.
    HandedOn,
    /// There is no such dead letter.
    Missing,
    /// Not accepted, and why; it stays a dead letter.
    Refused(String),
}

/// Why nothing could be done about dead letters.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// A store cannot be written.
    #[error("the disk failed: {0} (check it and restart)")]
    Io(String),
    /// The node is stopping or restarting its StreamActor.
    #[error("the stream is not running (it is starting, restarting or stopping): try again")]
    Unavailable,
}

/// Accepts messages of dead letters again and removes those letters once that is durable (A9).
/// `accept` gets each message and the number under which it died, `Seq::VOLATILE` when that was in
/// another log. Those of what governance pushed are refused: a node that runs hands them to their
/// actors, and the buffer is for what goes to governance.
///
/// # Errors
///
/// When a store fails. What was accepted by then may still be a dead letter; replaying it again
/// accepts nothing twice.
pub async fn replay(
    buffer: &Buffer,
    store: &DeadLetters,
    ids: &[DeadLetterId],
    accept: impl FnMut(Message, Seq) -> Result<buffer::Accepted, String>,
) -> Result<Vec<(DeadLetterId, Replayed)>, LettersError> {
    begin_replay(buffer, store, ids, accept).finish(buffer, store).await
}

/// Messages of dead letters that are accepted again, not durably yet.
#[must_use = "the letters are there until it is finished"]
pub(crate) struct Replaying {
    pub(crate) results: Vec<(DeadLetterId, Replayed)>,
    accepted: Vec<DeadLetterId>,
    last: Option<Seq>,
}

/// The part of [`replay`] that waits for nobody.
pub(crate) fn begin_replay(
    buffer: &Buffer,
    store: &DeadLetters,
    ids: &[DeadLetterId],
    mut accept: impl FnMut(Message, Seq) -> Result<buffer::Accepted, String>,
) -> Replaying {
    let mut results = Vec::with_capacity(ids.len());
    let mut accepted = Vec::with_capacity(ids.len());
    let mut last = None;
    for id in ids {
        let result = match store.get(*id) {
            Err(error) => Replayed::Refused(error.to_string()),
            Ok(None) => Replayed::Missing,
            Ok(Some(letter)) if is_pushed(&letter) => Replayed::Refused(PUSHED.to_owned()),
            Ok(Some(letter)) => {
                let is_ours = letter.log == buffer.log_id();
                let from = if is_ours { letter.seq } else { Seq::VOLATILE };
                match accept(letter.message, from) {
                    Err(reason) => Replayed::Refused(reason),
                    Ok(buffer::Accepted { seq, is_duplicate, .. }) => {
                        accepted.push(*id);
                        last = last.max(Some(seq));
                        if is_duplicate {
                            Replayed::AlreadyAccepted(seq)
                        } else {
                            Replayed::Accepted(seq)
                        }
                    }
                }
            }
        };
        results.push((*id, result));
    }
    Replaying { results, accepted, last }
}

impl Replaying {
    /// Removes the letters once their messages are durable.
    pub(crate) async fn finish(
        self,
        buffer: &Buffer,
        store: &DeadLetters,
    ) -> Result<Vec<(DeadLetterId, Replayed)>, LettersError> {
        if let Some(last) = self.last {
            buffer.durable(last).await.map_err(|error| LettersError::Io(error.to_string()))?;
            purge(buffer, store, &self.accepted).await?;
        }
        Ok(self.results)
    }
}

/// Removes dead letters for good; how many there were. Of messages whose end is durable: whoever is not
/// the node that lets them die calls [`finish_deaths`] before.
///
/// # Errors
///
/// When the store fails.
pub async fn purge(
    buffer: &Buffer,
    store: &DeadLetters,
    ids: &[DeadLetterId],
) -> Result<usize, LettersError> {
    let (count, position) = begin_purge(buffer, store, ids);
    store.durable(position).await.map_err(|error| LettersError::Io(error.to_string()))?;
    Ok(count)
}

/// The part of [`purge`] that waits for nobody: how many there were, and where it is noted.
pub(crate) fn begin_purge(
    buffer: &Buffer,
    store: &DeadLetters,
    ids: &[DeadLetterId],
) -> (usize, Position) {
    let is_dying = |id: &DeadLetterId| {
        let message = store.message_of(*id);
        message.is_some_and(|(log, seq, _)| log == buffer.log_id() && buffer.is_live(seq))
    };
    debug_assert!(!ids.iter().any(is_dying), "A20: a message that lives loses its dead letter");
    store.purge(ids)
}

/// Numbers of dead letters in few words, for an audit line: `3, 5-9`.
#[must_use]
pub fn in_words(ids: &[DeadLetterId]) -> String {
    let set: SeqSet = ids.iter().map(|id| Seq(id.0)).collect();
    let mut words: Vec<String> = set
        .ranges()
        .take(IN_WORDS_MAX)
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        })
        .collect();
    if set.interval_count() > IN_WORDS_MAX {
        words.push(format!("… ({} in all)", set.count()));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests;
