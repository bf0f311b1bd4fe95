//! Random lives of messages in an outbox against what is promised.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Accept { key: Option<u8>, policy: u8, awaits: bool, deadline: Option<u64> },
    Connect(usize),
    Disconnect(usize),
    Poll(usize, u32),
    Ack(usize, usize),
    Nack(usize, usize, u8),
    Conclude(u64),
    Remove(usize),
    Add(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let e = 0..3_usize;
    prop_oneof![
        6 => (prop::option::of(0..3_u8), 0..3_u8, prop::bool::weighted(0.1), prop::option::of(1..20_000_u64))
            .prop_map(|(key, policy, awaits, deadline)| Step::Accept { key, policy, awaits, deadline }),
        2 => e.clone().prop_map(Step::Connect),
        1 => e.clone().prop_map(Step::Disconnect),
        6 => (e.clone(), 1..8_u32).prop_map(|(e, n)| Step::Poll(e, n)),
        5 => (e.clone(), 0..8_usize).prop_map(|(e, n)| Step::Ack(e, n)),
        2 => (e.clone(), 0..8_usize, 0..5_u8).prop_map(|(e, n, kind)| Step::Nack(e, n, kind)),
        1 => (1..80_u64).prop_map(Step::Conclude),
        1 => e.clone().prop_map(Step::Remove),
        1 => e.prop_map(Step::Add),
        3 => (1..4_000_u64).prop_map(Step::Pass),
    ]
}

/// What the world outside the outbox remembers.
struct World {
    outbox: Outbox,
    now: UnixMillis,
    next: u64,
    accepted: BTreeMap<u64, (Option<u8>, Option<UnixMillis>)>,
    /// Those that any endpoint may get.
    any: BTreeSet<u64>,
    /// Those that two endpoints have to acknowledge.
    quorum: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    enabled: [bool; 3],
    connected: [bool; 3],
    /// Sent on the present stream of each endpoint and unanswered.
    sent: [Vec<u64>; 3],
    /// What each peer has stored.
    stored: [BTreeSet<u64>; 3],
    /// Refused there and not sent again since.
    refused: [BTreeSet<u64>; 3],
}

impl World {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Accept { key, policy, awaits, deadline } => {
                self.accept(key, policy, awaits, deadline);
            }
            Step::Connect(e) if self.enabled[e] => {
                self.outbox.handle_connected(E[e], &seqs(self.stored[e].iter().copied()));
                self.connected[e] = true;
                self.lose(e);
            }
            Step::Disconnect(e) => {
                self.outbox.handle_disconnected(E[e]);
                self.connected[e] = false;
                self.lose(e);
            }
            Step::Poll(e, messages) => self.poll(e, messages),
            Step::Ack(e, n) if !self.sent[e].is_empty() => {
                let seq = self.sent[e].remove(n % self.sent[e].len());
                self.stored[e].insert(seq);
                self.outbox.handle_ack(E[e], &seqs([seq]));
            }
            Step::Nack(e, n, kind) if !self.sent[e].is_empty() => {
                let seq = self.sent[e].remove(n % self.sent[e].len());
                let refusal =
                    if kind == 0 { Refusal::Terminal } else { Refusal::Retry { after: None } };
                let retrying = self.outbox.retrying();
                self.outbox.handle_nack(self.now, E[e], Seq(seq), refusal, 1, "no");
                if self.outbox.retrying() > retrying {
                    self.refused[e].insert(seq);
                }
            }
            Step::Conclude(seq) => self.outbox.handle_concluded(Seq(seq)),
            Step::Remove(e) => {
                self.outbox.handle_endpoint_removed(E[e]);
                (self.enabled[e], self.connected[e]) = (false, false);
                self.sent[e].clear();
                self.refused[e].clear();
            }
            Step::Add(e) => {
                self.outbox.handle_endpoint_added(E[e]).unwrap();
                self.enabled[e] = true;
            }
            Step::Pass(millis) => {
                self.now = UnixMillis(self.now.0 + millis);
                self.outbox.handle_timeout(self.now);
            }
            Step::Connect(_) | Step::Ack(..) | Step::Nack(..) => {}
        }
        self.collect();
    }

    fn accept(&mut self, key: Option<u8>, policy: u8, awaits: bool, deadline: Option<u64>) {
        let policy = [Policy::Any, Policy::All, Policy::Quorum(2)][usize::from(policy)];
        if policy == Policy::Any {
            self.any.insert(self.next);
        }
        if policy == Policy::Quorum(2) {
            self.quorum.insert(self.next);
        }
        let deadline = deadline.map(|after| UnixMillis(self.now.0 + after));
        self.accepted.insert(self.next, (key, deadline));
        let route = Route { policy, awaits_answer: awaits };
        self.outbox.handle_accepted(self.now, meta(self.next, key, deadline), route);
        self.next += 1;
    }

    /// Whether an unsent copy of a message is not withdrawn.
    fn is_wanted(&self, seq: u64) -> bool {
        let acks = self.stored.iter().filter(|stored| stored.contains(&seq)).count();
        self.outbox.contains(Seq(seq)) && !(self.quorum.contains(&seq) && acks >= 2)
    }

    /// A stream is over: what any endpoint may get is chosen again, whoever refused it before.
    fn lose(&mut self, e: usize) {
        self.sent[e].clear();
        self.refused[e].retain(|seq| !self.any.contains(seq));
    }

    fn poll(&mut self, e: usize, messages: u32) {
        let budget = Budget { messages, bytes: 1 << 20 };
        let mut last: BTreeMap<u8, u64> = BTreeMap::new();
        for seq in self.outbox.poll_batch(self.now, E[e], budget, 128, 64 * 1024) {
            let seq = seq.0;
            let (key, deadline) = self.accepted[&seq];
            assert!(self.connected[e], "sent without a connection");
            assert!(!self.ended.contains(&seq), "{seq} was sent after it ended");
            assert!(deadline.is_none_or(|at| at > self.now), "M13: {seq} was sent too late");
            assert!(!self.sent[e].contains(&seq), "{seq} was sent twice on one stream");
            assert!(!self.stored[e].contains(&seq), "{seq} was sent to one who has it");
            self.refused[e].remove(&seq);
            if let Some(key) = key {
                // M14: in order on the stream, and nothing passes one that waits for a retry.
                let same = |other: &&u64| self.accepted[other].0 == Some(key);
                assert!(last.insert(key, seq).is_none_or(|before| before < seq));
                let waiting = self.refused[e].iter().filter(same).find(|other| **other < seq);
                let waiting = waiting.filter(|other| self.is_wanted(**other));
                assert!(waiting.is_none(), "{seq} passed {waiting:?}");
            }
            self.sent[e].push(seq);
        }
    }

    fn collect(&mut self) {
        while let Some(action) = self.outbox.poll_action() {
            let seq = match action {
                Action::Settle { seq } | Action::Dead { seq, .. } | Action::Lost { seq } => seq.0,
                Action::Ready(_) => continue,
            };
            assert!(self.ended.insert(seq), "M12: {seq} ended twice");
            for e in 0..3 {
                self.sent[e].retain(|sent| *sent != seq);
            }
        }
        let open = self.accepted.len() - self.ended.len();
        assert_eq!(self.outbox.unsettled().iter().sum::<usize>(), open);
        for (e, id) in E.iter().enumerate() {
            assert_eq!(self.outbox.in_flight(*id), self.sent[e].len(), "in flight at {e}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_message_ends_once_in_order_and_in_time(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World {
            outbox: Outbox::new(OutboxConfig { refusals_max: 4, assigned_max: 3, seed: 1 }),
            now: NOW,
            next: 1,
            accepted: BTreeMap::new(),
            any: BTreeSet::new(),
            quorum: BTreeSet::new(),
            ended: BTreeSet::new(),
            enabled: [false; 3],
            connected: [false; 3],
            sent: Default::default(),
            stored: Default::default(),
            refused: Default::default(),
        };
        for step in (0..3).map(Step::Add).chain((0..3).map(Step::Connect)).chain(steps) {
            world.apply(step);
        }
        // Everything heals: everything ends.
        for e in 0..3 {
            world.apply(Step::Add(e));
            world.apply(Step::Connect(e));
        }
        for _ in 0..400 {
            for e in 0..3 {
                world.apply(Step::Poll(e, 100));
                while !world.sent[e].is_empty() {
                    world.apply(Step::Ack(e, 0));
                }
            }
            world.apply(Step::Pass(500));
        }
        for seq in 1..world.next {
            world.apply(Step::Conclude(seq));
        }
        prop_assert_eq!(world.ended.len(), world.accepted.len());
    }
}
