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
//! - T59: a record that was settled while it waited to leave, or on its way in parts, is not awaited
//!   and not applied.

use std::collections::VecDeque;
use std::time::Instant;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::session::{self, Frame, frame};

use crate::exchange::{Nack, NackKind};
use crate::health::{Beat, Health, Quality};

mod acks;
mod assembly;
mod busy;
mod control;
mod counting;
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
pub(crate) use counting::check_frame;
pub use counting::{FRAME_ITEMS_MAX, FRAME_RECORDS_MAX};
pub use event::{Dead, Event, LocalView, OverBudget, SessionConfig};
pub use gauge::Compression;
pub use handshake::{HandshakeError, Limits, Terms};
pub use squeeze::Inflate;
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

    /// Nothing that was received is being stored any more: an acknowledgement would wait for nothing
    /// but its timer, so it leaves now.
    pub fn handle_all_stored(&mut self, now: Instant) {
        self.acks.flush(now);
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

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A received record is stored, refused or given up.
    fn dealt_with(&mut self, now: Instant, bytes: u64) {
        self.receive.dealt_with(Credits { messages: 1, bytes });
        self.busy.handle(now, self.receive.processing().messages > 0);
    }

    fn told(&mut self, view: LocalView) {
        self.told_settled_below = self.told_settled_below.max(view.settled.below);
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
}
