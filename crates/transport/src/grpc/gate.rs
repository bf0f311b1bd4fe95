//! The circuit breaker between the owner of the messages and the stream.
//!
//! Not a queue: what is held back stays where it is. A stream asks [`Gated`] for a batch and gets
//! what the breaker lets through; heartbeats and acknowledgements never come this way.
//!
//! Invariants:
//! - T53: while the breaker is half open one message leaves, and only a message that leaves is a
//!   probe: a stream that asks and gets nothing changes nothing (T43).
//! - T56: while it is half open only the outcome of its probe counts: what left before it opened
//!   proves nothing about now.
//! - T54: a wake-up of the owner is not used up while the breaker holds messages back.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::message::{LogId, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::GapCause;
use bytes::Bytes;
use tokio::sync::Notify;

use super::core::now;
use crate::exchange::{
    Budget, Exchange, InboundRecord, Load, LocalLog, Nack, OutboundRecord, PeerLog, ReceiveCursor,
    ReceiveError, Refusal, Verdict,
};
use crate::reconnect::{Admission, Breaker, BreakerConfig, BreakerState, Failure};

/// The breaker of one endpoint, and what its stream was last seen doing.
#[derive(Debug)]
pub(super) struct Gate {
    breaker: Mutex<Breaker>,
    /// The message that left last as a probe; locked after the breaker.
    probe: Mutex<Option<Seq>>,
    /// Wakes a stream that is held back.
    changed: Notify,
    pace: Mutex<Pace>,
}

/// Whether the stream could send more, as its questions show.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// When it last had room for any message.
    offered_at: Instant,
    /// Whether it then got nothing, and so waits for messages rather than for room.
    is_idle: bool,
}

impl Gate {
    pub(super) fn new(config: BreakerConfig, seed: u64) -> Self {
        Self {
            breaker: Mutex::new(Breaker::new(config, seed)),
            probe: Mutex::default(),
            changed: Notify::new(),
            pace: Mutex::new(Pace { offered_at: now(), is_idle: true }),
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        crate::lock(&self.breaker).state(now())
    }

    /// How long nothing may pass; `None` when something may, or when only an outcome decides.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let at = now();
        match crate::lock(&self.breaker).poll_admission(at) {
            Admission::Refused { until } => until.map(|until| until.saturating_duration_since(at)),
            Admission::Free | Admission::Probe => None,
        }
    }

    /// An attempt begins: it is the probe when one is wanted.
    pub(super) fn dialled(&self) {
        *crate::lock(&self.probe) = None;
        crate::lock(&self.breaker).handle_probe_sent(now());
    }

    /// The peer accepted us: the probe goes on with the first message.
    pub(super) fn accepted(&self) {
        *crate::lock(&self.probe) = None;
        self.act(|breaker, at| breaker.handle_probe_returned(at));
        *crate::lock(&self.pace) = Pace { offered_at: now(), is_idle: true };
    }

    pub(super) fn succeeded(&self, count: u64) {
        self.act(|breaker, at| breaker.handle_success(at, count));
    }

    pub(super) fn failed(&self, failure: Failure) {
        self.act(|breaker, at| _ = breaker.handle_failure(at, failure));
    }

    /// The peer dealt with these messages.
    pub(super) fn acked(&self, ranges: &SeqSet) {
        if self.is_outcome(|probe| ranges.contains(probe)) {
            self.succeeded(ranges.count());
        }
    }

    /// The peer dealt with one message, whatever it says of it.
    pub(super) fn dealt_with(&self, seq: Seq) {
        if self.is_outcome(|probe| probe == seq) {
            self.succeeded(1);
        }
    }

    /// The peer wants one message later.
    pub(super) fn refused(&self, seq: Seq, failure: Failure) {
        if self.is_outcome(|probe| probe == seq) {
            self.failed(failure);
        }
    }

    /// This side gave a message up: a probe with that one proves nothing, and the next message is
    /// one.
    pub(super) fn given_up(&self, seq: Seq) {
        let mut probe = crate::lock(&self.probe);
        if *probe == Some(seq) {
            *probe = None;
            drop(probe);
            self.act(|breaker, at| breaker.handle_probe_returned(at));
        }
    }

    /// T56.
    fn is_outcome(&self, is_of: impl FnOnce(Seq) -> bool) -> bool {
        let breaker = crate::lock(&self.breaker);
        match breaker.poll_admission(now()) {
            // An open breaker knows by itself that no outcome counts.
            Admission::Free | Admission::Refused { until: Some(_) } => true,
            Admission::Probe => false,
            Admission::Refused { until: None } => crate::lock(&self.probe).is_some_and(is_of),
        }
    }

    pub(super) fn handle_timeout(&self) {
        self.act(|breaker, at| breaker.handle_timeout(at));
    }

    /// For how long the stream has had no room for any message.
    pub(super) fn starved_for(&self) -> Duration {
        let pace = *crate::lock(&self.pace);
        if pace.is_idle { Duration::ZERO } else { now().saturating_duration_since(pace.offered_at) }
    }

    fn act(&self, act: impl FnOnce(&mut Breaker, Instant)) {
        let at = now();
        let wakes = {
            let mut breaker = crate::lock(&self.breaker);
            let before = breaker.poll_admission(at);
            act(&mut breaker, at);
            let after = breaker.poll_admission(at);
            let waits_for_outcome = before == Admission::Refused { until: None };
            after != before && (waits_for_outcome || !matches!(after, Admission::Refused { .. }))
        };
        if wakes {
            self.changed.notify_one();
        }
    }

    fn offered(&self, is_idle: bool) {
        *crate::lock(&self.pace) = Pace { offered_at: now(), is_idle };
    }
}

/// An [`Exchange`] whose messages pass the gate.
#[derive(Debug)]
pub(super) struct Gated<X> {
    pub(super) inner: Arc<X>,
    pub(super) gate: Arc<Gate>,
}

impl<X: Exchange> Exchange for Gated<X> {
    fn local(&self) -> LocalLog {
        self.inner.local()
    }

    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor {
        self.inner.receive_cursor(peer_log)
    }

    fn receive_cursors(&self) -> Vec<ReceiveCursor> {
        self.inner.receive_cursors()
    }

    fn established(&self, peer: &PeerLog) -> Result<(), Refusal> {
        self.inner.established(peer)
    }

    fn rolled_back(&self) {
        self.inner.rolled_back();
    }

    fn established_plain(&self, peer_id: &str) {
        self.inner.established_plain(peer_id);
    }

    fn poll_batch(&self, budget: Budget) -> Vec<OutboundRecord> {
        // Held over the question, so that two streams could not both take the probe.
        let mut breaker = crate::lock(&self.gate.breaker);
        let records = match breaker.poll_admission(now()) {
            Admission::Free => {
                drop(breaker);
                self.inner.poll_batch(budget)
            }
            Admission::Probe => {
                let records = self.inner.poll_batch(one_of(budget));
                // T53: nobody acknowledges what is volatile, so it proves nothing.
                let lasting = records.iter().find(|record| record.seq != Seq::VOLATILE);
                if let Some(record) = lasting {
                    breaker.handle_probe_sent(now());
                    *crate::lock(&self.gate.probe) = Some(record.seq);
                }
                records
            }
            Admission::Refused { .. } => Vec::new(),
        };
        // A part of a long record may stand before any other message: that is no lack of room.
        if budget.messages > 0 {
            self.gate.offered(records.is_empty());
        }
        records
    }

    async fn ready(&self) {
        let at = now();
        let until = match crate::lock(&self.gate.breaker).poll_admission(at) {
            Admission::Free | Admission::Probe => None,
            // While the probe is out only its outcome opens the gate.
            Admission::Refused { until } => Some(until),
        };
        match until {
            None => self.inner.ready().await,
            // T54.
            Some(None) => self.gate.changed.notified().await,
            Some(Some(until)) => tokio::select! {
                biased;
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.gate.changed.notified() => {}
            },
        }
    }

    fn acked(&self, ack_id: u64, ranges: &SeqSet) {
        self.inner.acked(ack_id, ranges);
    }

    fn acks_durable(&self) -> u64 {
        self.inner.acks_durable()
    }

    fn peer_settled(&self, settled: Settled, covered: &SeqSet) {
        self.inner.peer_settled(settled, covered);
    }

    fn nacked(&self, nack: Nack) {
        self.inner.nacked(nack);
    }

    fn receive(
        &self,
        records: Vec<InboundRecord>,
    ) -> impl Future<Output = Result<Vec<Verdict>, ReceiveError>> + Send {
        self.inner.receive(records)
    }

    fn receive_unsequenced(&self, response: StreamResponse, encoded: Bytes) {
        self.inner.receive_unsequenced(response, encoded);
    }

    fn gap(&self, range: RangeInclusive<Seq>, cause: GapCause, text: &str) {
        self.inner.gap(range, cause, text);
    }

    fn peer_load(&self, load: Load) {
        self.inner.peer_load(load);
    }

    fn progress(&self, awaited: u64) {
        self.inner.progress(awaited);
    }

    fn lost(&self) {
        self.inner.lost();
    }
}

/// The same budget for one message.
fn one_of(budget: Budget) -> Budget {
    let messages = budget.messages.min(1);
    let critical_messages = budget.critical_messages.min(1 - messages);
    Budget { messages, critical_messages, ..budget }
}

#[cfg(test)]
mod tests;
