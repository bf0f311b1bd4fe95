//! One endpoint's view of the [`Delivery`]: what its stream takes from it and gives to it.
//!
//! Invariants:
//! - A8: nothing that governance sent is acknowledged before it is on our disk; a record that is not a
//!   valid message, or that the gate does not let in, is refused by name, never dropped.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use alys_stream_messaging::inbox::{Cursor, Fenced};
use alys_stream_messaging::outbox::{self, EndpointId, Refusal as OutboxRefusal};
use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::limits;
use alys_stream_protocol::message::{LogId, MessageKind, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{GapCause, RefuseCode};
use alys_stream_telemetry::metrics::StreamType;
use alys_stream_transport::exchange::{
    Budget, Exchange, InboundRecord, Load, LocalLog, Nack, NackKind, NackOrigin, OutboundRecord,
    PeerLog, ReceiveCursor, ReceiveError, Refusal, Verdict,
};
use bytes::Bytes;
use tokio::time::Instant;

use crate::delivery::Delivery;

mod receive;
mod standing;

pub(crate) use receive::decode;
use standing::Standing;

/// Batches whose acknowledgement is timed at once, for the latency histogram.
const TIMED_BATCHES_MAX: usize = 64;

/// What one endpoint's stream exchanges messages with.
#[derive(Debug)]
pub(crate) struct EndpointExchange {
    delivery: Arc<Delivery>,
    endpoint: EndpointId,
    /// The log of the peer behind the present session.
    peer: Mutex<Option<LogId>>,
    /// Last record of recent batches, and when it left.
    timed: Mutex<VecDeque<(Seq, Instant)>>,
    /// Held while the outbox is told, so that what is told last is what holds.
    standing: Mutex<Standing>,
}

impl EndpointExchange {
    pub(crate) fn new(delivery: Arc<Delivery>, endpoint: EndpointId) -> Self {
        Self {
            delivery,
            endpoint,
            peer: Mutex::default(),
            timed: Mutex::default(),
            standing: Mutex::default(),
        }
    }

    fn name(&self) -> &str {
        self.delivery.endpoint_name(self.endpoint)
    }

    fn peer(&self) -> Option<LogId> {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the payloads of a batch back. A record that cannot be read is reported and left out.
    fn records(&self, seqs: Vec<Seq>) -> Vec<OutboundRecord> {
        let mut records = Vec::with_capacity(seqs.len());
        let read = self.delivery.buffer.read_each(&seqs);
        for (seq, read) in seqs.into_iter().zip(read) {
            match read {
                Ok(Some(message)) => records.push(OutboundRecord { seq, message }),
                // Settled between the choice and the read: nobody needs it any more.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%seq, %error, "a buffered message cannot be read back");
                    self.delivery.metrics.corruption();
                    self.delivery.handle_unreadable(seq);
                }
            }
        }
        records
    }

    /// What a peer is told of what is stored of its log.
    fn cursor_of(&self, log_id: LogId, cursor: Cursor) -> ReceiveCursor {
        let Cursor { mut received, highest_seen, seen, forgotten, .. } = cursor;
        self.delivery.duties.withhold(log_id, &mut received);
        ReceiveCursor { log_id, received, highest_seen, seen, forgotten }
    }

    fn count_sent(&self, records: &[OutboundRecord]) {
        // Neighbours are mostly of one kind: a label lookup for each run of them, not for each.
        for run in records.chunk_by(|one, next| one.message.kind == next.message.kind) {
            let kind = run.first().map_or("", |first| first.message.kind.as_str());
            let count = u64::try_from(run.len()).unwrap_or(u64::MAX);
            self.delivery.metrics.messages_sent(self.name(), kind, StreamType::of(kind), count);
        }
        let requests = records
            .iter()
            .filter(|record| record.message.kind == MessageKind::SIGNATURE_REQUEST)
            .count();
        if let Some(tally) = self.delivery.tally(self.endpoint) {
            let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
            tally.count_sent(number(records.len()), number(requests));
        }
        let last = records.iter().rev().find(|record| !record.seq.is_volatile());
        if let Some(last) = last {
            let mut timed = self.timed.lock().unwrap_or_else(PoisonError::into_inner);
            if timed.len() < TIMED_BATCHES_MAX {
                timed.push_back((last.seq, Instant::now()));
            }
        }
    }

    /// The peer did not take a message: that is about the message, and for one it wants later about
    /// the peer.
    fn count_refused(&self, nack: &Nack) {
        let Nack { seq, kind, code, text, .. } = nack;
        match kind {
            NackKind::InProgress => {
                tracing::debug!(endpoint = self.name(), %seq, "the peer is at it");
                return;
            }
            NackKind::Retry { .. } => self.delivery.balancer.handle_refused(self.endpoint),
            NackKind::Terminal => {}
        }
        tracing::warn!(endpoint = self.name(), %seq, code, %text, ?kind, "refused by the peer");
        if let Some(tally) = self.delivery.tally(self.endpoint) {
            tally.count_refused();
        }
        self.delivery.metrics.message_error(self.name(), "refused", "any");
    }

    fn time_acks(&self, ranges: &SeqSet) {
        let mut timed = self.timed.lock().unwrap_or_else(PoisonError::into_inner);
        timed.retain(|(seq, sent)| {
            let acked = ranges.contains(*seq);
            if acked {
                let took = sent.elapsed();
                self.delivery.metrics.ack_seconds(self.name(), took);
                self.delivery.balancer.handle_latency(self.endpoint, took);
            }
            !acked
        });
    }
}

impl Exchange for EndpointExchange {
    fn local(&self) -> LocalLog {
        let buffer = &self.delivery.buffer;
        LocalLog {
            log_id: buffer.log_id(),
            opening: buffer.opening(),
            next_seq: buffer.next_seq(),
            settled: buffer.settled_durable(),
        }
    }

    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor {
        self.cursor_of(peer_log, self.delivery.inbox.cursor(peer_log))
    }

    fn receive_cursors(&self) -> Vec<ReceiveCursor> {
        let cursors = self.delivery.inbox.cursors().into_iter();
        cursors.map(|(log_id, cursor)| self.cursor_of(log_id, cursor)).collect()
    }

    fn established(&self, peer: &PeerLog) -> Result<(), Refusal> {
        self.delivery.check_seen(self.endpoint, peer)?;
        let admitted = self.delivery.inbox.admit(peer.log_id, peer.opening, peer.next_seq);
        admitted.map_err(|fenced| Refusal::new(fenced_code(&fenced), fenced.to_string()))?;
        self.delivery.duties.handle_session(peer.log_id);
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer.log_id);
        self.delivery.handle_payload_max(self.endpoint, peer.payload_bytes_max);
        self.connected(Some(peer.log_id), &peer.received);
        Ok(())
    }

    fn rolled_back(&self) {
        self.delivery.remember_rollback(self.endpoint);
    }

    fn established_plain(&self, _peer_id: &str) {
        // It has no say in it: what `send` takes.
        let bytes_max = u32::try_from(limits::MESSAGE_BYTES_MAX).unwrap_or(u32::MAX);
        self.delivery.handle_payload_max(self.endpoint, bytes_max);
        self.connected(None, &SeqSet::new());
    }

    fn poll_batch(&self, budget: Budget) -> Vec<OutboundRecord> {
        let mut left = outbox_budget(budget);
        let mut records: Vec<_> = self
            .delivery
            .take_volatile(self.endpoint, &mut left)
            .into_iter()
            .map(|message| OutboundRecord { seq: Seq::VOLATILE, message })
            .collect();
        let seqs = self.delivery.poll_batch(self.endpoint, left);
        let peer = *self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((peer, last)) = peer.zip(seqs.iter().max()) {
            self.delivery.handle_sent(peer, *last);
        }
        records.extend(self.records(seqs));
        self.count_sent(&records);
        records
    }

    async fn ready(&self) {
        match self.delivery.endpoints.get(usize::from(self.endpoint.0)) {
            Some(slot) => slot.ready.notified().await,
            None => std::future::pending().await,
        }
    }

    fn acked(&self, ack_id: u64, ranges: &SeqSet) {
        self.time_acks(ranges);
        self.delivery.handle_ack(self.endpoint, ack_id, ranges);
    }

    fn acks_durable(&self) -> u64 {
        self.delivery.acks_durable(self.endpoint)
    }

    fn peer_settled(&self, settled: Settled, covered: &SeqSet) {
        if let Some(peer) = self.peer() {
            self.delivery.inbox.forget(peer, settled, covered);
        }
    }

    fn nacked(&self, nack: Nack) {
        match nack.origin {
            NackOrigin::Peer => self.count_refused(&nack),
            NackOrigin::Local => {
                let Nack { seq, text, .. } = &nack;
                tracing::debug!(endpoint = self.name(), %seq, %text, "cannot be delivered here");
            }
        }
        let refusal = match nack.kind {
            NackKind::Retry { after } => OutboxRefusal::Retry { after },
            NackKind::Terminal => OutboxRefusal::Terminal,
            NackKind::InProgress => OutboxRefusal::InProgress,
        };
        self.delivery.handle_nack(self.endpoint, nack.seq, refusal, nack.code, &nack.text);
    }

    async fn receive(&self, records: Vec<InboundRecord>) -> Result<Vec<Verdict>, ReceiveError> {
        match self.peer() {
            Some(peer) => self.store(peer, records).await,
            None => Err(ReceiveError("no session is established".into())),
        }
    }

    fn receive_unsequenced(&self, response: StreamResponse, encoded: Bytes) {
        self.take_unsequenced(response, &encoded);
    }

    fn gap(&self, range: RangeInclusive<Seq>, cause: GapCause, text: &str) {
        let (first, last) = (range.start(), range.end());
        tracing::error!(endpoint = self.name(), %first, %last, cause = cause.as_str_name(), text, "the peer reports a gap in its log");
        self.delivery.metrics.gap();
    }

    fn peer_load(&self, load: Load) {
        self.delivery.balancer.handle_load(self.endpoint, load);
    }

    fn progress(&self, awaited: u64) {
        self.delivery.balancer.handle_progress(self.endpoint, awaited);
    }

    fn lost(&self) {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.timed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.delivery.handle_lost(self.endpoint);
    }
}

/// The same budget in the words of the outbox.
const fn outbox_budget(budget: Budget) -> outbox::Budget {
    let Budget { messages, bytes, critical_messages, critical_bytes, large_bytes_max } = budget;
    outbox::Budget { messages, bytes, critical_messages, critical_bytes, large_bytes_max }
}

const fn fenced_code(fenced: &Fenced) -> RefuseCode {
    match fenced {
        Fenced::StaleEpoch { .. } => RefuseCode::StaleEpoch,
        Fenced::RolledBack { .. } | Fenced::Copied { .. } => RefuseCode::LogRolledBack,
    }
}
