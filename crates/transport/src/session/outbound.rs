//! Records on their way out: what may leave now, whole in batches or in parts.

use std::time::Instant;

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{self, Chunk, Frame, Record, frame};

use super::credit::Credits;
use super::event::{Event, LocalView, OverBudget};
use super::{Phase, Session};
use crate::exchange::{Budget, Nack, NackKind, NackOrigin, OutboundRecord};

impl Session {
    /// How much data may leave now; `None` when none may.
    #[must_use]
    pub fn poll_budget(&self) -> Option<Budget> {
        let free = self.send.available();
        if self.phase != Phase::Open || self.is_suspended() || free.messages == 0 || free.bytes == 0
        {
            return None;
        }
        let idle = self.flight.is_empty() && self.slicing.is_empty();
        let common = free.saturating_sub(self.send.reserve(idle));
        let batch = u32::try_from(limits::BATCH_RECORDS_MAX).unwrap_or(u32::MAX);
        let messages = if common.bytes == 0 { 0 } else { common.messages.min(batch) };
        let large = self.features.chunks && self.slicing.holds_below_critical();
        Some(Budget {
            messages,
            bytes: common.bytes,
            critical_messages: free.messages.min(batch).saturating_sub(messages),
            critical_bytes: free.bytes.saturating_sub(common.bytes),
            large_bytes_max: if large { whole_bytes_max() } else { u64::MAX },
        })
    }

    /// Takes records that were chosen within [`Session::poll_budget`], and makes one batch of them.
    /// A long one is kept, to leave in parts ([`Session::poll_part`]), where that was agreed; one
    /// larger than the peer takes is reported as refused.
    ///
    /// # Errors
    ///
    /// When the records exceed the budget.
    pub fn handle_send(
        &mut self,
        now: Instant,
        view: LocalView,
        records: &[OutboundRecord],
    ) -> Result<Option<Frame>, OverBudget> {
        let mut whole = Vec::with_capacity(records.len());
        let mut batch = SeqSet::new();
        for record in records {
            let bytes = u64::try_from(record.message.payload.len()).unwrap_or(u64::MAX);
            if bytes > u64::from(self.terms.send.message_bytes_max) {
                self.refuse_large(record, bytes);
                continue;
            }
            if !self.send.spend(Credits { messages: 1, bytes }) {
                return Err(OverBudget);
            }
            let is_long = self.features.chunks && bytes > whole_bytes_max();
            if is_long || self.slicing.holds_key(&record.message) {
                self.slicing.push(record);
                continue;
            }
            if !record.seq.is_volatile() {
                batch.insert(record.seq);
            }
            whole.push((record.seq, &record.message));
        }
        self.flight.handle_sent(now, batch);
        if whole.is_empty() {
            return Ok(None);
        }
        self.told(view);
        let data = session::Data {
            settled_below: view.settled.below.0,
            settled_count: view.settled.count,
            acks_durable: self.echo(view),
            records: Record::from_messages(whole).collect(),
            ..session::Data::default()
        };
        Ok(Some(frame::Kind::Data(data).into()))
    }

    fn refuse_large(&mut self, record: &OutboundRecord, bytes: u64) {
        let (seq, largest) = (record.seq, self.terms.send.message_bytes_max);
        if seq.is_volatile() {
            return;
        }
        let text = format!("{bytes} payload bytes; the peer takes at most {largest}");
        let (origin, kind) = (NackOrigin::Local, NackKind::Terminal);
        let nack = Nack { seq, origin, kind, code: 0, text };
        self.events.push_back(Event::Nacked(nack));
    }

    /// Whether a part of a long record may leave now.
    #[must_use]
    pub fn has_part(&self) -> bool {
        match self.phase {
            Phase::Open => !self.is_suspended() && !self.slicing.is_empty(),
            // What has begun is in flight, and may finish.
            Phase::Draining { .. } => !self.is_suspended() && self.slicing.is_begun(),
            Phase::Closing => false,
        }
    }

    /// Whether a critical record is among the long ones.
    #[must_use]
    pub fn has_critical_part(&self) -> bool {
        self.has_part() && self.slicing.holds(Priority::Critical)
    }

    /// The next part of the most urgent long record, if it may leave.
    pub fn poll_part(&mut self, now: Instant, view: LocalView) -> Option<Frame> {
        if !self.has_part() {
            return None;
        }
        self.told(view);
        // T59: what was settled meanwhile is not sent; its credit was never the peer's to grant.
        let back = self.slicing.withdraw(self.told_settled_below);
        self.send.grant(back);
        let part = self.slicing.poll_part(self.phase != Phase::Open)?;
        // T59: one that was settled on its way is dropped by the peer, without an acknowledgement.
        let awaited = |seq: &Seq| !seq.is_volatile() && *seq >= self.told_settled_below;
        if let Some(seq) = part.finished.filter(awaited) {
            self.flight.handle_sent(now, [seq].into_iter().collect());
        }
        let chunk = Chunk {
            settled_below: view.settled.below.0,
            settled_count: view.settled.count,
            acks_durable: self.echo(view),
            ..part.chunk
        };
        Some(frame::Kind::Chunk(chunk).into())
    }
}

fn whole_bytes_max() -> u64 {
    u64::try_from(limits::WHOLE_BYTES_MAX).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
