//! What the streams of the endpoints do to the machines: every method takes the lock once, feeds one
//! event, and carries out what it caused.

use alys_stream_messaging::inbox::Received;
use alys_stream_messaging::outbox::{Budget, EndpointId, Intake, Refusal};
use alys_stream_protocol::limits;
use alys_stream_protocol::message::{LogId, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use super::{Delivery, Disposal, Origin};
use crate::collector::Source;
use crate::exchange::decode;

impl Delivery {
    /// The longest payload that a peer takes, before its stream is up.
    pub(crate) fn handle_payload_max(&self, endpoint: EndpointId, bytes_max: u32) {
        let now = self.clock.now();
        self.lock().outbox.handle_payload_max(now, endpoint, bytes_max);
    }

    /// A stream is up; `received` is what the peer has stored already.
    pub(crate) fn handle_connected(
        &self,
        endpoint: EndpointId,
        peer: Option<LogId>,
        received: &SeqSet,
    ) {
        let mut state = self.lock();
        if let Some(peer) = peer {
            state.peers.insert(peer, endpoint);
        }
        if let Some(ledger) = state.ledgers.get_mut(usize::from(endpoint.0)) {
            ledger.handle_session();
        }
        // What a plain peer owes may wait for its answers.
        self.balancer.handle_promptness(endpoint, peer.is_some());
        self.balancer.handle_up(endpoint);
        state.outbox.handle_connected(endpoint, received);
        self.pump(&mut state);
        drop(state);
        self.wake(endpoint);
    }

    /// The stream is over: what it carried goes back to the queue, in order.
    pub(crate) fn handle_lost(&self, endpoint: EndpointId) {
        let mut state = self.lock();
        self.balancer.handle_down(endpoint, state.outbox.in_flight(endpoint) > 0);
        state.outbox.handle_disconnected(endpoint);
        self.pump(&mut state);
    }

    /// The peer of a stream takes messages, or does not for now: others get what it was not sent.
    pub(crate) fn handle_intake(&self, endpoint: EndpointId, intake: Intake) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.outbox.handle_intake(now, endpoint, intake);
        self.pump(&mut state);
    }

    /// Chooses the next batch of an endpoint.
    pub(crate) fn poll_batch(&self, endpoint: EndpointId, budget: Budget) -> Vec<Seq> {
        let now = self.clock.now();
        let mut state = self.lock();
        let batch = state.outbox.poll_batch(
            now,
            endpoint,
            budget,
            limits::BATCH_RECORDS_MAX,
            limits::BATCH_BYTES_MAX,
        );
        self.pump(&mut state);
        batch
    }

    /// The peer has stored `ranges`.
    pub(crate) fn handle_ack(&self, endpoint: EndpointId, ack_id: u64, ranges: &SeqSet) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(ledger) = state.ledgers.get_mut(usize::from(endpoint.0)) {
            ledger.handle_ack(ack_id, ranges);
        }
        for range in ranges.ranges() {
            for (_, id) in state.followed.range(range) {
                state.followers.tell_pending(*id);
            }
        }
        state.outbox.handle_ack(endpoint, ranges);
        self.pump(state);
    }

    /// The acknowledgement that may be echoed to the peer.
    pub(crate) fn acks_durable(&self, endpoint: EndpointId) -> u64 {
        let state = self.lock();
        state.ledgers.get(usize::from(endpoint.0)).map_or(0, crate::ack_ledger::AckLedger::echoed)
    }

    /// A record was not stored.
    pub(crate) fn handle_nack(
        &self,
        endpoint: EndpointId,
        seq: Seq,
        refusal: Refusal,
        code: u32,
        text: &str,
    ) {
        let now = self.clock.now();
        let mut state = self.lock();
        let retrying = state.outbox.retrying();
        state.outbox.handle_nack(now, endpoint, seq, refusal, code, text);
        if state.outbox.retrying() > retrying {
            self.metrics.retry(self.endpoint_name(endpoint));
        }
        self.pump(&mut state);
    }

    /// The buffer cannot read a record back.
    pub(crate) fn handle_unreadable(&self, seq: Seq) {
        let mut state = self.lock();
        state.outbox.handle_unreadable(seq);
        self.pump(&mut state);
    }

    /// Counts what arrived, for `/status`.
    pub(crate) fn count_inbound(&self, fresh: usize, duplicates: u64, refused: usize) {
        let mut state = self.lock();
        state.counts.inbound += u64::try_from(fresh).unwrap_or(u64::MAX);
        state.counts.inbound_duplicates += duplicates;
        state.counts.inbound_refused += u64::try_from(refused).unwrap_or(u64::MAX);
    }

    /// Hands a stored record to whoever it is for; also at start, for what a crash left unhandled.
    pub(crate) fn dispatch(&self, received: Received) {
        let disposal = match decode(&received.message.payload) {
            Ok((kind, response)) => {
                let source = Source::Log(received.sender);
                self.deliver(source, kind, response, Origin::Stored(&received))
            }
            Err(text) => {
                tracing::error!(%text, "a stored inbound message cannot be decoded");
                Disposal::Handled
            }
        };
        match disposal {
            // Not awaited: a crash before it is durable hands the record on again.
            Disposal::Handled => {
                _ = self.inbox.handled(&[received.id]);
            }
            Disposal::Kept | Disposal::Pending => {}
        }
    }
}
