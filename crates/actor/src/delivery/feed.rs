//! Drivers that carry durable records and the passing of time to the outbox.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::record::RecordMeta;
use alys_stream_protocol::governance::{StreamRequest, stream_request::Payload};
use alys_stream_protocol::message::{MessageId, MessageKind, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::signing::SigningTask;
use alys_stream_protocol::submission::OutcomeState;
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
        let ended = delivery.ended_of(&seqs);
        let mut state = delivery.lock();
        for seq in seqs {
            if ended.contains(seq) {
                state.outbox.handle_forgotten(seq);
                state.ended.settled.insert(seq);
            } else {
                state.outbox.handle_evicted(seq);
            }
        }
        delivery.pump(&mut state);
    }
}

/// Wakes the outbox when one of its timers is due.
pub(super) async fn run_timer(delivery: Arc<Delivery>) {
    loop {
        let wait = delivery.handle_time();
        tokio::select! {
            biased;
            () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
            () = delivery.timer.notified() => {}
        }
    }
}

impl Delivery {
    /// Lets time act on the outbox; returns how long nothing else is due.
    pub(super) fn handle_time(&self) -> Duration {
        let now = self.clock.now();
        let mut state = self.lock();
        state.outbox.handle_timeout(now);
        self.pump(&mut state);
        state.wake_at = state.outbox.poll_timeout();
        state.wake_at.map_or(TIMER_MAX, |at| at.saturating_since(now).min(TIMER_MAX))
    }

    /// Those of `seqs` that had ended in an earlier process and were not looked at since.
    fn ended_of(&self, seqs: &[Seq]) -> SeqSet {
        let mut resumed: Vec<Seq> =
            seqs.iter().copied().filter(|seq| *seq < self.resumed_below).collect();
        if resumed.is_empty() {
            return SeqSet::new();
        }
        resumed.sort_unstable();
        let metas = self.buffer.metas(&resumed).into_iter().flatten();
        metas.filter(|meta| self.had_ended(meta.seq, &meta.id)).map(|meta| meta.seq).collect()
    }

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
        let below = records.last().map_or(Seq::VOLATILE, |(meta, _)| meta.seq.next());
        let mut state = self.lock();
        let (mut accepted, mut tasks) = (Vec::with_capacity(records.len()), Vec::new());
        for (meta, task) in records {
            let Ok(route) = self.router.outbound(meta.kind) else {
                self.die_routeless(&mut state, meta.seq, meta.kind);
                continue;
            };
            tasks.extend(task.map(|task| (meta.id, meta.seq, task)));
            accepted.push((meta, route.route));
        }
        state.outbox.handle_accepted_all(now, accepted);
        state.fed_below = state.fed_below.max(below);
        for (id, seq, task) in tasks {
            // What is not in memory yet is collected for when it is read back.
            if state.outbox.is_resident(seq) {
                self.open_collecting(&mut state, id, seq, task);
            }
        }
        self.pump(&mut state);
    }

    /// Collects signatures for a request that may be sent from now on.
    pub(super) fn open_collecting(
        &self,
        state: &mut State,
        id: MessageId,
        seq: Seq,
        task: Result<SigningTask, String>,
    ) {
        if !state.outbox.contains(seq) {
            return;
        }
        match task {
            Ok(task) => state.collector.handle_accepted(id, seq, Arc::new(task)),
            // A buffered request that its federation cannot sign fails at once.
            Err(reason) => {
                let reason = format!("the federation cannot sign it: {reason}");
                let failed = outcome::plain(id, OutcomeState::Failed, reason);
                self.end(state, seq, id, failed);
            }
        }
    }

    /// The request behind a record, bound to the federation that it was accepted under: a change of
    /// the federation takes no open request from those who sign it.
    pub(super) fn signing_task(&self, seq: Seq) -> Result<SigningTask, String> {
        let message = self
            .buffer
            .read(seq)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("record {seq} is not in the buffer"))?;
        let request = StreamRequest::decode(message.payload).map_err(|error| error.to_string())?;
        let Some(Payload::SignatureRequest(request)) = request.payload else {
            return Err(format!("record {seq} is not a signature request"));
        };
        let federation = self.duties.federation.as_ref().ok_or("no federation is configured")?;
        let under = federation
            .under(seq)
            .ok_or("the federation that it was accepted under was replaced too often since")?;
        SigningTask::try_new(&request, &under.federation).map_err(|error| error.to_string())
    }
}
