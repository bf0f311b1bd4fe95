//! Senders that wait for room, and messages that made some.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};

use alys_stream_protocol::message::{Message, Priority, Seq};
use alys_stream_protocol::time::UnixMillis;
use tokio::sync::Mutex;

use super::index::State;
use super::{Accepted, AppendCause, AppendError, Buffer, WhenFull, needs};
use crate::log::End;

/// Who waits. One line per priority, so that an urgent message never stands behind another one.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: [Mutex<()>; 4],
    bytes: AtomicU64,
}

/// Bytes of one sender that waits; they are given back when it does no more.
struct Held<'a> {
    waiting: &'a Waiting,
    bytes: u64,
}

impl<'a> Held<'a> {
    fn try_new(waiting: &'a Waiting, bytes: u64, bytes_max: u64) -> Option<Self> {
        let held = Self { waiting, bytes };
        let before = waiting.bytes.fetch_add(bytes, Ordering::AcqRel);
        // Dropped when it is too much, which takes it back. One alone always fits.
        (before == 0 || before.saturating_add(bytes) <= bytes_max).then_some(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Buffer {
    /// Accepts messages as [`Buffer::append`] does, and waits for room when `when_full` says
    /// `block`. Those of one priority wait in line; all together hold at most `pending_bytes_max`.
    ///
    /// # Errors
    ///
    /// As [`Buffer::append`]; under `block` the answer to a lack of room is `Backlog`, when more
    /// wait than may, and no other.
    ///
    /// # Cancel safety
    ///
    /// Dropped, none of the messages is accepted; once it returned, all are. They go with it: a
    /// caller that wants to try again keeps a copy.
    pub async fn append_waiting(
        &self,
        now: UnixMillis,
        messages: Vec<Message>,
    ) -> Result<Vec<Accepted>, AppendError> {
        if self.shared.config.when_full != WhenFull::Block {
            return self.append(now, messages);
        }
        let waiting = &self.shared.waiting;
        let least = messages.iter().map(|message| message.priority).min();
        let line = least.unwrap_or(Priority::Critical).index();
        let Some(line) = waiting.lines.get(line) else {
            return self.append(now, messages);
        };
        // Nobody before: no need to wait in line.
        let mut messages = messages;
        if let Ok(_first) = line.try_lock() {
            match self.append(now, messages) {
                Err(refused) if refused.cause.is_backpressure() => messages = refused.messages,
                answer => return answer,
            }
        }
        let bytes = messages.iter().map(|message| needs(message).1).sum();
        let bytes_max = self.shared.config.pending_bytes_max;
        let Some(_held) = Held::try_new(waiting, bytes, bytes_max) else {
            return Err(AppendError { messages, cause: AppendCause::Backlog });
        };
        let _first = line.lock().await;
        loop {
            let room = self.shared.log.room();
            tokio::pin!(room);
            // From here on no change is missed.
            room.as_mut().enable();
            match self.append(now, messages) {
                Err(refused) if refused.cause.is_backpressure() => messages = refused.messages,
                answer => return answer,
            }
            room.await;
        }
    }

    /// What was dropped for others since the last call, under `drop_oldest_low`; `None` once the
    /// log is closed (or failed). For one consumer, who makes dead letters of them with the cause
    /// [`crate::Cause::Evicted`] and then settles them ([`crate::Outbox::handle_evicted`] leads
    /// there). Until that is done they are unsettled, here and after a restart.
    ///
    /// # Cancel safety
    ///
    /// They are taken only when it returns.
    pub async fn next_evicted(&self) -> Option<Vec<Seq>> {
        let mut watermark = self.shared.log.watch_durable();
        loop {
            let told = self.shared.evicted.notified();
            let evicted = self.shared.index.lock().room.take_evicted();
            if !evicted.is_empty() {
                return Some(evicted);
            }
            tokio::select! {
                biased;
                () = told => {}
                end = watermark.wait_for(|mark| mark.end != End::Open) => {
                    drop(end);
                    return None;
                }
            }
        }
    }

    pub(super) fn tell_evicted(&self, state: &MutexGuard<'_, State>) {
        if state.room.has_evicted() {
            self.shared.evicted.notify_one();
        }
    }
}
