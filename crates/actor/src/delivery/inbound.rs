//! What governance sends: checked, then to the collector or to subscribers.

use std::sync::Arc;

use alys_stream_messaging::inbox::InboxId;
use alys_stream_protocol::governance::{
    SignatureResponse, SignatureStatus, StreamResponse, stream_response::Payload,
};
use alys_stream_protocol::message::{MessageId, MessageKind, Seq};
use alys_stream_protocol::signing::SigningTask;
use alys_stream_protocol::submission::{OutcomeState, SubscribeResponse};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_telemetry::logs::AUDIT;
use alys_stream_telemetry::metrics::StreamType;

use super::{Delivery, Origin, State};
use crate::collector::{self, Source, Step};
use crate::outcome::Outcome;

/// What became of something that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposal {
    /// Done with: its inbox entry may go.
    Handled,
    /// An open request still needs it; it is handled when that request ends.
    Kept,
    /// An actor has to deal with it first.
    Pending,
}

impl Delivery {
    /// Hands one checked response to whoever it is for.
    pub(crate) fn deliver(
        &self,
        source: Source,
        kind: MessageKind,
        response: StreamResponse,
        origin: Origin<'_>,
    ) -> Disposal {
        let name = {
            let state = self.lock();
            State::source_name(&state.peers, self, source)
        };
        self.metrics.messages_received(&name, kind.as_str(), StreamType::of(kind.as_str()), 1);
        let request_id =
            response.metadata.as_ref().and_then(|m| m.request_id.parse::<MessageId>().ok());
        let disposal = match (&response.payload, request_id) {
            (Some(Payload::SignatureResponse(answer)), Some(id)) => {
                self.collect(id, source, &name, answer.clone(), origin.entry())
            }
            _ => self.take_on(source, &response, origin).unwrap_or(Disposal::Handled),
        };
        let pushed = SubscribeResponse {
            endpoint: name,
            received_at_ms: UnixMillis::to_wire(Some(self.clock.now())),
            response: Some(response),
        };
        // Nobody may be listening, and that is fine.
        drop(self.events.send(Arc::new(pushed)));
        disposal
    }

    fn collect(
        &self,
        id: MessageId,
        source: Source,
        name: &str,
        answer: SignatureResponse,
        entry: Option<InboxId>,
    ) -> Disposal {
        let Some(task) = self.open_request(&id) else {
            return Disposal::Handled;
        };
        let status = answer.status();
        let reason = answer.failure_reason.unwrap_or_default();
        // Signatures are verified outside the lock: tens of microseconds each.
        let verified = collector::verify(&task, status, reason, answer.signatures);
        let invalid = verified.invalid;
        let is_signed = invalid == 0 && !verified.signatures.is_empty();
        if invalid > 0 {
            tracing::warn!(
                target: AUDIT,
                endpoint = name, %id, invalid,
                "signatures that match no input and no member were discarded"
            );
            for _ in 0..invalid {
                self.metrics.invalid_signature(name);
            }
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        state.counts.signatures_invalid += u64::from(invalid);
        if is_signed && let Some(tally) = state.endpoint_of(source).and_then(|id| self.tally(id)) {
            tally.count_answered();
        }
        if status != SignatureStatus::Pending
            && let Some(accepted_at) =
                state.collector.seq(&id).and_then(|seq| self.buffer.accepted_at(seq))
        {
            let took = self.clock.now().saturating_since(accepted_at);
            self.metrics.correlation(MessageKind::SIGNATURE_REQUEST.as_str(), name, took);
        }
        let peers = &state.peers;
        let name_of = |source| State::source_name(peers, self, source);
        match state.collector.handle_answer(id, source, verified, name_of) {
            Step::Unknown => Disposal::Handled,
            Step::Progress(outcome) => {
                self.news.handle(id, &outcome);
                state.followers.tell(id, *outcome);
                if status == SignatureStatus::Pending {
                    return Disposal::Handled;
                }
                keep(state, id, entry);
                Disposal::Kept
            }
            Step::Concluded(seq, outcome) => {
                keep(state, id, entry);
                self.conclude(state, id, seq, *outcome);
                Disposal::Kept
            }
        }
    }

    /// What the answer to a request is verified against; `None` when that has ended, or is none. A
    /// request that is open and not in memory, because it is not its turn (again) to be sent, is
    /// looked up: a node that has it from an earlier process may answer first.
    fn open_request(&self, id: &MessageId) -> Option<Arc<SigningTask>> {
        if let Some(task) = self.lock().collector.task(id) {
            return Some(task);
        }
        let seq = self.buffer.lookup(id).filter(|seq| self.buffer.is_live(*seq))?;
        if self.final_outcome(id).is_some() {
            return None;
        }
        let task = self.signing_task(seq).map(Arc::new);
        let task = task.inspect_err(|reason| tracing::debug!(%id, reason, "an answer to nothing"));
        let mut state = self.lock();
        // It may have ended while its transaction was parsed.
        let task = task.ok().filter(|_| state.outbox.contains(seq))?;
        state.collector.handle_accepted(*id, seq, Arc::clone(&task));
        Some(task)
    }

    fn conclude(&self, state: &mut State, id: MessageId, seq: Seq, outcome: Outcome) {
        let complete = outcome.state() == OutcomeState::Complete;
        tracing::info!(%id, %seq, complete, answers = outcome.answers.len(), "signature request concluded");
        self.end(state, seq, id, outcome);
    }
}

impl Delivery {
    /// Ends a request with an outcome. Both halves go under one lock, so that no deadline can fall
    /// between them (D2); the outcome is durable before the settlement is (A7).
    pub(super) fn end(&self, state: &mut State, seq: Seq, id: MessageId, outcome: Outcome) {
        state.ended.concluded.push((seq, id, outcome));
        state.outbox.handle_concluded(seq);
        self.pump(state);
    }
}

fn keep(state: &mut State, id: MessageId, entry: Option<InboxId>) {
    if let Some(entry) = entry {
        state.kept.entry(id).or_default().push(entry);
    }
}
