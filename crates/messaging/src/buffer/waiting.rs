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
    lines: [Line; 4],
}

#[derive(Debug, Default)]
struct Line {
    turn: Mutex<()>,
    senders: AtomicU64,
    bytes: AtomicU64,
}

/// A place in a line; it is given back when its sender waits no more.
struct Place<'a> {
    line: &'a Line,
    bytes: u64,
}

impl<'a> Place<'a> {
    fn new(line: &'a Line, bytes: u64) -> Self {
        line.senders.fetch_add(1, Ordering::AcqRel);
        line.bytes.fetch_add(bytes, Ordering::AcqRel);
        Self { line, bytes }
    }

    /// Whether those who wait in its line hold at most so many bytes. One alone always may.
    fn is_within(&self, bytes_max: u64) -> bool {
        let bytes = self.line.bytes.load(Ordering::Acquire);
        bytes <= self.bytes.max(bytes_max)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.line.senders.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Buffer {
    /// Accepts messages as [`Buffer::append`] does, and waits where that helps: for the disk, when
    /// it is slower than the senders, and, when `when_full` says `block`, for room. Those of one
    /// priority wait in line, and no other line is before them; messages of several priorities wait
    /// with the least urgent of them. Under `block` a line holds at most a quarter of
    /// `pending_bytes_max`.
    ///
    /// # Errors
    ///
    /// As [`Buffer::append`], less what it waits for: `Backlog` comes under `block` alone, when more
    /// wait than may.
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
        let least = messages.iter().map(|message| message.priority).min();
        let least = least.unwrap_or(Priority::Critical);
        let Some(line) = self.shared.waiting.lines.get(least.index()) else {
            return self.append(now, messages);
        };
        let mut messages = messages;
        if line.senders.load(Ordering::Acquire) == 0 {
            match self.append(now, messages) {
                Err(refused) if self.waits_for(refused.cause) => messages = refused.messages,
                answer => return answer,
            }
        }
        let place = Place::new(line, messages.iter().map(|message| needs(message).1).sum());
        let config = &self.shared.config;
        if config.when_full == WhenFull::Block && !place.is_within(config.pending_bytes_max / 4) {
            return Err(AppendError { messages, cause: AppendCause::Backlog });
        }
        let _turn = line.turn.lock().await;
        loop {
            let room = self.shared.log.room();
            tokio::pin!(room);
            // From here on no change is missed.
            room.as_mut().enable();
            match self.append(now, messages) {
                Err(refused) if self.waits_for(refused.cause) => messages = refused.messages,
                answer => return answer,
            }
            room.await;
        }
    }

    /// Whether a sender that is refused for this waits: a slow disk is over soon, the rest when
    /// somebody does something.
    fn waits_for(&self, cause: AppendCause) -> bool {
        match cause {
            AppendCause::Backlog => true,
            AppendCause::Full { .. } | AppendCause::DiskFull | AppendCause::IdsUnreadable => {
                self.shared.config.when_full == WhenFull::Block
            }
            AppendCause::TooLarge { .. } | AppendCause::Poisoned => false,
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
