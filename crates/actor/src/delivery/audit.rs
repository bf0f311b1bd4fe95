//! What operators do about dead letters, in lines with the target [`AUDIT`].
//!
//! Invariant: an action leaves its lines however it ends, also when it fails half way, or when nobody
//! waits for its end any more: what it did by then is done.

use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_telemetry::logs::AUDIT;

use crate::letters::{LettersError, Replayed, in_words};

/// An action; its lines are written when it goes.
#[derive(Debug)]
pub(crate) struct Audited<'a> {
    name: &'static str,
    ids: &'a [DeadLetterId],
    /// What became of each letter that was to be accepted again, so far.
    pub(crate) replayed: Vec<(DeadLetterId, Replayed)>,
    /// How many letters were removed, once they were.
    pub(crate) purged: Option<usize>,
    /// Why it did not come to its end.
    error: Option<String>,
}

impl<'a> Audited<'a> {
    pub(crate) fn new(name: &'static str, ids: &'a [DeadLetterId]) -> Self {
        let error = Some("given up by who asked for it".to_owned());
        Self { name, ids, replayed: Vec::new(), purged: None, error }
    }

    /// It came to its end.
    pub(crate) fn succeed(mut self) {
        self.error = None;
    }

    /// It ends here; gives the reason back.
    pub(crate) fn fail<T>(mut self, error: LettersError) -> Result<T, LettersError> {
        self.error = Some(error.to_string());
        Err(error)
    }
}

impl Drop for Audited<'_> {
    fn drop(&mut self) {
        let Self { name: action, ids, replayed, purged, error } = self;
        for (DeadLetterId(dead_letter), result) in &*replayed {
            tracing::info!(target: AUDIT, action, dead_letter, ?result, "dead letter");
        }
        let dead_letters = in_words(ids);
        let purged = *purged;
        match error {
            // It may be on the disk, or not yet.
            Some(error) => {
                let done = purged.unwrap_or(replayed.len());
                tracing::warn!(target: AUDIT, action, done, dead_letters, error, "dead letters: did not end well");
            }
            None if purged.is_some() => {
                tracing::info!(target: AUDIT, action, purged, dead_letters, "dead letters");
            }
            None => {}
        }
    }
}
