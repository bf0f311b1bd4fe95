//! What is published of an endpoint.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Core, millis, now};
use crate::connection::{Connection, State, StateKind};
use crate::grpc::status::{EndpointStatus, TransitionStatus, promise};

impl Core {
    /// Publishes the status when it differs from the last one.
    pub(in crate::grpc) fn publish(&self) {
        let mut status = self.gather();
        self.note(&status);
        self.status.send_if_modified(|published| {
            steady(published, &mut status);
            let modified = *published != status;
            *published = status;
            modified
        });
    }

    /// Reports what an operator is alerted on, when it has changed.
    fn note(&self, status: &EndpointStatus) {
        let mut noted = crate::lock(&self.noted);
        if noted.breaker != status.breaker {
            noted.breaker = status.breaker;
            tracing::info!(endpoint = %self.name, "the circuit breaker is {}", status.breaker.as_str());
            self.observer.breaker(&self.name, status.breaker);
        }
        if noted.needs_operator != status.permanent {
            noted.needs_operator = status.permanent;
            self.observer.needs_operator(&self.name, status.permanent);
        }
    }

    fn gather(&self) -> EndpointStatus {
        let (at, wall) = (now(), self.clock.now().0);
        let past = |then: Instant| wall.saturating_sub(millis(at.saturating_duration_since(then)));
        let facts = self.facts();
        let machine = crate::lock(&self.machine);
        let is_watched = matches!(machine.state().kind(), StateKind::Warning | StateKind::Critical);
        let issue = crate::lock(&self.vitals).issue().filter(|_| is_watched);
        EndpointStatus {
            name: self.name.clone(),
            url: self.url.clone(),
            state: machine.state().kind(),
            since_ms: past(machine.since()),
            peer_id: facts.peer_id,
            peer_software: facts.peer_software,
            address: facts.address,
            rtt_us: facts.rtt.and_then(|rtt| u64::try_from(rtt.smoothed.as_micros()).ok()),
            dialect: facts.dialect,
            promise: facts.dialect.map(promise),
            session_id: facts.session_id,
            last_error: last_error(&machine),
            permanent: machine.is_permanent(),
            issue: issue.map(|issue| issue.to_string()),
            attempts: machine.attempts(),
            retry_at_ms: retry_at(machine.state())
                .map(|then| wall + millis(then.saturating_duration_since(at))),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            credit_messages: self.credit_messages.load(Ordering::Relaxed),
            credit_bytes: self.credit_bytes.load(Ordering::Relaxed),
            breaker: self.gate.state(),
            breaker_until_ms: self.gate.closed_for().map(|left| wall + millis(left)),
            ejected: false,
            certificate_expires_at: facts.certificate_expires_at,
            keepalive_ms: millis(self.keepalive().interval),
            history: machine
                .history()
                .map(|t| TransitionStatus {
                    old: t.old,
                    new: t.new,
                    why: t.why.clone(),
                    at_ms: past(t.at),
                })
                .collect(),
        }
    }
}

/// The last failure of the peer, and why this side does not try again yet.
fn last_error(machine: &Connection) -> Option<String> {
    match (machine.last_error(), machine.held_back()) {
        (Some(error), Some(waits)) => Some(format!("{error}; {waits}")),
        (Some(only), None) | (None, Some(only)) => Some(only.to_owned()),
        (None, None) => None,
    }
}

/// When a connection that is down is dialled again.
const fn retry_at(state: &State) -> Option<Instant> {
    match state {
        State::Reconnecting { retry_at } | State::Failed { retry_at } => Some(*retry_at),
        State::Disconnected
        | State::Connecting { .. }
        | State::Authenticating { .. }
        | State::Connected
        | State::Streaming
        | State::Healthy { .. }
        | State::Warning
        | State::Critical { .. }
        | State::Suspended { .. } => None,
    }
}

/// Wall times are computed anew each time; a wobble of the two clocks is no change.
fn steady(published: &EndpointStatus, next: &mut EndpointStatus) {
    let close = |a: u64, b: u64| a.abs_diff(b) <= 2;
    if published.state == next.state && close(published.since_ms, next.since_ms) {
        next.since_ms = published.since_ms;
    }
    let pairs = [
        (published.retry_at_ms, &mut next.retry_at_ms),
        (published.breaker_until_ms, &mut next.breaker_until_ms),
    ];
    for (old, new) in pairs {
        if let (Some(before), Some(after)) = (old, &*new)
            && close(before, *after)
        {
            *new = old;
        }
    }
    for (old, new) in published.history.iter().zip(next.history.iter_mut()) {
        if close(old.at_ms, new.at_ms) {
            new.at_ms = old.at_ms;
        }
    }
}
