//! Short numbers for the ids of logs, which are random.

use std::sync::{Mutex, PoisonError};

/// The ids of logs in the order in which they were first seen.
#[derive(Debug, Default)]
pub(crate) struct Logs(Mutex<Vec<Vec<u8>>>);

impl Logs {
    /// The number of a log that was seen before.
    pub(crate) fn find(&self, id: &[u8]) -> Option<u8> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        u8::try_from(known.iter().position(|it| it == id)?).ok()
    }

    /// The number of a log.
    pub(crate) fn number(&self, id: &[u8]) -> u8 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|it| it == id).unwrap_or_else(|| {
            known.push(id.to_vec());
            known.len() - 1
        });
        u8::try_from(at).unwrap_or(u8::MAX)
    }
}
