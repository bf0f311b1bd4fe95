//! What was received and is still to be applied: a bounded queue between streams and engine.
//!
//! Invariants:
//! - G8: what is held is bounded in messages and bytes; beyond it peers are told to come back.
//! - G9: messages leave in the order in which they were stored.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use alys_stream_messaging::inbox::InboxId;
use alys_stream_messaging::log::Position;
use alys_stream_protocol::message::Priority;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::ledger::Application;
use crate::streams::StreamKey;
use crate::sync::lock;

/// Messages held at once.
pub(crate) const MESSAGES_MAX: usize = 65_536;

/// Payload bytes held at once.
pub(crate) const BYTES_MAX: usize = 256 * 1024 * 1024;

/// One message to apply.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) application: Application,
    /// Its place in the inbox, to be marked when done; `None` for a repetition that is only
    /// answered.
    pub(crate) inbox: Option<(InboxId, Position)>,
    /// Who sent it.
    pub(crate) node_id: Arc<str>,
    pub(crate) work: Work,
}

/// What there is to do beside counting.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Nothing: taking custody was all.
    Apply,
    /// Sign and answer.
    Sign(Arc<SignWork>),
}

/// A signature request.
#[derive(Debug)]
pub(crate) struct SignWork {
    /// The encoded `StreamRequest`.
    pub(crate) payload: Bytes,
    pub(crate) priority: Priority,
    pub(crate) traceparent: Option<String>,
    pub(crate) answer_to: AnswerTo,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerTo {
    /// Into the log, for the node's session.
    Session,
    /// To a plain stream, as long as it lives.
    Plain(StreamKey),
    /// Nowhere: the plain stream is gone, and the peer will ask again.
    Nobody,
}

/// How much is taken at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) messages: usize,
    /// Of them, such as take a signature.
    pub(crate) to_sign: usize,
}

impl Work {
    const fn is_sign(&self) -> bool {
        matches!(self, Self::Sign(_))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Apply => 0,
            Self::Sign(sign) => sign.payload.len(),
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    queue: VecDeque<Item>,
    /// In the queue or with the engine.
    messages: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Desk {
    held: Mutex<Held>,
    arrived: Notify,
    /// Something arrived that somebody waits for an answer to.
    asked: Notify,
}

impl Desk {
    /// Whether more may be taken in (G8).
    pub(crate) fn has_room(&self) -> bool {
        let held = lock(&self.held);
        held.messages < MESSAGES_MAX && held.bytes < BYTES_MAX
    }

    pub(crate) fn push(&self, items: impl IntoIterator<Item = Item>) {
        let mut held = lock(&self.held);
        let mut is_asked = false;
        for item in items {
            held.messages += 1;
            held.bytes += item.work.bytes();
            is_asked |= item.work.is_sign();
            held.queue.push_back(item);
        }
        drop(held);
        if is_asked {
            self.asked.notify_one();
        }
        self.arrived.notify_one();
    }

    /// Takes what comes next, within bounds; it stays counted until [`Desk::done`].
    pub(crate) fn take(&self, most: Most) -> Vec<Item> {
        let mut held = lock(&self.held);
        let mut signed = 0;
        let count = held.queue.iter().take(most.messages).take_while(|item| {
            signed += usize::from(item.work.is_sign());
            signed <= most.to_sign
        });
        let count = count.count();
        held.queue.drain(..count).collect()
    }

    /// These are applied and answered.
    pub(crate) fn done(&self, items: &[Item]) {
        let mut held = lock(&self.held);
        for item in items {
            held.messages = held.messages.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(item.work.bytes());
        }
    }

    /// Messages held.
    pub(crate) fn messages(&self) -> usize {
        lock(&self.held).messages
    }

    /// Resolves when something arrived since the last call.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Resolves when something arrived, since the last call, that is answered.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }
}
