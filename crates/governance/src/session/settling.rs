//! Which acknowledgements of a node are settled on our disk, and so may be echoed.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use alys_stream_messaging::buffer::Buffer;
use alys_stream_messaging::log::Position;
use tokio::sync::Notify;

use crate::sync::lock;

/// Acknowledgements of one session, in order, until their settlement is durable.
#[derive(Debug, Default)]
pub(super) struct Settling {
    waiting: Mutex<VecDeque<(u64, Position)>>,
    arrived: Notify,
    durable: AtomicU64,
}

impl Settling {
    pub(super) fn push(&self, ack_id: u64, position: Position) {
        lock(&self.waiting).push_back((ack_id, position));
        self.arrived.notify_one();
    }

    /// The highest id whose settlement, and that of all before it, is durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Follows the disk. Ends when the log is poisoned: then nothing more becomes durable.
    pub(super) async fn run(&self, outbox: &Buffer) {
        loop {
            let last = lock(&self.waiting).back().copied();
            let Some((ack_id, position)) = last else {
                self.arrived.notified().await;
                continue;
            };
            if let Err(error) = outbox.position_durable(position).await {
                tracing::error!(%error, "acknowledgements cannot be settled any more");
                return std::future::pending().await;
            }
            self.durable.store(ack_id, Ordering::Release);
            lock(&self.waiting).retain(|(waiting, _)| *waiting > ack_id);
        }
    }
}
