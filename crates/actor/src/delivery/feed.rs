//! Drivers that carry durable records and the passing of time to the outbox.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::record::RecordMeta;
use alys_stream_protocol::governance::{StreamRequest, stream_request::Payload};
use alys_stream_protocol::message::{MessageKind, Seq};
use alys_stream_protocol::signing::SigningTask;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::UnixMillis;
use prost::Message as _;

use super::{Delivery, State};
use crate::outcome;

/// Longest time the timer driver sleeps without looking again.
const TIMER_MAX: Duration = Duration::from_secs(60);

/// Feeds what became durable to the outbox until the buffer closes (A6).
pub(super) async fn run(delivery: Arc<Delivery>) {
    while let Some(records) = delivery.buffer.next_durable().await {
        delivery.handle_durable(records);
    }
}

/// Lets what the buffer dropped for others die until the buffer closes.
pub(super) async fn run_evicted(delivery: Arc<Delivery>) {
    while let Some(seqs) = delivery.buffer.next_evicted().await {
        let mut state = delivery.lock();
        for seq in seqs {
            state.outbox.handle_evicted(seq);
        }
        delivery.pump(&mut state);
    }
}

/// Wakes the outbox when one of its timers is due.
pub(super) async fn run_timer(delivery: Arc<Delivery>) {
    loop {
        let now = delivery.clock.now();
        let wait = {
            let mut state = delivery.lock();
            state.outbox.handle_timeout(now);
            delivery.pump(&mut state);
            state.wake_at = state.outbox.poll_timeout();
            state.wake_at.map_or(TIMER_MAX, |at| at.saturating_since(now).min(TIMER_MAX))
        };
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
            () = delivery.timer.notified() => {}
        }
    }
}

impl Delivery {
    /// Takes records that are durable now, in order of their numbers.
    pub(super) fn handle_durable(&self, records: Vec<RecordMeta>) {
        // Transactions are parsed before the lock is taken.
        let records: Vec<_> = records
            .into_iter()
            .map(|meta| {
                let task = (meta.kind == MessageKind::SIGNATURE_REQUEST)
                    .then(|| self.signing_task(meta.seq));
                (meta, task)
            })
            .collect();
        let now = self.clock.now();
        let mut state = self.lock();
        for (meta, task) in records {
            self.enter(&mut state, now, meta, task);
        }
        self.pump(&mut state);
    }

    fn enter(
        &self,
        state: &mut State,
        now: UnixMillis,
        meta: RecordMeta,
        task: Option<Result<SigningTask, String>>,
    ) {
        let Ok(route) = self.router.outbound(meta.kind) else {
            // Refused at `send`, so only a log of another version can hold it.
            tracing::warn!(seq = %meta.seq, kind = %meta.kind, "no route for a buffered message");
            return;
        };
        let (id, seq) = (meta.id, meta.seq);
        state.outbox.handle_accepted(now, meta, route.route);
        match task {
            Some(Ok(task)) => state.collector.handle_accepted(id, seq, Arc::new(task)),
            // A buffered request that the federation of today cannot sign fails at once.
            Some(Err(reason)) => {
                let reason = format!("the federation in force cannot sign it: {reason}");
                let failed = outcome::plain(id, OutcomeState::Failed, reason);
                self.end(state, seq, id, failed);
            }
            None => {}
        }
    }

    /// The request behind a record, bound to the federation in force.
    fn signing_task(&self, seq: Seq) -> Result<SigningTask, String> {
        let message = self
            .buffer
            .read(seq)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("record {seq} is not in the buffer"))?;
        let request = StreamRequest::decode(message.payload).map_err(|error| error.to_string())?;
        let Some(Payload::SignatureRequest(request)) = request.payload else {
            return Err(format!("record {seq} is not a signature request"));
        };
        let federation = self.federation.as_ref().ok_or("no federation is configured")?;
        SigningTask::try_new(&request, federation).map_err(|error| error.to_string())
    }
}
