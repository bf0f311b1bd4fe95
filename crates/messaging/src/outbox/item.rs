//! What the outbox knows of one message: small, since there may be millions.

use alys_stream_protocol::message::{OrderingKey, Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

use super::endpoint::Endpoint;
use super::{Attempt, EndpointId};
use crate::queue::Entry;
use crate::record::RecordMeta;
use crate::router::{Policy, Route};

/// One message. Sets of endpoints are bits, see [`Endpoint::bit`].
#[derive(Debug)]
pub(super) struct Item {
    pub(super) priority: Priority,
    pub(super) policy: Policy,
    awaits_answer: bool,
    /// Whether anybody was sent it.
    pub(super) is_sent: bool,
    bytes: u32,
    since: UnixMillis,
    pub(super) deadline: Option<UnixMillis>,
    pub(super) key: Option<OrderingKey>,
    /// Who is to get it.
    pub(super) targets: u64,
    pub(super) queued: u64,
    pub(super) in_flight: u64,
    /// Who refused it and will be asked again.
    waiting: u64,
    acked: u64,
    /// Who refused it for good.
    pub(super) refused: u64,
    /// Most messages are never refused.
    refusals: Option<Box<Refusals>>,
}

#[derive(Debug, Default)]
struct Refusals {
    attempts: Vec<Attempt>,
    due: Vec<(EndpointId, UnixMillis)>,
    avoid: Option<EndpointId>,
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
    pub(super) fn new(meta: RecordMeta, route: Route) -> Self {
        Self {
            priority: meta.priority,
            policy: route.policy,
            awaits_answer: route.awaits_answer,
            is_sent: false,
            bytes: meta.payload_bytes,
            since: meta.accepted_at,
            deadline: meta.deadline,
            key: meta.ordering_key,
            targets: 0,
            queued: 0,
            in_flight: 0,
            waiting: 0,
            acked: 0,
            refused: 0,
            refusals: None,
        }
    }

    pub(super) const fn entry(&self, seq: Seq) -> Entry {
        Entry { seq, bytes: self.bytes, since: self.since }
    }

    pub(super) fn queue_at(&mut self, seq: Seq, endpoint: &mut Endpoint) {
        if self.queued & endpoint.bit == 0 {
            self.queued |= endpoint.bit;
            endpoint.queued += 1;
            endpoint.queue.push(self.priority, self.entry(seq));
        }
    }

    pub(super) const fn unqueue_at(&mut self, endpoint: &mut Endpoint) {
        if self.queued & endpoint.bit != 0 {
            self.queued &= !endpoint.bit;
            endpoint.queued -= 1;
        }
    }

    pub(super) fn wait_at(&mut self, bit: u64, id: EndpointId, due: UnixMillis) {
        self.waiting |= bit;
        self.refusals.get_or_insert_default().due.push((id, due));
    }

    /// Ends waiting for a retry; returns when it was due.
    pub(super) fn stop_waiting(&mut self, bit: u64, id: EndpointId) -> Option<UnixMillis> {
        if self.waiting & bit == 0 {
            return None;
        }
        self.waiting &= !bit;
        let due = &mut self.refusals.as_mut()?.due;
        let at = due.iter().position(|(other, _)| *other == id)?;
        Some(due.swap_remove(at).1)
    }

    pub(super) fn due_at(&self, id: EndpointId) -> Option<UnixMillis> {
        let due = &self.refusals.as_ref()?.due;
        due.iter().find(|(other, _)| *other == id).map(|(_, at)| *at)
    }

    pub(super) const fn acknowledge(&mut self, bit: u64) {
        self.in_flight &= !bit;
        self.acked |= bit;
    }

    const fn acks(&self) -> u32 {
        self.acked.count_ones()
    }

    /// Notes a refusal; returns how many that endpoint gave.
    pub(super) fn refuse(&mut self, attempt: Attempt) -> u32 {
        let attempts = &mut self.refusals.get_or_insert_default().attempts;
        let endpoint = attempt.endpoint;
        attempts.push(attempt);
        let count = attempts.iter().filter(|attempt| attempt.endpoint == endpoint).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(super) fn avoid(&mut self, id: EndpointId) {
        self.refusals.get_or_insert_default().avoid = Some(id);
    }

    pub(super) fn is_avoiding(&self, id: EndpointId) -> bool {
        self.refusals.as_ref().is_some_and(|refusals| refusals.avoid == Some(id))
    }

    pub(super) fn into_attempts(self) -> Vec<Attempt> {
        self.refusals.map(|refusals| refusals.attempts).unwrap_or_default()
    }

    /// Forgets an endpoint that is gone; whether it had anything to do with it. Its
    /// acknowledgement counts no more: were it to come back, it would count twice.
    pub(super) fn forget(&mut self, id: EndpointId, bit: u64) -> bool {
        let is_concerned = self.targets & bit != 0;
        self.stop_waiting(bit, id);
        self.targets &= !bit;
        self.queued &= !bit;
        self.in_flight &= !bit;
        self.acked &= !bit;
        self.refused &= !bit;
        is_concerned
    }

    const fn undecided(&self) -> u32 {
        (self.targets & !(self.acked | self.refused)).count_ones()
    }

    /// Whether its policy is met, answer or not.
    pub(super) fn is_met(&self) -> bool {
        match self.policy {
            Policy::Any => self.acks() >= 1,
            Policy::Quorum(quorum) => self.acks() >= u32::from(quorum),
            // Nobody at all is not everybody: without an acknowledgement it waits for endpoints.
            Policy::All => self.acks() >= 1 && self.undecided() == 0 && self.refused == 0,
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        if self.is_met() {
            return if self.awaits_answer { Verdict::Answerless } else { Verdict::Settled };
        }
        if self.refused != 0 && self.is_hopeless() { Verdict::Refused } else { Verdict::Open }
    }

    /// Whether the refusals leave nobody who could still meet the policy.
    fn is_hopeless(&self) -> bool {
        if self.awaits_answer {
            // Whoever acknowledged it may still answer.
            return self.acks() == 0 && self.undecided() == 0;
        }
        match self.policy {
            Policy::Any => true,
            Policy::Quorum(quorum) => self.acks() + self.undecided() < u32::from(quorum),
            // The others still get it; then it is a dead letter.
            Policy::All => self.undecided() == 0,
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
