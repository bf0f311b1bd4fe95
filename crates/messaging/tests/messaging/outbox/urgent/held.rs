//! Endpoints that are connected and take nothing: what was assigned to them goes to others, and
//! nothing is lost, sent twice, out of order or too late.

use std::collections::BTreeSet;

use alys_stream_messaging::outbox::Intake;
use proptest::prelude::*;

use super::super::*;

fn any(desk: &mut Desk, numbers: std::ops::RangeInclusive<u64>, key: Option<u8>) {
    for seq in numbers {
        desk.accept(meta(seq, key, None), route(Policy::Any));
    }
}

fn one(desk: &mut Desk, id: EndpointId) -> Vec<u64> {
    desk.pump();
    let one = Budget { messages: 1, ..BUDGET };
    desk.poll_batch(NOW, id, one, 128, 1 << 16).into_iter().map(|seq| seq.0).collect()
}

#[test]
fn what_was_not_sent_leaves_in_order_and_what_was_stays() {
    let mut desk = outbox(2);
    any(&mut desk, 1..=6, None);
    assert_eq!(one(&mut desk, E[0]), [1]);
    desk.handle_intake(NOW, E[0], Intake::Closed);
    assert_eq!((desk.in_flight(E[0]), desk.queued(E[0])), (1, 0));
    any(&mut desk, 7..=8, None);
    assert_eq!(poll(&mut desk, NOW, E[1]), [2, 3, 4, 5, 6, 7, 8]);
    desk.handle_ack(E[0], &seqs([1]));
    assert_eq!(actions(&mut desk), [settle(1)], "it may still acknowledge");
    desk.handle_intake(NOW, E[0], Intake::Open);
    any(&mut desk, 9..=9, None);
    assert_eq!(poll(&mut desk, NOW, E[0]), [9], "a candidate again");
}

#[test]
fn with_nobody_else_messages_wait_and_go_when_it_opens() {
    let mut desk = outbox(1);
    any(&mut desk, 1..=3, None);
    desk.handle_intake(NOW, E[0], Intake::Closed);
    any(&mut desk, 4..=4, None);
    assert_eq!(desk.unassigned(), [0, 4, 0, 0]);
    assert_eq!(poll(&mut desk, NOW, E[0]), [0_u64; 0]);
    while desk.poll_action().is_some() {}
    desk.handle_intake(NOW, E[0], Intake::Open);
    assert_eq!(desk.poll_action(), Some(Action::Ready(E[0])));
    assert_eq!(poll(&mut desk, NOW, E[0]), [1, 2, 3, 4]);
}

#[test]
fn a_new_connection_begins_open_and_one_that_is_gone_is_not_held() {
    let mut desk = outbox(1);
    desk.handle_intake(NOW, E[0], Intake::Closed);
    desk.handle_connected(E[0], &SeqSet::new());
    any(&mut desk, 1..=1, None);
    assert_eq!(poll(&mut desk, NOW, E[0]), [1]);
    desk.handle_disconnected(E[0]);
    desk.handle_intake(NOW, E[0], Intake::Closed);
    desk.handle_connected(E[0], &SeqSet::new());
    assert_eq!(poll(&mut desk, NOW, E[0]), [1]);
}

#[test]
fn a_key_stays_while_one_of_its_messages_is_in_flight_there_and_no_longer() {
    let mut desk = outbox(2);
    any(&mut desk, 1..=3, Some(7));
    assert_eq!(one(&mut desk, E[0]), [1]);
    desk.accept(meta(4, Some(8), None), route(Policy::Any));
    desk.handle_intake(NOW, E[0], Intake::Closed);
    assert_eq!(poll(&mut desk, NOW, E[1]), [4], "2 and 3 are behind 1");
    desk.handle_ack(E[0], &seqs([1]));
    assert_eq!(poll(&mut desk, NOW, E[1]), [2, 3]);
}

/// Messages under `all` keep the key in memory, but hold nothing under `any` back.
#[test]
fn a_key_without_messages_there_is_free_at_once() {
    let mut desk = outbox(2);
    any(&mut desk, 1..=2, Some(7));
    desk.accept(meta(3, Some(7), None), route(Policy::All));
    desk.handle_intake(NOW, E[0], Intake::Closed);
    assert_eq!(poll(&mut desk, NOW, E[1]), [1, 2, 3]);
    assert_eq!(desk.queued(E[0]), 1, "under `all` it waits for every endpoint");
}

#[test]
fn what_waits_for_a_retry_goes_to_another_when_it_is_due() {
    for key in [None, Some(7)] {
        let mut desk = outbox(2);
        any(&mut desk, 1..=1, key);
        assert_eq!(poll(&mut desk, NOW, E[0]), [1]);
        let after = Some(Duration::from_secs(1));
        desk.handle_nack(NOW, E[0], Seq(1), Refusal::Retry { after }, 1, "");
        desk.handle_intake(NOW, E[0], Intake::Closed);
        assert_eq!(poll(&mut desk, NOW, E[1]), [0_u64; 0], "not before");
        let due = desk.poll_timeout().unwrap();
        desk.handle_timeout(due);
        assert_eq!(poll(&mut desk, due, E[1]), [1], "{key:?}");
    }
}

/// One under `all` that waits for a retry pins no key: what is behind it was assigned there, could not
/// be sent, was taken back, and was assigned there again, without end.
#[test]
fn what_is_behind_a_retry_under_another_policy_is_not_assigned_there() {
    for intake in [Intake::Open, Intake::One] {
        let mut desk = outbox(2);
        desk.accept(meta(1, Some(7), None), route(Policy::All));
        desk.handle_disconnected(E[1]);
        assert_eq!(poll(&mut desk, NOW, E[0]), [1]);
        let after = Some(Duration::from_secs(1));
        desk.handle_nack(NOW, E[0], Seq(1), Refusal::Retry { after }, 1, "");
        desk.handle_intake(NOW, E[0], intake);
        any(&mut desk, 2..=2, Some(7));
        desk.pump();
        while desk.poll_action().is_some() {}
        assert_eq!(poll(&mut desk, NOW, E[0]), [0_u64; 0], "{intake:?}: 1 goes first");
        assert_eq!(desk.poll_action(), None, "{intake:?}: nothing is ready");
        let due = desk.poll_timeout().unwrap();
        desk.handle_timeout(due);
        let mut sent = Vec::new();
        while let [seq] = desk.poll_batch(due, E[0], BUDGET, 1, 1 << 16)[..] {
            sent.push(seq.0);
            desk.handle_ack(E[0], &seqs([seq.0]));
            desk.pump();
        }
        assert_eq!(sent, [1, 2], "{intake:?}");
    }
}

#[test]
fn an_endpoint_that_is_tried_gets_one_message_until_that_has_an_end() {
    let mut desk = outbox(1);
    desk.handle_intake(NOW, E[0], Intake::Closed);
    any(&mut desk, 1..=4, None);
    desk.handle_intake(NOW, E[0], Intake::One);
    assert_eq!(desk.unassigned(), [0, 3, 0, 0]);
    assert_eq!(poll(&mut desk, NOW, E[0]), [1]);
    assert_eq!(poll(&mut desk, NOW, E[0]), [0_u64; 0]);
    desk.handle_intake(NOW, E[0], Intake::Closed);
    desk.handle_intake(NOW, E[0], Intake::One);
    assert_eq!(poll(&mut desk, NOW, E[0]), [2], "tried again, though 1 has no answer");
    desk.handle_ack(E[0], &seqs([2]));
    assert_eq!(poll(&mut desk, NOW, E[0]), [3]);
    desk.handle_intake(NOW, E[0], Intake::Open);
    assert_eq!(poll(&mut desk, NOW, E[0]), [4]);
}

/// What is assigned as the one message may end before it is sent; then another is.
#[test]
fn a_trial_that_expires_makes_room_for_the_next() {
    let mut desk = outbox(1);
    desk.handle_intake(NOW, E[0], Intake::One);
    let soon = UnixMillis(NOW.0 + 1);
    desk.accept(meta(1, None, Some(soon)), route(Policy::Any));
    any(&mut desk, 2..=2, None);
    desk.handle_timeout(soon);
    assert_eq!(poll(&mut desk, soon, E[0]), [2]);
}

/// Nobody is tried with two: what is under `all` proves as much.
#[test]
fn what_is_queued_under_all_is_the_trial() {
    let mut desk = outbox(2);
    desk.accept(meta(1, None, None), route(Policy::All));
    desk.handle_intake(NOW, E[0], Intake::One);
    any(&mut desk, 2..=3, None);
    assert_eq!(poll(&mut desk, NOW, E[0]), [1]);
    any(&mut desk, 4..=4, None);
    assert_eq!(poll(&mut desk, NOW, E[1]), [1, 2, 3, 4]);
    assert_eq!(poll(&mut desk, NOW, E[0]), [0_u64; 0]);
}

#[derive(Debug, Clone)]
enum Step {
    Accept { count: u8, key: Option<u8>, is_any: bool, deadline: Option<u64> },
    Hold(usize, Intake),
    Connect(usize),
    Disconnect(usize),
    Poll(usize, u32),
    Ack(usize, usize, usize),
    Refuse(usize, usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let e = 0..3_usize;
    let intake = prop_oneof![Just(Intake::Open), Just(Intake::One), Just(Intake::Closed)];
    let accept = (
        1..12_u8,
        prop::option::of(0..3_u8),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.2, 1..20_000_u64),
    );
    prop_oneof![
        6 => accept.prop_map(|(count, key, is_any, deadline)| {
            Step::Accept { count, key, is_any, deadline }
        }),
        8 => (e.clone(), intake).prop_map(|(e, intake)| Step::Hold(e, intake)),
        2 => e.clone().prop_map(Step::Connect),
        1 => e.clone().prop_map(Step::Disconnect),
        12 => (e.clone(), 1..8_u32).prop_map(|(e, n)| Step::Poll(e, n)),
        8 => (e.clone(), 0..8_usize, 1..6_usize).prop_map(|(e, n, count)| Step::Ack(e, n, count)),
        3 => (e, 0..8_usize).prop_map(|(e, n)| Step::Refuse(e, n)),
        2 => (1..4_000_u64).prop_map(Step::Pass),
    ]
}

#[derive(Debug, Clone)]
struct Known {
    key: Option<u8>,
    is_any: bool,
    deadline: Option<UnixMillis>,
    acked: [bool; 3],
}

/// The desk, and what the peers have.
struct World {
    desk: Desk,
    live: BTreeMap<u64, Known>,
    accepted: u64,
    connected: [bool; 3],
    intake: [Intake; 3],
    sent: [BTreeSet<u64>; 3],
    /// Messages under `any` sent since the endpoint is tried, and not answered.
    tried: [BTreeSet<u64>; 3],
}

impl World {
    fn new() -> Self {
        let config = OutboxConfig { refusals_max: 100, assigned_max: 3, window_max: 4, seed: 1 };
        let mut desk = Desk::new(config);
        for (id, name) in E.iter().zip(NAMES) {
            desk.handle_endpoint_added(*id, name).unwrap();
            desk.handle_connected(*id, &SeqSet::new());
        }
        Self {
            desk,
            live: BTreeMap::new(),
            accepted: 0,
            connected: [true; 3],
            intake: [Intake::Open; 3],
            sent: Default::default(),
            tried: Default::default(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Accept { count, key, is_any, deadline } => {
                for _ in 0..count {
                    self.accepted += 1;
                    let deadline = deadline.map(|after| UnixMillis(self.desk.now.0 + after));
                    let policy = if is_any { Policy::Any } else { Policy::All };
                    let known = Known { key, is_any, deadline, acked: [false; 3] };
                    self.live.insert(self.accepted, known);
                    self.desk.accept(meta(self.accepted, key, deadline), route(policy));
                }
            }
            Step::Hold(e, intake) => {
                self.desk.outbox.handle_intake(self.desk.now, E[e], intake);
                if self.connected[e] && self.intake[e] != intake {
                    self.intake[e] = intake;
                    self.tried[e].clear();
                }
            }
            Step::Connect(e) => {
                let acked = self.live.iter().filter(|(_, known)| known.acked[e]);
                let acked = seqs(acked.map(|(seq, _)| *seq));
                self.desk.handle_connected(E[e], &acked);
                self.forget(e, true);
            }
            Step::Disconnect(e) => {
                self.desk.handle_disconnected(E[e]);
                self.forget(e, false);
            }
            Step::Poll(e, messages) => self.poll(e, messages),
            Step::Ack(e, n, count) => {
                let acked: Vec<u64> = self.sent[e].iter().copied().skip(n).take(count).collect();
                for seq in &acked {
                    self.land(e, *seq);
                    self.live.get_mut(seq).unwrap().acked[e] = true;
                }
                self.desk.handle_ack(E[e], &seqs(acked));
            }
            Step::Refuse(e, n) => {
                let Some(seq) = self.sent[e].iter().copied().nth(n) else { return };
                self.land(e, seq);
                let (now, refusal) = (self.desk.now, Refusal::Retry { after: None });
                self.desk.handle_nack(now, E[e], Seq(seq), refusal, 1, "later");
            }
            Step::Pass(millis) => {
                let now = UnixMillis(self.desk.now.0 + millis);
                self.desk.handle_timeout(now);
            }
        }
        self.collect();
    }

    fn forget(&mut self, e: usize, is_connected: bool) {
        (self.connected[e], self.intake[e]) = (is_connected, Intake::Open);
        self.sent[e].clear();
        self.tried[e].clear();
    }

    fn land(&mut self, e: usize, seq: u64) {
        self.sent[e].remove(&seq);
        self.tried[e].remove(&seq);
    }

    fn poll(&mut self, e: usize, messages: u32) {
        let (now, budget) = (self.desk.now, Budget { messages, ..BUDGET });
        for seq in self.desk.poll_batch(now, E[e], budget, 128, 1 << 16) {
            let seq = seq.0;
            let known = self.live.get(&seq).expect("M12: nothing is sent after it ended").clone();
            assert!(self.connected[e] && !known.acked[e]);
            assert!(known.deadline.is_none_or(|at| at > now), "M13: {seq} is too late");
            assert!(self.sent[e].insert(seq), "{seq} was sent twice on one stream");
            let is_one_of_many = |other: &BTreeSet<u64>| other.contains(&seq);
            let count = self.sent.iter().filter(|sent| is_one_of_many(sent)).count();
            assert!(!known.is_any || count == 1, "{seq} is in flight at two endpoints");
            if known.is_any {
                assert_ne!(self.intake[e], Intake::Closed, "{seq} was sent to one that is held");
            }
            if self.intake[e] == Intake::One && known.is_any {
                self.tried[e].insert(seq);
                assert_eq!(self.tried[e].len(), 1, "tried with more than one");
            }
            // M14: every earlier one of its key was sent here before, or need not be.
            for (earlier, other) in self.live.range(..seq) {
                let is_related = known.key.is_some() && other.key == known.key;
                let is_past = self.sent[e].contains(earlier) || other.acked[e];
                assert!(!is_related || is_past, "M14: {seq} passed {earlier} at {e}");
            }
        }
    }

    fn collect(&mut self) {
        for action in actions(&mut self.desk) {
            match action {
                Action::Settle { seqs } => {
                    for seq in seqs.iter() {
                        let known = self.live.remove(&seq.0).expect("M12: a message ends once");
                        let acks = known.acked.iter().filter(|acked| **acked).count();
                        let is_late = known.deadline.is_some_and(|at| at <= self.desk.now);
                        let least = if known.is_any || is_late { 1 } else { 3 };
                        assert!(acks >= least, "{seq}: {known:?}");
                    }
                }
                Action::Dead { seq, .. } => {
                    let known = self.live.remove(&seq.0).expect("M12: a message ends once");
                    assert!(known.deadline.is_some_and(|at| at <= self.desk.now), "{known:?}");
                }
                other @ (Action::Lost { .. }
                | Action::Ready(_)
                | Action::Load { .. }
                | Action::Remember { .. }) => panic!("{other:?}"),
            }
        }
        let live = &self.live;
        self.sent
            .iter_mut()
            .chain(&mut self.tried)
            .for_each(|s| s.retain(|q| live.contains_key(q)));
        for (e, id) in E.iter().enumerate() {
            assert_eq!(self.desk.in_flight(*id), self.sent[e].len(), "in flight at {e}");
        }
        assert!(self.desk.resident() <= 3 * (4 + 4 + 3) + 4 + 4, "M24: {}", self.desk.resident());
    }

    /// All but the last endpoint stay as they are; with that one open everything under `any` that
    /// is not in flight elsewhere leaves through it.
    fn finish_through_one(&mut self) {
        self.apply(Step::Connect(2));
        for round in 0.. {
            assert!(round < 500, "stuck: {:?}", self.live);
            self.apply(Step::Pass(60_000));
            self.apply(Step::Poll(2, 100));
            self.apply(Step::Ack(2, 0, usize::MAX));
            for e in 0..2 {
                // Held ones answer what they have, and are sent nothing more.
                self.apply(Step::Ack(e, 0, usize::MAX));
            }
            if !self.live.values().any(|known| known.is_any) {
                break;
            }
        }
    }

    fn heal(&mut self) {
        (0..3).for_each(|e| self.apply(Step::Connect(e)));
        for round in 0.. {
            assert!(round < 500, "stuck: {:?}", self.live);
            for e in 0..3 {
                self.apply(Step::Poll(e, 100));
                self.apply(Step::Ack(e, 0, usize::MAX));
            }
            if self.live.is_empty() {
                break;
            }
            self.apply(Step::Pass(60_000));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whoever_is_held_every_message_ends_once_in_order_and_in_time(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
        }
        for e in 0..2 {
            world.apply(Step::Hold(e, Intake::Closed));
        }
        world.finish_through_one();
        world.heal();
        prop_assert!(world.live.is_empty());
        prop_assert_eq!(world.desk.resident(), 0);
        prop_assert_eq!(world.desk.bits_bytes(), 0);
    }
}
