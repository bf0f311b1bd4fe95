//! What endpoints can take at all: who says that a payload is too long, and what becomes of one that
//! is.
//!
//! Not here: what an endpoint may be sent *now* (`budget`): that becomes more again.
//!
//! A message that is too long for an endpoint counts as refused by it for good when its turn comes.
//! Under `any` it goes to an endpoint that takes it: one that is connected, else one that may be
//! some day; when there is neither it is a dead letter. It holds back what is behind it nowhere
//! (M26), but for later ones of its own key (M14).

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

use super::endpoint::Endpoint;
use super::intake::Intake;
use super::keys::Name;
use super::lane::Hold;
use super::pages::Class;
use super::{Attempt, Cause, EndpointId, OWN_REFUSAL, Outbox};

/// Who takes payloads of some length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// Somebody who is connected, or everybody is.
    Connected,
    /// Others than those who are connected, perhaps; or one that takes nothing for now.
    Away,
    /// No endpoint there is.
    Nobody,
}

impl Endpoint {
    /// Whether it takes a payload of this length, as far as it said. Who said nothing yet may.
    pub(super) fn takes(&self, bytes: u32) -> bool {
        self.payload_bytes_max.is_none_or(|bytes_max| bytes <= bytes_max)
    }
}

impl Outbox {
    /// The longest payload that an endpoint takes, from its next connection on. Before it is told
    /// an endpoint is believed to take any.
    pub fn handle_payload_max(&mut self, now: UnixMillis, id: EndpointId, bytes_max: u32) {
        self.learn_now(now);
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.payload_bytes_max = Some(bytes_max);
        }
    }

    /// Who takes a message under `any`.
    pub(super) fn taker(&self, bytes: u32) -> Taker {
        let (mut is_for_all, mut is_taken) = (true, false);
        for endpoint in self.connected.iter().filter_map(|id| self.endpoints.get(id)) {
            let takes = endpoint.takes(bytes);
            is_for_all &= takes;
            is_taken |= takes && endpoint.intake != Intake::Closed;
        }
        if is_for_all || is_taken {
            Taker::Connected
        } else if self.endpoints.values().any(|endpoint| endpoint.takes(bytes)) {
            Taker::Away
        } else {
            Taker::Nobody
        }
    }

    /// Whether a message under `any` waits for some of those who are connected, none of which has
    /// room, and others may have what is behind it.
    pub(super) fn is_for_full(&self, priority: Priority, bytes: u32) -> bool {
        let assigned_max = self.config.assigned_max(priority);
        let connected = self.connected.iter().filter_map(|id| self.endpoints.get(id));
        let (takers, others): (Vec<_>, Vec<_>) = connected.partition(|e| e.takes(bytes));
        !others.is_empty() && !takers.iter().any(|e| e.has_room(priority, assigned_max))
    }

    /// Whoever may have a message under `any` has no room for it: [`Outbox::look_for_room`] sees
    /// when one of them has. Not those with room where something else holds it back.
    pub(super) fn watch_takers(&mut self, name: &Name, seq: Seq, bytes: u32) {
        let takes = |id: &EndpointId| self.endpoints.get(id).is_some_and(|e| e.takes(bytes));
        let connected = self.connected.iter().copied().filter(takes);
        let free = connected.filter(|id| self.hold_at(*id, name, seq, true).is_none());
        let takers: Vec<EndpointId> = free.collect();
        if let Some(full) = self.full.get_mut(name.1.index()) {
            full.extend(takers);
        }
    }

    /// Messages under `any` that waited for what `is_over` are looked at again.
    pub(super) fn release_any(&mut self, is_over: impl Fn(Hold) -> bool) {
        for lane in &mut self.any_lanes {
            lane.release_all(&is_over);
        }
    }

    /// A message is too long for the endpoint that it is queued for.
    pub(super) fn refuse_too_long(&mut self, id: EndpointId, seq: Seq) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        let bytes_max = endpoint.payload_bytes_max.unwrap_or(u32::MAX);
        let text = format!("{} payload bytes; the peer takes at most {bytes_max}", item.bytes);
        let (name, at) = (endpoint.name.clone(), self.now);
        item.unqueue_at(endpoint);
        item.refuse(Attempt { endpoint: name, at, code: OWN_REFUSAL, text });
        self.pages.set_class(seq, Class::Complex);
        self.refuse_for_good(id, seq);
        self.remember(seq);
    }

    /// A message under `any` is too long for every endpoint there is.
    pub(super) fn die_too_long(&mut self, seq: Seq) {
        let Some(item) = self.end_present(seq) else {
            return;
        };
        let bytes_max = self.endpoints.values().filter_map(|e| e.payload_bytes_max).max();
        let bytes_max = bytes_max.unwrap_or(u32::MAX);
        let text = format!("{} payload bytes; no endpoint takes more than {bytes_max}", item.bytes);
        let cause = Cause::Refused { code: OWN_REFUSAL, text };
        self.bury(seq, cause, Some(item), "nobody takes it");
    }
}
