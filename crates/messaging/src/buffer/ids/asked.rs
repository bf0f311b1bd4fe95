//! What files are asked about ids while nobody waits for the lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_stream_protocol::message::MessageId;

use super::spill::Spill;

/// An id that cannot be looked up at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::buffer) struct IdsUnreadable;

/// What files were asked about ids, and what they said. The file of a group never changes.
#[derive(Debug, Default)]
pub(in crate::buffer) struct Asked {
    answers: BTreeMap<(MessageId, u64), Answer>,
}

#[derive(Debug)]
enum Answer {
    Unread(Arc<Spill>),
    Place(Option<u32>),
}

impl Asked {
    /// What the file of a group says of an id; `None` when it was not read yet.
    pub(super) fn answer(
        &mut self,
        id: &MessageId,
        number: u64,
        spill: &Arc<Spill>,
    ) -> Option<Option<u32>> {
        let unread = || Answer::Unread(Arc::clone(spill));
        match self.answers.entry((*id, number)).or_insert_with(unread) {
            Answer::Unread(_) => None,
            Answer::Place(place) => Some(*place),
        }
    }

    /// Reads what was not read yet.
    ///
    /// # Errors
    ///
    /// When a file cannot be read: then its ids cannot be looked up (M34).
    pub(in crate::buffer) fn read(&mut self) -> Result<(), IdsUnreadable> {
        for ((id, number), answer) in &mut self.answers {
            if let Answer::Unread(spill) = answer {
                let place = spill.find(id).map_err(|error| {
                    tracing::error!(%error, group = number, "a file of ids cannot be read");
                    IdsUnreadable
                })?;
                *answer = Answer::Place(place);
            }
        }
        Ok(())
    }
}
