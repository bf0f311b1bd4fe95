//! Frames of the peer: checked against what was agreed, then turned into events.

use std::time::{Duration, Instant};

use alys_stream_protocol::limits;
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::session::{self, Data, Frame, GapCause, frame};

use super::credit::Credits;
use super::handshake::{ranges, read_refusal};
use super::violation::SessionViolation;
use super::{Event, Phase, Session};
use crate::bounded;
use crate::exchange::{InboundRecord, Nack, NackKind};

impl Session {
    /// Takes one frame of the peer. What it leads to is returned by [`Session::poll_event`].
    ///
    /// # Errors
    ///
    pub fn handle_frame(&mut self, now: Instant, frame: Frame) -> Result<(), SessionViolation> {
        match frame.kind {
            None => Err(SessionViolation::UnknownFrame),
            Some(frame::Kind::Hello(_)) => Err(SessionViolation::LateHandshake("hello")),
            Some(frame::Kind::Welcome(_)) => Err(SessionViolation::LateHandshake("welcome")),
            Some(frame::Kind::Data(data)) => self.handle_data(data),
            Some(frame::Kind::Ack(ack)) => self.handle_ack(&ack),
            Some(frame::Kind::Nack(nack)) => self.handle_nack(nack),
            Some(frame::Kind::Credit(credit)) => {
                let more = Credits { messages: credit.messages, bytes: credit.bytes };
                self.send.grant(more);
                Ok(())
            }
            Some(frame::Kind::Heartbeat(beat)) => {
                self.handle_settled(beat.settled_below, beat.acks_durable)?;
                self.heartbeat_ack = Some((beat.sequence, beat.sent_at_ms));
                Ok(())
            }
            Some(frame::Kind::HeartbeatAck(ack)) => self.handle_heartbeat_ack(now, &ack),
            Some(frame::Kind::Gap(gap)) => self.handle_peer_gap(gap),
            Some(frame::Kind::AuthRefresh(refresh)) => {
                let missing =
                    SessionViolation::Meaningless { field: "auth_refresh.auth", found: 0 };
                let auth = refresh.auth.ok_or(missing)?;
                self.emit(Event::AuthRefreshed(auth));
                Ok(())
            }
            Some(frame::Kind::Suspend(suspend)) => {
                self.suspended_by_peer = true;
                self.emit(Event::Suspended { reason: bounded(suspend.reason) });
                Ok(())
            }
            Some(frame::Kind::Resume(resume)) => {
                self.suspended_by_peer = false;
                self.emit(Event::Resumed { reason: bounded(resume.reason) });
                Ok(())
            }
            Some(frame::Kind::Drain(drain)) => {
                self.handle_peer_drain(now, drain);
                Ok(())
            }
            Some(frame::Kind::Refuse(refused)) => {
                self.phase = Phase::Closing;
                self.control.clear();
                self.emit(Event::Refused(read_refusal(refused)));
                Ok(())
            }
        }
    }

    fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn handle_data(&mut self, data: Data) -> Result<(), SessionViolation> {
        if !data.compressed.is_empty() || data.uncompressed_bytes != 0 {
            return Err(SessionViolation::NotAgreed("a compressed batch"));
        }
        let count = data.records.len();
        if count > limits::BATCH_RECORDS_MAX {
            let count_max = limits::BATCH_RECORDS_MAX;
            return Err(SessionViolation::BatchTooLong { count, count_max });
        }
        let settled_below = self.settled_below(data.settled_below)?;
        let bytes_max = u64::from(self.terms.receive.message_bytes_max);
        let mut cost = Credits { messages: u32::try_from(count).unwrap_or(u32::MAX), bytes: 0 };
        let mut records = Vec::with_capacity(count);
        for record in data.records {
            let number = record.seq;
            let (seq, message) = record
                .try_into_message()
                .map_err(|problem| SessionViolation::Record { seq: number, problem })?;
            let bytes = u64::try_from(message.payload.len()).unwrap_or(u64::MAX);
            if bytes > bytes_max {
                return Err(SessionViolation::MessageTooLarge { seq, bytes, bytes_max });
            }
            if seq < settled_below && !seq.is_volatile() {
                return Err(SessionViolation::SettledRecord { seq, settled_below });
            }
            cost.bytes = cost.bytes.saturating_add(bytes);
            records.push(InboundRecord { seq, message });
        }
        if !self.receive.receive(cost) {
            let Credits { messages, bytes } = cost;
            return Err(SessionViolation::CreditExceeded { messages, bytes });
        }
        self.handle_settled(data.settled_below, data.acks_durable)?;
        if !records.is_empty() {
            self.emit(Event::Received(records));
        }
        Ok(())
    }

    fn handle_ack(&mut self, ack: &session::Ack) -> Result<(), SessionViolation> {
        if ack.ack_id != self.last_ack_id + 1 {
            return Err(SessionViolation::AckId { last: self.last_ack_id, found: ack.ack_id });
        }
        let set = ranges("ack.ranges", &ack.ranges)?;
        if let Some(seq) = set.last() {
            self.check_sent("ack", seq)?;
        }
        let ranges = self.flight.handle_acked(&set);
        self.last_ack_id = ack.ack_id;
        // An acknowledgement of nothing new is reported too: its id has to be echoed.
        self.emit(Event::Acked { ack_id: ack.ack_id, ranges });
        Ok(())
    }

    fn handle_nack(&mut self, nack: session::Nack) -> Result<(), SessionViolation> {
        let seq = Seq(nack.seq);
        if seq.is_volatile() {
            return Err(SessionViolation::Meaningless { field: "nack.seq", found: 0 });
        }
        self.check_sent("nack", seq)?;
        let after = u64::from(nack.retry_after_ms);
        let after = (after > 0).then(|| Duration::from_millis(after));
        let kind = match session::NackKind::try_from(nack.kind) {
            Ok(session::NackKind::Retry) => NackKind::Retry { after },
            Ok(session::NackKind::Terminal) => NackKind::Terminal,
            Ok(session::NackKind::InProgress) => NackKind::InProgress,
            Ok(session::NackKind::Unspecified) | Err(_) => {
                let found = i64::from(nack.kind);
                return Err(SessionViolation::Meaningless { field: "nack.kind", found });
            }
        };
        let known = match kind {
            NackKind::InProgress => self.flight.handle_in_progress(seq),
            NackKind::Retry { .. } | NackKind::Terminal => self.flight.handle_refused(seq),
        };
        if !known {
            return Ok(());
        }
        let text = bounded(nack.text);
        self.emit(Event::Nacked(Nack { seq, kind, code: nack.code, text }));
        Ok(())
    }

    fn handle_heartbeat_ack(
        &mut self,
        now: Instant,
        ack: &session::HeartbeatAck,
    ) -> Result<(), SessionViolation> {
        self.handle_settled(ack.settled_below, ack.acks_durable)?;
        if self.health.handle_ack(now, ack.sequence).is_some() {
            self.report_quality();
            if let Some(rtt) = self.health.rtt() {
                self.emit(Event::Alive { rtt });
            }
        }
        Ok(())
    }

    fn handle_peer_gap(&mut self, gap: session::Gap) -> Result<(), SessionViolation> {
        let wire = gap.range.unwrap_or_default();
        let set = ranges("gap.range", &[wire])?;
        let cause = GapCause::try_from(gap.cause).unwrap_or_default();
        if let Some(range) = set.ranges().next() {
            self.emit(Event::Gap { range, cause, text: bounded(gap.text) });
        }
        Ok(())
    }

    fn handle_peer_drain(&mut self, now: Instant, drain: session::Drain) {
        let deadline = Duration::from_millis(u64::from(drain.deadline_ms));
        if self.phase == Phase::Open {
            self.phase = Phase::Draining { deadline: now + deadline, by_peer: true };
            self.drain_at = Some(now + deadline);
        }
        self.acks.flush(now);
        self.emit(Event::Draining { deadline, reason: bounded(drain.reason) });
    }

    fn check_sent(&self, frame: &'static str, seq: Seq) -> Result<(), SessionViolation> {
        let last_sent = self.flight.highest_sent();
        if seq > last_sent {
            return Err(SessionViolation::NeverSent { frame, seq, last_sent });
        }
        Ok(())
    }

    /// Reads `settled_below`; 0 says nothing new.
    fn settled_below(&self, value: u64) -> Result<Seq, SessionViolation> {
        let (last, found) = (self.peer_settled_below, Seq(value));
        if value == 0 {
            return Ok(last);
        }
        if found < last {
            return Err(SessionViolation::SettledBack { last, found });
        }
        Ok(found)
    }

    fn handle_settled(&mut self, below: u64, acks_durable: u64) -> Result<(), SessionViolation> {
        let settled_below = self.settled_below(below)?;
        let found = acks_durable;
        let covered = self
            .acks
            .handle_echo(acks_durable)
            .map_err(|last| SessionViolation::EchoUnknown { last, found })?;
        if settled_below > self.peer_settled_below || !covered.is_empty() {
            self.peer_settled_below = settled_below;
            self.emit(Event::PeerSettled { settled_below, covered });
        }
        Ok(())
    }
}
