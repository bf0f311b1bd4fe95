//! Peers that speak only `governance.v1`: what is in flight, and when it is settled.
//!
//! Pure. Not the stream: [`crate::grpc`] carries the bytes. There are no sequence numbers on this
//! wire: requests are known by their request id, and a message that is not answered is settled by
//! the *heartbeat barrier*: the answer to a heartbeat sent after it proves that the peer's reader
//! consumed it. That promises less than a session does: at least once.
//!
//! Invariants:
//! - T26: a signature request is settled by a final answer only: neither `PENDING`, nor a bare
//!   `SUCCESS`, nor a barrier settles it.
//! - T27: a barrier settles only what was sent before its heartbeat.
//! - T28: what is in flight is bounded in messages and in bytes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use alys_stream_protocol::governance::{
    HealthStatus, Heartbeat, RequestMetadata, RequestPriority, StreamRequest, stream_request,
};
use alys_stream_protocol::limits;
use alys_stream_protocol::message::{MessageId, MessageKind, Seq};
use alys_stream_protocol::time::UnixMillis;

use crate::exchange::{Budget, Nack, NackKind, NackOrigin, OutboundRecord};
use crate::health::{Beat, Health, HeartbeatConfig, Quality, Rtt};
use crate::session::Dead;

pub(crate) mod answer;
#[cfg(test)]
mod tests;

/// The value of `protocol_version` in what we send.
pub const PROTOCOL_VERSION: &str = "governance.v1";

/// The knobs of a plain stream.
#[derive(Debug, Clone, Copy)]
pub struct PlainConfig {
    /// Most messages in flight.
    pub in_flight_messages_max: u32,
    /// Most payload bytes in flight.
    pub in_flight_bytes_max: u64,
    /// A message waits so long for company before a barrier is sent for it.
    pub barrier_delay: Duration,
    /// A request without a deadline of its own waits so long for its answer.
    pub answer_max: Duration,
    /// Heartbeats.
    pub heartbeat: HeartbeatConfig,
}

impl Default for PlainConfig {
    fn default() -> Self {
        Self {
            in_flight_messages_max: limits::CREDIT_MESSAGES,
            in_flight_bytes_max: limits::CREDIT_BYTES,
            barrier_delay: Duration::from_millis(200),
            answer_max: Duration::from_secs(120),
            heartbeat: HeartbeatConfig::default(),
        }
    }
}

/// What an answer or a timer led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer has it.
    Settled(Seq),
    /// The peer did not take it.
    Nacked(Nack),
    /// A heartbeat was answered.
    Alive(Rtt),
    /// The link got better or worse.
    Quality(Quality),
    /// The peer wants nothing for a while.
    Suspended {
        /// Why.
        reason: String,
        /// How long.
        resume_after: Duration,
    },
    /// That while is over.
    Resumed,
    /// The peer does not know us any more: connect and register again.
    Reauthenticate {
        /// Why.
        reason: String,
    },
    /// The response carries something for the owner of the messages.
    Deliver,
}

#[derive(Debug)]
struct Pending {
    seq: Seq,
    kind: MessageKind,
    bytes: u64,
    /// The number of the last heartbeat before it was sent, the last time.
    after: u64,
}

/// A message that a barrier may settle, in the order sent.
#[derive(Debug)]
struct Uncovered {
    /// The number of the last heartbeat before it.
    after: u64,
    id: MessageId,
    seq: Seq,
}

/// The messages in flight on one plain stream.
#[derive(Debug)]
pub struct Plain {
    config: PlainConfig,
    node_id: String,
    health: Health,
    quality: Quality,
    pending: BTreeMap<MessageId, Pending>,
    pending_bytes: u64,
    uncovered: VecDeque<Uncovered>,
    /// When each request stops waiting for its answer.
    answers_due: BTreeMap<(Instant, Seq), MessageId>,
    barrier_at: Option<Instant>,
    heartbeat: Option<u64>,
    resume_at: Option<Instant>,
    events: VecDeque<Event>,
}

impl Plain {
    /// A stream whose registration was acknowledged.
    #[must_use]
    pub const fn new(now: Instant, node_id: String, config: PlainConfig) -> Self {
        Self {
            health: Health::new(now, config.heartbeat),
            quality: Quality::Good,
            config,
            node_id,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            uncovered: VecDeque::new(),
            answers_due: BTreeMap::new(),
            barrier_at: None,
            heartbeat: None,
            resume_at: None,
            events: VecDeque::new(),
        }
    }

    /// Messages in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.pending.len()).unwrap_or(u64::MAX)
    }

    /// Whether the peer wants nothing for now.
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        self.resume_at.is_some()
    }

    /// How much may be sent now (T28).
    #[must_use]
    pub fn poll_budget(&self) -> Option<Budget> {
        let used = u32::try_from(self.pending.len()).unwrap_or(u32::MAX);
        let messages = self.config.in_flight_messages_max.saturating_sub(used);
        let bytes = self.config.in_flight_bytes_max.saturating_sub(self.pending_bytes);
        if messages == 0 || bytes == 0 || self.is_suspended() {
            return None;
        }
        let batch = u32::try_from(limits::BATCH_RECORDS_MAX).unwrap_or(u32::MAX);
        Some(Budget::new(messages.min(batch), bytes))
    }

    /// Takes note of a record that goes out now; `false` when this wire cannot carry it, which is
    /// then reported as refused. A volatile one is never in flight.
    pub fn handle_send(&mut self, now: Instant, wall: UnixMillis, record: &OutboundRecord) -> bool {
        let message = &record.message;
        if message.kind.is_application() {
            if record.seq.is_volatile() {
                return false;
            }
            let text = format!("{} cannot be carried by a governance.v1 stream", message.kind);
            self.refuse_locally(record.seq, text);
            return false;
        }
        if record.seq.is_volatile() {
            // Sent and forgotten: nobody waits for its acknowledgement.
            return true;
        }
        let bytes = u64::try_from(message.payload.len()).unwrap_or(u64::MAX);
        let after = self.health.sequence();
        let pending = Pending { seq: record.seq, kind: message.kind, bytes, after };
        self.pending_bytes = self.pending_bytes.saturating_add(bytes);
        if let Some(replaced) = self.pending.insert(message.id, pending) {
            self.pending_bytes = self.pending_bytes.saturating_sub(replaced.bytes);
        }
        if is_answered(message.kind) {
            let wait = message
                .deadline
                .map_or(self.config.answer_max, |deadline| deadline.saturating_since(wall));
            self.answers_due.insert((now + wait, record.seq), message.id);
            return true;
        }
        self.uncovered.push_back(Uncovered { after, id: message.id, seq: record.seq });
        let half = self.in_flight() * 2 >= u64::from(self.config.in_flight_messages_max);
        let barrier_at = if half { now } else { now + self.config.barrier_delay };
        self.barrier_at = Some(self.barrier_at.map_or(barrier_at, |at| at.min(barrier_at)));
        true
    }

    /// Lets timers act.
    ///
    /// # Errors
    ///
    /// When the peer is dead.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Dead> {
        if self.resume_at.is_some_and(|at| now >= at) {
            self.resume_at = None;
            self.events.push_back(Event::Resumed);
        }
        while let Some(((due, seq), id)) = self.answers_due.first_key_value().map(|(k, v)| (*k, *v))
            && due <= now
        {
            self.answers_due.remove(&(due, seq));
            if self.pending.get(&id).is_some_and(|pending| pending.seq == seq) {
                self.forget(&id);
                let text = "no answer in time".to_owned();
                self.refuse_locally(seq, text);
            }
        }
        match self.health.handle_timeout(now) {
            Beat::Wait => {}
            Beat::Send(sequence) => self.beat(sequence),
            Beat::Dead(missed) => return Err(Dead::Silent { missed }),
        }
        if self.barrier_at.is_some_and(|at| now >= at) {
            let sequence = self.health.handle_extra(now);
            self.beat(sequence);
        }
        self.report_quality();
        Ok(())
    }

    /// When [`Plain::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let answer = self.answers_due.first_key_value().map(|((due, _), _)| *due);
        [self.barrier_at, self.resume_at, answer]
            .into_iter()
            .flatten()
            .fold(self.health.poll_timeout(), Instant::min)
    }

    /// Whether [`Plain::poll_heartbeat`] has one.
    #[must_use]
    pub const fn wants_heartbeat(&self) -> bool {
        self.heartbeat.is_some()
    }

    /// The heartbeat that is due, regular or as a barrier.
    pub fn poll_heartbeat(&mut self, wall: UnixMillis) -> Option<StreamRequest> {
        let sequence = self.heartbeat.take()?;
        let timestamp = wall.as_unix_seconds();
        Some(StreamRequest {
            metadata: Some(RequestMetadata {
                request_id: format!("heartbeat-{sequence}"),
                timestamp,
                node_id: self.node_id.clone(),
                protocol_version: PROTOCOL_VERSION.to_owned(),
                priority: RequestPriority::High.into(),
                timeout: None,
            }),
            payload: Some(stream_request::Payload::Heartbeat(Heartbeat {
                timestamp,
                sequence,
                health: HealthStatus::Healthy.into(),
            })),
        })
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn beat(&mut self, sequence: u64) {
        self.heartbeat = Some(sequence);
        self.barrier_at = None;
    }

    fn report_quality(&mut self) {
        let quality = self.health.quality();
        if quality != self.quality {
            self.quality = quality;
            self.events.push_back(Event::Quality(quality));
        }
    }

    fn forget(&mut self, id: &MessageId) -> Option<Pending> {
        let pending = self.pending.remove(id)?;
        self.pending_bytes = self.pending_bytes.saturating_sub(pending.bytes);
        Some(pending)
    }

    fn refuse(&mut self, seq: Seq, kind: NackKind, code: u32, text: String) {
        let origin = NackOrigin::Peer;
        self.events.push_back(Event::Nacked(Nack { seq, origin, kind, code, text }));
    }

    /// Without a word of the peer: another endpoint may do better, and this one is no worse for it.
    fn refuse_locally(&mut self, seq: Seq, text: String) {
        let (origin, kind) = (NackOrigin::Local, NackKind::Retry { after: None });
        self.events.push_back(Event::Nacked(Nack { seq, origin, kind, code: 0, text }));
    }
}

/// Whether the published protocol answers this kind with a message of its own.
const fn is_answered(kind: MessageKind) -> bool {
    kind.0 == MessageKind::SIGNATURE_REQUEST.0
}
