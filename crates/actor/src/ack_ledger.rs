//! Which acknowledgements of one endpoint may be echoed back to it.
//!
//! A receiver forgets what an echoed acknowledgement covered, so an echo promises that nothing of
//! it is ever sent again (`acks_durable`, D3). That holds once every seq it covered is settled on
//! our disk, whatever other endpoints still have to say about the same messages.
//!
//! Invariants:
//! - A2: echoes only rise, and never pass an acknowledgement that covers an unsettled seq.

use std::collections::VecDeque;

use alys_stream_protocol::seq_set::SeqSet;

/// The acknowledgements of one session that are not echoed yet.
#[derive(Debug, Default)]
pub(crate) struct AckLedger {
    waiting: VecDeque<(u64, SeqSet)>,
    echoed: u64,
}

impl AckLedger {
    /// Forgets everything: acknowledgement ids start anew with each session.
    pub(crate) fn handle_session(&mut self) {
        self.waiting.clear();
        self.echoed = 0;
    }

    /// Notes an acknowledgement.
    pub(crate) fn handle_ack(&mut self, ack_id: u64, ranges: &SeqSet) {
        self.waiting.push_back((ack_id, ranges.clone()));
    }

    /// The highest acknowledgement whose every seq passes `is_settled`, when it rose.
    /// The caller publishes it with [`AckLedger::publish`] once those settlements are durable.
    pub(crate) fn candidate(&mut self, mut is_settled: impl FnMut(&SeqSet) -> bool) -> Option<u64> {
        let mut candidate = None;
        while let Some((ack_id, ranges)) = self.waiting.front() {
            if !is_settled(ranges) {
                break;
            }
            candidate = Some(*ack_id);
            self.waiting.pop_front();
        }
        candidate
    }

    /// From now on this acknowledgement may be echoed.
    pub(crate) fn publish(&mut self, ack_id: u64) {
        self.echoed = self.echoed.max(ack_id);
    }

    /// The highest acknowledgement that may be echoed; 0 for none.
    pub(crate) const fn echoed(&self) -> u64 {
        self.echoed
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::message::Seq;

    use super::*;

    #[test]
    fn an_echo_waits_for_the_slowest_message_it_covers() {
        let mut ledger = AckLedger::default();
        ledger.handle_ack(1, &[Seq(1), Seq(2)].into_iter().collect());
        ledger.handle_ack(2, &[Seq(3)].into_iter().collect());
        ledger.handle_ack(3, &[Seq(4)].into_iter().collect());
        let settled: SeqSet = [Seq(1), Seq(3), Seq(4)].into_iter().collect();
        assert_eq!(ledger.candidate(|set| set.iter().all(|s| settled.contains(s))), None);
        assert_eq!(ledger.candidate(|set| set.iter().all(|s| s != Seq(4))), Some(2));
        assert_eq!(ledger.echoed(), 0, "nothing is echoed before it is published");
        ledger.publish(2);
        assert_eq!(ledger.echoed(), 2);
        assert_eq!(ledger.candidate(|_| true), Some(3));
    }
}
