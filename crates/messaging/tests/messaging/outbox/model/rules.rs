//! What must hold of the outbox after every step.

use super::*;

impl World {
    pub(super) fn collect(&mut self) {
        while let Some(action) = self.outbox.poll_action() {
            match action {
                Action::Settle { seqs } => seqs.iter().for_each(|seq| self.end(seq.0, None)),
                Action::Dead { seq, cause, attempts, .. } => {
                    self.learn(seq.0, &attempts);
                    self.end(seq.0, Some((cause, attempts.len())));
                }
                Action::Lost { seq } => {
                    assert!(self.excused.contains(&seq.0));
                    self.end(seq.0, None);
                }
                Action::Remember { seq, history, ticket } => {
                    self.ticket = self.ticket.max(Some(ticket));
                    self.remember(seq, history);
                }
                Action::Load { seqs } => self.asked.extend(seqs),
                Action::Ready(_) => {}
            }
        }
        self.excused.clear();
        let unsettled = self.outbox.unsettled().iter().sum::<usize>();
        assert_eq!(unsettled, self.live.len(), "{:?}", self.live.keys());
        assert!(self.outbox.resident() <= RESIDENT_MAX, "M24: {}", self.outbox.resident());
        for (e, id) in E.iter().enumerate() {
            let in_flight = self.sent[e].iter().filter(|seq| self.live.contains_key(seq)).count();
            assert_eq!(self.outbox.in_flight(*id), in_flight, "in flight at {e}");
            self.sent[e].retain(|seq| self.live.contains_key(seq));
        }
        if self.asked.is_empty() && !self.is_vague {
            for (seq, known) in &self.live {
                assert_eq!(self.verdict(known), None, "D2: {seq} should have ended: {known:?}");
            }
        }
    }

    /// Takes note of what the outbox refuses itself: what is too long for an endpoint.
    fn learn(&mut self, seq: u64, attempts: &[Attempt]) {
        let takes_short = self.takes_short;
        let Some(known) = self.live.get_mut(&seq) else { return };
        for (e, name) in NAMES.iter().enumerate() {
            let mut own = attempts.iter().filter(|a| a.endpoint == *name && a.code == 0);
            if own.next().is_some() && !known.refused.is_too_long[e] {
                assert!(known.meta.payload_bytes > SHORT && takes_short[e], "{seq}: {known:?}");
                assert_eq!(own.next(), None, "{seq} is not asked about twice");
                known.refused.is_too_long[e] = true;
                known.refused.count[e] += 1;
                known.refused.is_final[e] = true;
            }
        }
    }

    /// Whether nobody there is takes it.
    fn is_taken_by_nobody(&self, known: &Known) -> bool {
        known.route.policy == Policy::Any
            && known.meta.payload_bytes > SHORT
            && (0..3).all(|e| !self.enabled[e] || self.takes_short[e])
    }

    /// M12: a message ends once, and for a reason.
    fn end(&mut self, seq: u64, death: Option<(Cause, usize)>) {
        let known = self.live.remove(&seq).expect("M12: a message ends once");
        self.ended += 1;
        self.ending.insert(seq, known.clone());
        if self.excused.contains(&seq) {
            return;
        }
        let is_late = known.meta.deadline.is_some_and(|deadline| deadline <= self.now);
        let Some((cause, attempts)) = death else {
            let is_over = is_late && self.is_settled_by_deadline(&known);
            assert!(is_over || self.verdict(&known) == Some("settle"), "{seq}: {known:?}");
            return;
        };
        assert_eq!(attempts, known.refused.count.iter().sum::<u32>() as usize, "{known:?}");
        match cause {
            Cause::Expired => assert!(is_late && !known.is_sent, "{known:?}"),
            Cause::TimedOut { .. } => assert!(is_late && known.is_sent, "{known:?}"),
            Cause::Refused { .. } => {
                let is_refused = self.verdict(&known) == Some("refused");
                assert!(is_refused || self.is_taken_by_nobody(&known), "{seq}: {known:?}");
            }
            Cause::Evicted => panic!("{seq} was not evicted"),
        }
    }

    /// Whether the policy of a message says that it is over, and how.
    fn verdict(&self, known: &Known) -> Option<&'static str> {
        let enabled = || (0..3).filter(|e| self.enabled[*e]);
        let acks = self.acks(known);
        let is_final = known.refused.is_final;
        let refused = enabled().filter(|e| is_final[*e] && !known.acked[*e]).count();
        let final_count = enabled().filter(|e| is_final[*e]).count();
        let undecided = enabled().count() - acks - refused;
        let is_met = match known.route.policy {
            Policy::Any => acks >= 1,
            Policy::Quorum(quorum) => acks >= usize::from(quorum),
            Policy::All => acks >= 1 && undecided == 0 && final_count == 0,
        };
        if is_met {
            return (!known.route.awaits_answer).then_some("settle");
        }
        let is_hopeless = match known.route.policy {
            Policy::Any => true,
            _ if known.route.awaits_answer => acks == 0 && undecided == 0,
            Policy::Quorum(quorum) => acks + undecided < usize::from(quorum),
            Policy::All => undecided == 0,
        };
        (final_count > 0 && is_hopeless).then_some("refused")
    }

    fn is_settled_by_deadline(&self, known: &Known) -> bool {
        known.route.policy == Policy::All
            && !known.route.awaits_answer
            && self.acks(known) >= 1
            && (0..3).all(|e| !self.enabled[e] || !known.refused.is_final[e])
    }

    pub(super) fn acks(&self, known: &Known) -> usize {
        (0..3).filter(|e| self.enabled[*e] && known.acked[*e]).count()
    }

    /// M14: whatever a crash would leave of the earlier ones of its key came here before, or never
    /// will; and no later one did, but for those that were on their way when it was refused.
    pub(super) fn check_order(&self, e: usize, seq: u64, name: (u8, Priority)) {
        let came = |seq: &u64| self.stored[e].contains(seq) || self.on_way[e].contains(seq);
        let is_refused = |seq| self.remembered.get(seq).is_some_and(|(_, it)| it.is_final[e]);
        for (earlier, known) in self.live.range(..seq).chain(self.ending.range(..seq)) {
            let is_past = came(earlier) || is_refused(earlier);
            let is_related = self.names.get(earlier) == Some(&name);
            assert!(!is_related || is_past, "M14: {seq} passed {earlier} at {e}: {known:?}");
        }
        let later = self.names.range(seq + 1..).filter(|(_, other)| **other == name);
        for (later, _) in later.filter(|(later, _)| came(later)) {
            let overtook = self.overtook[e].get(&seq).is_some_and(|it| it.contains(later));
            assert!(overtook, "M14: {seq} comes to {e} behind {later}");
        }
    }

    fn remember(&mut self, seq: Seq, history: History) {
        self.learn(seq.0, &history.attempts);
        let known = &self.live[&seq.0];
        for (e, name) in NAMES.iter().enumerate() {
            let of = history.of(name);
            assert_eq!(of.map_or(0, |of| of.refusals), known.refused.count[e]);
            let is_final = of.is_some_and(|of| of.standing == Standing::Final);
            assert_eq!(is_final, known.refused.is_final[e], "{history:?}");
        }
        assert_eq!(history.attempts.len(), known.refused.count.iter().sum::<u32>() as usize);
        self.histories.insert(seq.0, (history, known.refused));
    }
}
