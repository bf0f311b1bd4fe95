//! Frames of the peer: checked against what was agreed, then turned into events.

use std::time::{Duration, Instant};

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{Seq, Settled};
use alys_stream_protocol::session::{self, Chunk, Data, Frame, GapCause, frame};

use super::credit::Credits;
use super::handshake::{ranges, read_refusal};
use super::violation::SessionViolation;
use super::{Event, Phase, Session};
use crate::bounded;
use crate::exchange::{InboundRecord, Load, Nack, NackKind, NackOrigin, RETRY_AFTER_MAX};

impl Session {
    /// Takes one frame of the peer. What it leads to is returned by [`Session::poll_event`].
    ///
    /// # Errors
    ///
    /// When the frame breaks what was agreed: the session is to be closed.
    pub fn handle_frame(&mut self, now: Instant, frame: Frame) -> Result<(), SessionViolation> {
        match frame.kind {
            None => Err(SessionViolation::UnknownFrame),
            Some(frame::Kind::Hello(_)) => Err(SessionViolation::LateHandshake("hello")),
            Some(frame::Kind::Welcome(_)) => Err(SessionViolation::LateHandshake("welcome")),
            Some(frame::Kind::Data(data)) => self.handle_data(now, data),
            Some(frame::Kind::Chunk(chunk)) => self.handle_chunk(now, chunk),
            Some(frame::Kind::Ack(ack)) => self.handle_ack(&ack),
            Some(frame::Kind::Nack(nack)) => self.handle_nack(nack),
            Some(frame::Kind::Credit(credit)) => {
                let more = Credits { messages: credit.messages, bytes: credit.bytes };
                self.send.grant(more);
                Ok(())
            }
            Some(frame::Kind::Heartbeat(beat)) => {
                let settled = self.settled(beat.settled_below, beat.settled_count)?;
                self.handle_settled(settled, beat.acks_durable)?;
                self.heartbeat_ack = Some((beat.sequence, beat.sent_at_ms));
                self.handle_load(beat.load);
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

    /// How long a compressed batch may be once it is inflated: what the credit left could hold.
    ///
    /// # Errors
    ///
    /// When compression was not agreed.
    pub fn inflated_bytes_max(&self) -> Result<usize, SessionViolation> {
        if !self.features.zstd {
            return Err(SessionViolation::NotAgreed("a compressed batch"));
        }
        let free = self.receive.available();
        let records = usize::try_from(free.messages).unwrap_or(usize::MAX);
        let overhead = records.min(limits::BATCH_RECORDS_MAX) * limits::RECORD_OVERHEAD_BYTES_MAX;
        let payloads = usize::try_from(free.bytes).unwrap_or(usize::MAX);
        Ok(payloads.saturating_add(overhead).min(limits::FRAME_BYTES_MAX))
    }

    /// A batch, its records inflated.
    fn handle_data(&mut self, now: Instant, data: Data) -> Result<(), SessionViolation> {
        if !data.compressed.is_empty() || data.uncompressed_bytes != 0 {
            return Err(SessionViolation::NotAgreed("a compressed batch"));
        }
        let count = data.records.len();
        if count > limits::BATCH_RECORDS_MAX {
            let count_max = limits::BATCH_RECORDS_MAX;
            return Err(SessionViolation::BatchTooLong { count, count_max });
        }
        let settled = self.settled(data.settled_below, data.settled_count)?;
        let mut cost = Credits { messages: u32::try_from(count).unwrap_or(u32::MAX), bytes: 0 };
        let mut records = Vec::with_capacity(count);
        for record in data.records {
            let number = record.seq;
            let (seq, message) = record
                .try_into_message()
                .map_err(|problem| SessionViolation::Record { seq: number, problem })?;
            let bytes = u64::try_from(message.payload.len()).unwrap_or(u64::MAX);
            self.check_record(seq, bytes, settled.below)?;
            cost.bytes = cost.bytes.saturating_add(bytes);
            records.push(InboundRecord { seq, message });
        }
        self.charge(now, cost)?;
        self.handle_settled(settled, data.acks_durable)?;
        if !records.is_empty() {
            self.emit(Event::Received(records));
        }
        Ok(())
    }

    /// A part of a long record: the record is received with its last one.
    fn handle_chunk(&mut self, now: Instant, mut chunk: Chunk) -> Result<(), SessionViolation> {
        if !self.features.chunks {
            return Err(SessionViolation::NotAgreed("a record in parts"));
        }
        let settled = self.settled(chunk.settled_below, chunk.settled_count)?;
        if let Some(announced) = self.assembly.announced(&mut chunk)? {
            let bytes = u64::try_from(announced.whole).unwrap_or(u64::MAX);
            self.check_record(announced.seq, bytes, settled.below)?;
            // T35: the credit for all of it, before there is room for any of it.
            self.charge(now, Credits { messages: 1, bytes })?;
            self.assembly.begin(announced);
        }
        let record = self.assembly.handle_part(chunk.transfer, &chunk.part)?;
        self.handle_settled(settled, chunk.acks_durable)?;
        let Some(record) = record else {
            return Ok(());
        };
        if record.seq < self.peer_settled_below && !record.seq.is_volatile() {
            // T59: settled while it was on its way.
            let bytes = u64::try_from(record.message.payload.len()).unwrap_or(u64::MAX);
            self.dealt_with(now, bytes);
            return Ok(());
        }
        self.emit(Event::Received(vec![record]));
        Ok(())
    }

    fn check_record(
        &self,
        seq: Seq,
        bytes: u64,
        settled_below: Seq,
    ) -> Result<(), SessionViolation> {
        let bytes_max = u64::from(self.terms.receive.message_bytes_max);
        if bytes > bytes_max {
            return Err(SessionViolation::MessageTooLarge { seq, bytes, bytes_max });
        }
        if seq < settled_below && !seq.is_volatile() {
            return Err(SessionViolation::SettledRecord { seq, settled_below });
        }
        Ok(())
    }

    fn charge(&mut self, now: Instant, cost: Credits) -> Result<(), SessionViolation> {
        if !self.receive.receive(cost) {
            let Credits { messages, bytes } = cost;
            return Err(SessionViolation::CreditExceeded { messages, bytes });
        }
        self.busy.handle(now, self.receive.processing().messages > 0);
        Ok(())
    }

    fn handle_load(&mut self, load: Option<session::LoadReport>) {
        if let Some(load) = load {
            self.emit(Event::Load(Load {
                queued_messages: load.queued_messages,
                busy_permille: load.busy_permille.min(1000),
            }));
        }
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
        let after = (after > 0).then(|| Duration::from_millis(after).min(RETRY_AFTER_MAX));
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
        let origin = NackOrigin::Peer;
        self.emit(Event::Nacked(Nack { seq, origin, kind, code: nack.code, text }));
        Ok(())
    }

    fn handle_heartbeat_ack(
        &mut self,
        now: Instant,
        ack: &session::HeartbeatAck,
    ) -> Result<(), SessionViolation> {
        let settled = self.settled(ack.settled_below, ack.settled_count)?;
        self.handle_settled(settled, ack.acks_durable)?;
        self.handle_load(ack.load);
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
        let reason = bounded(drain.reason);
        self.emit(Event::Draining { deadline, reason, by_peer: true });
    }

    fn check_sent(&self, frame: &'static str, seq: Seq) -> Result<(), SessionViolation> {
        let last_sent = self.flight.highest_sent();
        if seq > last_sent {
            return Err(SessionViolation::NeverSent { frame, seq, last_sent });
        }
        Ok(())
    }

    /// Reads how far the peer's log is settled; a `settled_below` of 0 says nothing new.
    fn settled(&self, below: u64, count: u64) -> Result<Settled, SessionViolation> {
        let (last, found) = (self.peer_settled_below, Seq(below));
        if below == 0 {
            return Ok(Settled { below: last, count });
        }
        if found < last {
            return Err(SessionViolation::SettledBack { last, found });
        }
        Ok(Settled { below: found, count })
    }

    fn handle_settled(
        &mut self,
        settled: Settled,
        acks_durable: u64,
    ) -> Result<(), SessionViolation> {
        let found = acks_durable;
        let covered = self
            .acks
            .handle_echo(acks_durable)
            .map_err(|last| SessionViolation::EchoUnknown { last, found })?;
        if settled.below > self.peer_settled_below || !covered.is_empty() {
            self.peer_settled_below = settled.below;
            self.emit(Event::PeerSettled { settled, covered });
        }
        Ok(())
    }
}
