//! Records that are too long for a batch, on their way out in parts.
//!
//! The most urgent transfer goes first, each priority in its own order; between two parts anything
//! else may leave.
//!
//! Invariants:
//! - T33: no frame carries more than [`limits::CHUNK_BYTES`] of a long record, so what is urgent
//!   waits for no more than that.
//! - T34: a transfer is a view into the payload of its record: nothing is copied.
//! - T60: a record follows a long one of its key and priority here, however short it is: it must not
//!   arrive before it (D4).

use std::collections::VecDeque;

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{Message, Priority, Seq};
use alys_stream_protocol::session::{Chunk, Record};
use bytes::Bytes;

use super::credit::Credits;
use crate::exchange::OutboundRecord;

#[derive(Debug)]
struct Transfer {
    seq: Seq,
    message: Message,
    /// Its number, once its first part has left.
    number: Option<u64>,
    sent: usize,
}

impl Transfer {
    fn cost(&self) -> Credits {
        let bytes = u64::try_from(self.message.payload.len()).unwrap_or(u64::MAX);
        Credits { messages: 1, bytes }
    }
}

/// The long records of one session that are on their way.
#[derive(Debug, Default)]
pub(super) struct Slicing {
    /// By priority, low first.
    queues: [VecDeque<Transfer>; 4],
    /// The number of the last transfer that began.
    begun: u64,
}

/// A part, and the record when that was its last one.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) chunk: Chunk,
    pub(super) finished: Option<Seq>,
}

impl Slicing {
    pub(super) fn push(&mut self, record: &OutboundRecord) {
        let message = record.message.clone();
        let transfer = Transfer { seq: record.seq, message, number: None, sent: 0 };
        if let Some(queue) = self.queues.get_mut(transfer.message.priority.index()) {
            queue.push_back(transfer);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Records that have not left in full.
    pub(super) fn count(&self) -> u64 {
        let count: usize = self.queues.iter().map(VecDeque::len).sum();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Whether one below critical is under way.
    pub(super) fn holds_below_critical(&self) -> bool {
        let critical = Priority::Critical.index();
        self.queues.iter().take(critical).any(|queue| !queue.is_empty())
    }

    /// Whether one of this priority is under way.
    pub(super) fn holds(&self, priority: Priority) -> bool {
        self.queues.get(priority.index()).is_some_and(|queue| !queue.is_empty())
    }

    /// Whether one of this key and priority is under way (T60).
    pub(super) fn holds_key(&self, message: &Message) -> bool {
        message.ordering_key.is_some()
            && self.queues.get(message.priority.index()).is_some_and(|queue| {
                queue.iter().any(|transfer| transfer.message.ordering_key == message.ordering_key)
            })
    }

    /// Whether a part of some record has left, and another has not.
    pub(super) fn is_begun(&self) -> bool {
        self.queues.iter().filter_map(VecDeque::front).any(|transfer| transfer.number.is_some())
    }

    /// Credit of what has not begun.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Credits {
        let waiting = self.queues.iter().flatten().filter(|transfer| transfer.number.is_none());
        waiting.fold(Credits::default(), |sum, transfer| sum.saturating_add(transfer.cost()))
    }

    /// Gives up what has not begun and is below `settled_below`. Returns the credit of it.
    pub(super) fn withdraw(&mut self, settled_below: Seq) -> Credits {
        let mut back = Credits::default();
        for queue in &mut self.queues {
            queue.retain(|transfer| {
                let keep = transfer.number.is_some()
                    || transfer.seq.is_volatile()
                    || transfer.seq >= settled_below;
                if !keep {
                    back = back.saturating_add(transfer.cost());
                }
                keep
            });
        }
        back
    }

    /// The next part: of the most urgent record, or with `begun_only` of the most urgent one that
    /// has begun.
    pub(super) fn poll_part(&mut self, begun_only: bool) -> Option<Part> {
        let wanted = |transfer: &Transfer| transfer.number.is_some() || !begun_only;
        let queue = self.queues.iter_mut().rev().find(|queue| queue.front().is_some_and(wanted))?;
        let transfer = queue.front_mut()?;
        let record = transfer.number.is_none().then(|| {
            self.begun += 1;
            transfer.number = Some(self.begun);
            let bare = Message { payload: Bytes::new(), ..transfer.message.clone() };
            Record::from_message(transfer.seq, &bare)
        });
        let whole = transfer.message.payload.len();
        let end = transfer.sent.saturating_add(limits::CHUNK_BYTES).min(whole);
        let chunk = Chunk {
            transfer: transfer.number.unwrap_or_default(),
            payload_bytes: record.as_ref().map_or(0, |_| u32::try_from(whole).unwrap_or(u32::MAX)),
            record,
            part: transfer.message.payload.slice(transfer.sent..end),
            ..Chunk::default()
        };
        transfer.sent = end;
        let finished = (end == whole).then_some(transfer.seq);
        if finished.is_some() {
            queue.pop_front();
        }
        Some(Part { chunk, finished })
    }
}
