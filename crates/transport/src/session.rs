//! The delivery session `alys.stream.v1` on one stream, symmetric after the handshake.
//!
//! Pure: frames, orders and `now` in, frames and events out. It knows neither the log that records
//! come from nor the stream that frames go to; [`driver`] joins the three.
//!
//! Invariants, beside those of [`credit`], of acknowledgements, of [`handshake`] and of [`crate::health`]:
//! - T12: only what was sent in this session, or resumed by its handshake, can be acknowledged.
//! - T13: `settled_below` never goes back, and a record below it is refused.
//! - T14: while suspended or draining no data leaves; acknowledgements and heartbeats do.
//! - T31: a volatile record (of the memory class) takes credit like any other, and is never in
//!   flight, acknowledged or refused.
//! - T15: what the machine keeps is bounded by the credits granted, whatever the peer sends.
//! - T41: a record that was settled while it waited to leave, or on its way in parts, is not awaited
//!   and not applied.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::session::{self, AuthProof, Frame, GapCause, frame};
use alys_stream_protocol::time::UnixMillis;

use crate::exchange::{Nack, NackKind, Refusal};
use crate::health::{Beat, Health, Quality};

mod acks;
mod assembly;
mod busy;
pub mod credential;
pub mod credit;
pub mod driver;
mod event;
pub mod features;
mod flight;
mod gauge;
pub mod handshake;
mod inbound;
mod outbound;
pub mod rotation;
mod slicing;
mod squeeze;
#[cfg(test)]
mod tests;
mod violation;

pub use acks::AckConfig;
pub use event::{Dead, Event, LocalView, OverBudget, SessionConfig};
pub use gauge::Compression;
pub use handshake::{HandshakeError, Limits, Terms};
pub use violation::SessionViolation;

use acks::Acks;
use assembly::Assembly;
use busy::Busy;
use credential::{Due, Expiries};
use credit::{Credits, ReceiveCredit, SendCredit};
use features::Features;
use flight::Flight;
use rotation::StreamAge;
use slicing::Slicing;

/// The feature that a peer lists when it speaks sessions.
pub const FEATURE: &str = "alys.stream.v1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No new data; closes when nothing is in flight, or at the deadline.
    Draining {
        deadline: Instant,
        by_peer: bool,
    },
    /// A last `Refuse` is queued, if any; nothing else leaves.
    Closing,
}

/// One session on one stream.
#[derive(Debug)]
pub struct Session {
    terms: Terms,
    phase: Phase,
    /// The timer of a polite close.
    drain_at: Option<Instant>,
    health: Health,
    quality: Quality,
    send: SendCredit,
    receive: ReceiveCredit,
    features: Features,
    compression: Compression,
    acks: Acks,
    flight: Flight,
    slicing: Slicing,
    assembly: Assembly,
    busy: Busy,
    expiries: Expiries,
    /// When this stream has reached its age, and how long it is drained then.
    age: Option<(Instant, StreamAge)>,
    rotating: bool,
    last_ack_id: u64,
    /// The highest `settled_below` that the peer was told.
    told_settled_below: Seq,
    peer_settled_below: Seq,
    suspended_by_peer: bool,
    suspended_by_us: bool,
    heartbeat: Option<u64>,
    /// Only the last one is answered: the answer covers the earlier ones.
    heartbeat_ack: Option<(u64, i64)>,
    control: VecDeque<Frame>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session after its handshake.
    #[must_use]
    pub fn new(now: Instant, terms: Terms, config: SessionConfig) -> Self {
        let mut heartbeat = config.heartbeat;
        if let Some(interval) = terms.heartbeat_interval {
            heartbeat.interval = interval;
        }
        let largest = u64::from(terms.receive.message_bytes_max);
        let send_largest = u64::from(terms.send.message_bytes_max);
        Self {
            phase: Phase::Open,
            drain_at: None,
            health: Health::new(now, heartbeat),
            quality: Quality::Good,
            send: SendCredit::new(terms.send.credits, send_largest),
            receive: ReceiveCredit::new(terms.receive.credits, largest),
            features: Features::from_names(&terms.features),
            compression: config.compression,
            acks: Acks::new(config.acks),
            flight: Flight::new(config.acks.timeout, terms.highest_sent),
            slicing: Slicing::default(),
            assembly: Assembly::default(),
            busy: Busy::new(now),
            expiries: Expiries::default(),
            age: config.age.map(|age| (now + age.max, age)),
            rotating: false,
            last_ack_id: 0,
            told_settled_below: Seq(0),
            peer_settled_below: terms.peer_settled_below,
            suspended_by_peer: false,
            suspended_by_us: false,
            heartbeat: None,
            heartbeat_ack: None,
            control: VecDeque::new(),
            events: VecDeque::new(),
            terms,
        }
    }

    /// What was agreed.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Records taken to be sent and not yet acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.flight.count() + self.slicing.count()
    }

    /// Records that have left in full and that the peer neither acknowledged nor reported as in
    /// progress: only these may be called late. One that is still leaving in parts is not late on a
    /// link that is merely slow.
    #[must_use]
    pub const fn awaited(&self) -> u64 {
        self.flight.awaited()
    }

    /// Whether this side closes the stream for its age.
    #[must_use]
    pub const fn is_rotating(&self) -> bool {
        self.rotating
    }

    /// When our batches are compressed: as configured, if it was agreed.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        if self.features.zstd { self.compression } else { Compression::Off }
    }

    /// The credit left.
    #[must_use]
    pub const fn credit(&self) -> Credits {
        self.send.available()
    }

    /// Records received and not yet dealt with.
    #[must_use]
    pub const fn processing(&self) -> Credits {
        self.receive.processing()
    }

    /// Whether either side holds back data.
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        self.suspended_by_peer || self.suspended_by_us
    }

    /// Whether a polite close is under way, and whether the peer asked for it.
    #[must_use]
    pub const fn draining_by_peer(&self) -> Option<bool> {
        match self.phase {
            Phase::Draining { by_peer, .. } => Some(by_peer),
            Phase::Open | Phase::Closing => None,
        }
    }

    /// Whether nothing is left to do: the sending side may be closed.
    #[must_use]
    pub fn is_finished(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Draining { deadline, .. } => {
                let idle = self.flight.is_empty()
                    && !self.slicing.is_begun()
                    && self.receive.processing().messages == 0
                    && self.control.is_empty()
                    && self.acks.is_idle();
                idle || now >= deadline
            }
            Phase::Closing => self.control.is_empty(),
        }
    }

    /// One received record is durably stored, or of the memory class and handed on; `bytes` is the
    /// length of its payload.
    pub fn handle_stored(&mut self, now: Instant, seq: Seq, bytes: u64) {
        if !seq.is_volatile() {
            self.acks.handle_stored(now, seq, bytes);
        }
        self.dealt_with(now, bytes);
        self.hurry(now);
    }

    /// A record that was reported as in progress is stored now. Its credit went back then.
    pub fn handle_stored_late(&mut self, now: Instant, seq: Seq) {
        if seq.is_volatile() {
            return;
        }
        self.acks.handle_stored(now, seq, 0);
        self.hurry(now);
    }

    /// One received record is not stored: the peer is told, unless the record is volatile.
    pub fn handle_refused(&mut self, now: Instant, nack: Nack, bytes: u64) {
        self.dealt_with(now, bytes);
        if nack.seq.is_volatile() {
            return;
        }
        let (kind, after) = match nack.kind {
            NackKind::Retry { after } => (session::NackKind::Retry, after),
            NackKind::Terminal => (session::NackKind::Terminal, None),
            NackKind::InProgress => (session::NackKind::InProgress, None),
        };
        let after = after.map_or(0, |after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX));
        self.push(frame::Kind::Nack(session::Nack {
            seq: nack.seq.0,
            kind: kind.into(),
            retry_after_ms: after,
            code: nack.code,
            text: nack.text,
        }));
    }

    /// Asks the peer to send no data until [`Session::handle_resume`].
    pub fn handle_suspend(&mut self, reason: String) {
        self.suspended_by_us = true;
        self.push(frame::Kind::Suspend(session::Suspend { reason }));
    }

    /// Data may flow again, as far as we are concerned.
    pub fn handle_resume(&mut self, reason: String) {
        self.suspended_by_us = false;
        self.push(frame::Kind::Resume(session::Resume { reason }));
    }

    /// Closes politely: nothing new leaves, what is in flight may finish until the deadline.
    pub fn handle_drain(&mut self, now: Instant, deadline: Duration, reason: String) {
        if self.phase != Phase::Open {
            return;
        }
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.push(frame::Kind::Drain(session::Drain { deadline_ms, reason }));
        self.phase = Phase::Draining { deadline: now + deadline, by_peer: false };
        self.drain_at = Some(now + deadline);
        self.acks.flush(now);
    }

    /// Closes at once, telling the peer why.
    pub fn handle_refuse(&mut self, refusal: &Refusal) {
        self.control.clear();
        self.control.push_back(handshake::refuse(refusal));
        self.phase = Phase::Closing;
    }

    /// Takes note of when the proofs of both sides expire.
    pub fn handle_expiries(
        &mut self,
        now: Instant,
        wall: UnixMillis,
        ours: Option<UnixMillis>,
        theirs: Option<UnixMillis>,
    ) {
        self.expiries.set_ours(now, wall, ours);
        self.expiries.set_theirs(now, wall, theirs);
    }

    /// The peer's renewed proof was found good until then.
    pub fn handle_verified(&mut self, now: Instant, wall: UnixMillis, until: Option<UnixMillis>) {
        self.expiries.set_theirs(now, wall, until);
    }

    /// There is no better proof yet than the one shown, which is good until then: asks again.
    pub fn handle_not_renewed(
        &mut self,
        now: Instant,
        wall: UnixMillis,
        until: Option<UnixMillis>,
    ) {
        self.expiries.set_ours(now, wall, until);
    }

    /// Renews our credential in band.
    pub fn handle_auth_refresh(&mut self, now: Instant, wall: UnixMillis, auth: AuthProof) {
        self.expiries.set_ours(now, wall, credential::expiry(&auth));
        self.push(frame::Kind::AuthRefresh(session::AuthRefresh { auth: Some(auth) }));
    }

    /// Reports a hole in our log (D5).
    pub fn handle_gap(&mut self, range: &RangeInclusive<Seq>, cause: GapCause, text: String) {
        let range = session::SeqRange { first: range.start().0, last: range.end().0 };
        self.push(frame::Kind::Gap(session::Gap { range: Some(range), cause: cause.into(), text }));
    }

    /// Lets timers act.
    ///
    /// # Errors
    ///
    /// When the peer is dead.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Dead> {
        self.acks.handle_timeout(now);
        if self.drain_at.is_some_and(|at| now >= at) {
            self.drain_at = None;
        }
        if let Some((at, age)) = self.age
            && now >= at
        {
            self.age = None;
            self.rotating = self.phase == Phase::Open;
            self.handle_drain(now, age.drain, "the stream has reached its age".to_owned());
        }
        match self.expiries.poll_due(now) {
            Some(Due::Renew) => self.events.push_back(Event::RenewDue),
            Some(Due::Expired) => self.events.push_back(Event::CredentialExpired),
            None => {}
        }
        match self.health.handle_timeout(now) {
            Beat::Wait => {}
            Beat::Send(sequence) => self.heartbeat = Some(sequence),
            Beat::Dead(missed) => return Err(Dead::Silent { missed }),
        }
        if let Some((seq, waited)) = self.flight.overdue(now) {
            return Err(Dead::Unacknowledged { seq, waited });
        }
        self.report_quality();
        Ok(())
    }

    /// When [`Session::handle_timeout`] or [`Session::poll_frame`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        [
            self.acks.poll_timeout(),
            self.flight.poll_timeout(),
            self.drain_at,
            self.age.map(|(at, _)| at),
            self.expiries.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .fold(self.health.poll_timeout(), Instant::min)
    }

    /// The next control frame: they bypass data.
    pub fn poll_frame(&mut self, now: Instant, view: LocalView) -> Option<Frame> {
        if self.phase == Phase::Closing {
            return self.control.pop_front();
        }
        if let Some((sequence, sent_at_ms)) = self.heartbeat_ack.take() {
            let view = LocalView { acks_durable: self.echo(view), ..view };
            self.told(view);
            return Some(heartbeat_ack(sequence, sent_at_ms, view, self.load(now)));
        }
        if let Some(ack) = self.acks.poll_ack(now) {
            return Some(frame::Kind::Ack(ack).into());
        }
        if let Some(grant) = self.receive.poll_grant() {
            let credit = session::Credit { messages: grant.messages, bytes: grant.bytes };
            return Some(frame::Kind::Credit(credit).into());
        }
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        let sequence = self.heartbeat.take()?;
        self.told(view);
        let heartbeat = session::Heartbeat {
            sequence,
            sent_at_ms: UnixMillis::to_wire(Some(view.wall)),
            acks_durable: self.echo(view),
            settled_below: view.settled_below.0,
            load: Some(self.load(now)),
        };
        Some(frame::Kind::Heartbeat(heartbeat).into())
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn push(&mut self, kind: frame::Kind) {
        if self.phase != Phase::Closing {
            self.control.push_back(kind.into());
        }
    }

    /// A received record is stored, refused or given up.
    fn dealt_with(&mut self, now: Instant, bytes: u64) {
        self.receive.dealt_with(Credits { messages: 1, bytes });
        self.busy.handle(now, self.receive.processing().messages > 0);
    }

    fn told(&mut self, view: LocalView) {
        self.told_settled_below = self.told_settled_below.max(view.settled_below);
    }

    /// While draining nothing waits for a fuller acknowledgement.
    fn hurry(&mut self, now: Instant) {
        if let Phase::Draining { .. } = self.phase {
            self.acks.flush(now);
        }
    }

    /// Never more than this session was told: a settlement of an earlier one echoes nothing here.
    fn echo(&self, view: LocalView) -> u64 {
        view.acks_durable.min(self.last_ack_id)
    }

    fn report_quality(&mut self) {
        let quality = self.health.quality();
        if quality != self.quality {
            self.quality = quality;
            self.events.push_back(Event::Quality(quality));
        }
    }

    fn load(&mut self, now: Instant) -> session::LoadReport {
        let queued_messages = self.receive.processing().messages;
        session::LoadReport { queued_messages, busy_permille: self.busy.permille(now) }
    }
}

fn heartbeat_ack(
    sequence: u64,
    sent_at_ms: i64,
    view: LocalView,
    load: session::LoadReport,
) -> Frame {
    frame::Kind::HeartbeatAck(session::HeartbeatAck {
        sequence,
        sent_at_ms,
        acks_durable: view.acks_durable,
        settled_below: view.settled_below.0,
        load: Some(load),
    })
    .into()
}
