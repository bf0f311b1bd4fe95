//! What this side says beside data: control frames, and the orders that lead to them.
//!
//! They bypass data: whatever is due is said before the next batch.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::session::{self, AuthProof, Frame, GapCause, frame};
use alys_stream_protocol::time::UnixMillis;

use super::event::{Event, LocalView};
use super::{Phase, Session, credential, handshake};
use crate::exchange::Refusal;

impl Session {
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
        self.push(frame::Kind::Drain(session::Drain { deadline_ms, reason: reason.clone() }));
        self.phase = Phase::Draining { deadline: now + deadline, by_peer: false };
        self.drain_at = Some(now + deadline);
        self.acks.flush(now);
        self.events.push_back(Event::Draining { deadline, reason, by_peer: false });
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
        // Before more credit: a peer whose every record is refused gets none until it was told so,
        // and what waits to be told is no more than one window (T15).
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        if let Some(grant) = self.receive.poll_grant() {
            let credit = session::Credit { messages: grant.messages, bytes: grant.bytes };
            return Some(frame::Kind::Credit(credit).into());
        }
        let sequence = self.heartbeat.take()?;
        self.told(view);
        let heartbeat = session::Heartbeat {
            sequence,
            sent_at_ms: UnixMillis::to_wire(Some(view.wall)),
            acks_durable: self.echo(view),
            settled_below: view.settled.below.0,
            settled_count: view.settled.count,
            load: Some(self.load(now)),
        };
        Some(frame::Kind::Heartbeat(heartbeat).into())
    }

    pub(super) fn push(&mut self, kind: frame::Kind) {
        if self.phase != Phase::Closing {
            self.control.push_back(kind.into());
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
        settled_below: view.settled.below.0,
        settled_count: view.settled.count,
        load: Some(load),
    })
    .into()
}
