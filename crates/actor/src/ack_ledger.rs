//! Which acknowledgements of one endpoint may be echoed back to it.
//!
//! A receiver forgets what an echoed acknowledgement covered, so an echo promises that nothing of
//! it is ever sent again (`acks_durable`, D3). That holds once every seq it covered is settled on
//! our disk, whatever other endpoints still have to say about the same messages.
//!
//! Invariants:
//! - A2: echoes only rise, and never pass an acknowledgement that covers an unsettled seq.

use std::collections::VecDeque;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;

/// Acknowledgements that are kept apart (D7). When there are more, they are joined by twos, fours
/// and so on: while another endpoint is away for hours, echoes to this one get coarser, not its
/// ledger larger.
const APART_MAX: usize = 1024;

/// The acknowledgements of one session that are not echoed yet.
#[derive(Debug)]
pub(crate) struct AckLedger {
    waiting: VecDeque<Waiting>,
    /// So many acknowledgements are joined to one.
    joined: u64,
    echoed: u64,
}

/// An acknowledgement, or neighbours that were joined.
#[derive(Debug)]
struct Waiting {
    /// The last one, and how many there are.
    ack_id: u64,
    acks: u64,
    /// What it covers and is not known to be settled.
    unsettled: SeqSet,
}

impl Default for AckLedger {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), joined: 1, echoed: 0 }
    }
}

impl AckLedger {
    /// Forgets everything: acknowledgement ids start anew with each session.
    pub(crate) fn handle_session(&mut self) {
        *self = Self::default();
    }

    /// Notes an acknowledgement.
    pub(crate) fn handle_ack(&mut self, ack_id: u64, ranges: &SeqSet) {
        let ack = Waiting { ack_id, acks: 1, unsettled: ranges.clone() };
        match self.waiting.back_mut().filter(|last| last.acks < self.joined) {
            Some(last) => last.join(ack),
            None => self.waiting.push_back(ack),
        }
        if self.waiting.len() > APART_MAX {
            self.join_neighbours();
        }
    }

    fn join_neighbours(&mut self) {
        self.joined = self.joined.saturating_mul(2);
        let mut apart = std::mem::take(&mut self.waiting).into_iter();
        while let Some(mut first) = apart.next() {
            if let Some(second) = apart.next() {
                first.join(second);
            }
            self.waiting.push_back(first);
        }
    }

    /// The highest acknowledgement whose every seq is below `settled_below` or passes `is_settled`,
    /// when it rose. The caller publishes it with [`AckLedger::publish`] once those settlements are
    /// durable.
    pub(crate) fn candidate(
        &mut self,
        settled_below: Seq,
        mut is_settled: impl FnMut(Seq) -> bool,
    ) -> Option<u64> {
        let mut candidate = None;
        while let Some(Waiting { ack_id, unsettled, .. }) = self.waiting.front_mut() {
            unsettled.remove_below(settled_below);
            // What was settled once stays so: no seq is looked at twice.
            while let Some(first) = unsettled.first().filter(|first| is_settled(*first)) {
                unsettled.remove_below(first.next());
            }
            if !unsettled.is_empty() {
                break;
            }
            candidate = Some(*ack_id);
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            self.joined = 1;
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

impl Waiting {
    fn join(&mut self, later: Self) {
        self.ack_id = later.ack_id;
        self.acks += later.acks;
        for range in later.unsettled.ranges() {
            self.unsettled.insert_range(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_waits_for_the_slowest_message_it_covers() {
        let mut ledger = AckLedger::default();
        ledger.handle_ack(1, &[Seq(1), Seq(2)].into_iter().collect());
        ledger.handle_ack(2, &[Seq(3)].into_iter().collect());
        ledger.handle_ack(3, &[Seq(4)].into_iter().collect());
        let settled: SeqSet = [Seq(1), Seq(3), Seq(4)].into_iter().collect();
        assert_eq!(ledger.candidate(Seq(1), |seq| settled.contains(seq)), None);
        assert_eq!(ledger.candidate(Seq(1), |seq| seq != Seq(4)), Some(2));
        assert_eq!(ledger.echoed(), 0, "nothing is echoed before it is published");
        ledger.publish(2);
        assert_eq!(ledger.echoed(), 2);
        assert_eq!(ledger.candidate(Seq(5), |_| false), Some(3));
    }

    #[test]
    fn a_long_wait_makes_echoes_coarser_and_the_ledger_no_larger() {
        let acks = 10 * u64::try_from(APART_MAX).unwrap();
        let mut ledger = AckLedger::default();
        for ack_id in 1..=acks {
            // In order but for a neighbour: what joining has to hold together.
            ledger.handle_ack(ack_id, &[Seq(ack_id ^ 1)].into_iter().collect());
            assert!(ledger.waiting.len() <= APART_MAX, "{ack_id}");
        }
        let intervals: usize = ledger.waiting.iter().map(|w| w.unsettled.interval_count()).sum();
        assert!(intervals <= 2 * APART_MAX, "{intervals}");
        let half = ledger.candidate(Seq(acks / 2), |_| false).unwrap();
        let coarse = acks / 2 - 4 * acks / u64::try_from(APART_MAX).unwrap();
        assert!((coarse..acks / 2).contains(&half), "{half}");
        assert_eq!(ledger.candidate(Seq(acks + 2), |_| false), Some(acks));
    }
}
