//! The seam to the balancer: who gets a message under `any`. Pure.
//!
//! Not here: ordering keys. A message whose key is pinned goes where the key is, whoever the
//! balancer would choose.

use std::fmt;

use alys_stream_protocol::message::Priority;
use alys_stream_protocol::time::UnixMillis;

use super::EndpointId;

/// A connected endpoint that takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub id: EndpointId,
    /// The priority of the message.
    pub priority_class: Priority,
    /// Messages of every policy that it has, or is about to be sent, and has not acknowledged.
    pub unacknowledged: usize,
    /// Messages under `any` of this priority that are assigned to it.
    pub assigned: usize,
    /// Whether it has no room: [`Candidate::assigned`] has reached the bound, or it has what it is
    /// tried with. It is named so that the balancer knows it is there and full; the message goes to
    /// another.
    pub is_saturated: bool,
    /// Whether it refused this message: to be chosen only when there is no other.
    pub is_avoided: bool,
}

/// Chooses the endpoint of a message under `any`.
pub trait Balance: fmt::Debug + Send {
    /// Chooses one of `candidates`, which are in order of their ids; at least one of them has room.
    /// `None` lets the message wait until something changes. When the choice has no room, those
    /// that have are asked about once more, without the others.
    fn choose(&mut self, now: UnixMillis, candidates: &[Candidate]) -> Option<EndpointId>;

    /// An endpoint was given messages to send.
    fn handle_sent(&mut self, now: UnixMillis, id: EndpointId, messages: usize) {
        _ = (now, id, messages);
    }

    /// An endpoint acknowledged messages. `now` is the latest time that the outbox was told.
    fn handle_acked(&mut self, now: UnixMillis, id: EndpointId, messages: usize) {
        _ = (now, id, messages);
    }

    /// The connection to an endpoint was lost: it acknowledges nothing any more.
    fn handle_lost(&mut self, id: EndpointId) {
        _ = id;
    }
}

/// The endpoint with the least unacknowledged; the lowest id among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeastUnacknowledged;

impl Balance for LeastUnacknowledged {
    fn choose(&mut self, _now: UnixMillis, candidates: &[Candidate]) -> Option<EndpointId> {
        candidates
            .iter()
            .filter(|candidate| !candidate.is_saturated)
            .min_by_key(|candidate| (candidate.is_avoided, candidate.unacknowledged, candidate.id))
            .map(|candidate| candidate.id)
    }
}
