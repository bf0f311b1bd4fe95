//! What the outbox knows of one message in memory.

use alys_stream_protocol::message::{OrderingKey, Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

use super::endpoint::Endpoint;
use super::keys::Name;
use super::pages::Class;
use super::{Attempt, EndpointId, SET_BACK_MIN};
use crate::queue::Entry;
use crate::record::RecordMeta;
use crate::refusals::{EndpointHistory, History, Standing};
use crate::router::{Policy, Route};

/// One message. Sets of endpoints are bits, see [`Endpoint::bit`].
#[derive(Debug)]
pub(super) struct Item {
    pub(super) priority: Priority,
    pub(super) policy: Policy,
    awaits_answer: bool,
    /// Whether it is under `any` and unassigned or assigned.
    pub(super) is_taken: bool,
    pub(super) bytes: u32,
    since: UnixMillis,
    pub(super) deadline: Option<UnixMillis>,
    pub(super) key: Option<OrderingKey>,
    /// Under other policies: for whom it was taken.
    pub(super) taken: u64,
    /// Whose lanes asked for it and did not look at it yet.
    pub(super) wanted: u64,
    /// The same of the lane of messages under `any`.
    pub(super) is_wanted: bool,
    /// Under `any`: to whom it is assigned.
    pub(super) assigned: u64,
    pub(super) queued: u64,
    pub(super) in_flight: u64,
    /// Who refused it and will be asked again.
    waiting: u64,
    pub(super) acked: u64,
    /// Who refused it for good.
    pub(super) refused: u64,
    /// One that refused it, to be asked again only when there is no other.
    pub(super) avoid: Option<EndpointId>,
    /// Most messages are never refused.
    history: Option<Box<History>>,
}

/// How a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Open,
    /// Acknowledged as its policy asks, and its answer is awaited.
    Answerless,
    Settled,
    /// Its policy cannot be met any more.
    Refused,
}

impl Item {
    pub(super) fn new(meta: RecordMeta, route: Route, history: History) -> Self {
        Self {
            priority: meta.priority,
            policy: route.policy,
            awaits_answer: route.awaits_answer,
            is_taken: false,
            bytes: meta.payload_bytes,
            since: meta.accepted_at,
            deadline: meta.deadline,
            key: meta.ordering_key,
            taken: 0,
            wanted: 0,
            is_wanted: false,
            assigned: 0,
            queued: 0,
            in_flight: 0,
            waiting: 0,
            acked: 0,
            refused: 0,
            avoid: None,
            history: (!history.is_empty()).then(|| Box::new(history)),
        }
    }

    pub(super) const fn is_any(&self) -> bool {
        matches!(self.policy, Policy::Any)
    }

    /// Whether somebody needs it in memory (M24).
    pub(super) const fn is_needed(&self) -> bool {
        self.is_taken || self.is_wanted || self.taken | self.wanted != 0
    }

    /// What bits alone tell of it.
    pub(super) const fn class(&self) -> Class {
        if self.awaits_answer || self.history.is_some() {
            return Class::Complex;
        }
        match self.policy {
            Policy::Any => Class::Any,
            Policy::All => Class::All,
            Policy::Quorum(_) => Class::Complex,
        }
    }

    pub(super) const fn entry(&self, seq: Seq) -> Entry {
        Entry { seq, bytes: self.bytes, since: self.since }
    }

    pub(super) fn queue_at(&mut self, seq: Seq, endpoint: &mut Endpoint) {
        if self.queued & endpoint.bit == 0 {
            self.queued |= endpoint.bit;
            if let Some(count) = endpoint.queued.get_mut(self.priority.index()) {
                *count += 1;
            }
            endpoint.queue.push(self.priority, self.entry(seq));
        }
    }

    pub(super) fn unqueue_at(&mut self, endpoint: &mut Endpoint) {
        if self.queued & endpoint.bit != 0 {
            self.queued &= !endpoint.bit;
            if let Some(count) = endpoint.queued.get_mut(self.priority.index()) {
                *count -= 1;
            }
        }
    }

    pub(super) fn of(&self, name: &str) -> Option<&EndpointHistory> {
        self.history.as_ref()?.of(name)
    }

    /// Notes a refusal. Who gave as many as `refusals_max` is not asked again either.
    pub(super) fn refuse(&mut self, attempt: Attempt) -> u32 {
        let history = self.history.get_or_insert_default();
        let name = attempt.endpoint.clone();
        history.attempts.push(attempt);
        if let Some(known) = history.endpoints.iter_mut().find(|known| known.endpoint == name) {
            known.refusals = known.refusals.saturating_add(1);
            known.standing = Standing::Final;
            return known.refusals;
        }
        let standing = Standing::Final;
        history.endpoints.push(EndpointHistory { endpoint: name, refusals: 1, standing });
        1
    }

    /// It waits for a retry.
    pub(super) const fn wait_at(&mut self, endpoint: &mut Endpoint) {
        if self.waiting & endpoint.bit == 0 {
            self.waiting |= endpoint.bit;
            endpoint.waiting += 1;
        }
    }

    /// Who refused it last is asked again when it is due.
    pub(super) fn note_due(&mut self, endpoint: &Endpoint, due: UnixMillis) {
        let endpoints = self.history.as_mut().map(|history| history.endpoints.iter_mut());
        for known in endpoints.into_iter().flatten() {
            if known.endpoint == endpoint.name {
                known.standing = Standing::Waiting { due };
            }
        }
    }

    /// When an endpoint that refused it is asked again, if it waits for that. A clock that is behind
    /// the refusal was set back since, and nobody knows how much of the wait is over.
    pub(super) fn waits_until(&self, name: &str, now: UnixMillis) -> Option<UnixMillis> {
        let history = self.history.as_ref()?;
        let due = match history.of(name)?.standing {
            Standing::Waiting { due } => due,
            Standing::Final => return None,
        };
        let last = history.attempts.iter().rev().find(|attempt| attempt.endpoint == name);
        let is_set_back = last.is_some_and(|last| last.at.saturating_since(now) >= SET_BACK_MIN);
        (due > now && !is_set_back).then_some(due)
    }

    /// Ends waiting for a retry, if it waits for one.
    pub(super) const fn stop_waiting(&mut self, endpoint: &mut Endpoint) -> bool {
        let is_waiting = self.waiting & endpoint.bit != 0;
        if is_waiting {
            self.waiting &= !endpoint.bit;
            endpoint.waiting -= 1;
        }
        is_waiting
    }

    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting != 0
    }

    pub(super) const fn history(&self) -> Option<&History> {
        match &self.history {
            Some(history) => Some(history),
            None => None,
        }
    }

    pub(super) fn into_attempts(self) -> Vec<Attempt> {
        self.history.map(|history| history.attempts).unwrap_or_default()
    }

    /// Forgets an endpoint that is gone; whether it had an answer of it. Its acknowledgement
    /// counts no more: were it to come back, it would count twice.
    pub(super) const fn forget(&mut self, bit: u64) {
        self.acked &= !bit;
        self.refused &= !bit;
    }

    const fn acks(&self) -> u32 {
        self.acked.count_ones()
    }

    const fn undecided(&self, enabled: u64) -> u32 {
        (enabled & !(self.acked | self.refused)).count_ones()
    }

    /// Whether its policy is met, answer or not.
    pub(super) fn is_met(&self, enabled: u64) -> bool {
        match self.policy {
            Policy::Any => self.acks() >= 1,
            Policy::Quorum(quorum) => self.acks() >= u32::from(quorum),
            // Nobody at all is not everybody: without an acknowledgement it waits for endpoints.
            Policy::All => self.acks() >= 1 && self.undecided(enabled) == 0 && self.refused == 0,
        }
    }

    /// Whether nobody else need have it. What has a key goes on to whoever is sent later ones of
    /// that key while its answer is awaited (M14).
    pub(super) fn is_spared(&self, enabled: u64) -> bool {
        self.key.is_none() && self.is_met(enabled)
    }

    pub(super) fn name(&self) -> Option<Name> {
        Some((self.key.clone()?, self.priority))
    }

    pub(super) fn verdict(&self, enabled: u64) -> Verdict {
        if self.is_met(enabled) {
            return if self.awaits_answer { Verdict::Answerless } else { Verdict::Settled };
        }
        let is_refused = self.refused != 0 && self.is_hopeless(enabled);
        if is_refused { Verdict::Refused } else { Verdict::Open }
    }

    /// Whether the refusals leave nobody who could still meet the policy.
    fn is_hopeless(&self, enabled: u64) -> bool {
        if self.is_any() {
            return true;
        }
        let undecided = self.undecided(enabled);
        if self.awaits_answer {
            // Whoever acknowledged it may still answer.
            return self.acks() == 0 && undecided == 0;
        }
        match self.policy {
            Policy::Any => true,
            Policy::Quorum(quorum) => self.acks() + undecided < u32::from(quorum),
            // The others still get it; then it is a dead letter.
            Policy::All => undecided == 0,
        }
    }

    /// Under `all`, the deadline ends the wait for those who did not acknowledge, if some did.
    pub(super) const fn is_settled_by_deadline(&self) -> bool {
        matches!(self.policy, Policy::All)
            && !self.awaits_answer
            && self.acks() >= 1
            && self.refused == 0
    }
}
