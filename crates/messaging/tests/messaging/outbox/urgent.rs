//! What is long holds back nothing that is more urgent; and whom the balancer is asked about.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use alys_stream_messaging::outbox::{Balance, Candidate, GATHER_MILLIS, PASSED_MILLIS};
use alys_stream_protocol::message::Priority;

use super::*;

mod held;

const MIB: u64 = 1 << 20;
const LARGE: u32 = 4 << 20;
const SMALL: u32 = 256;

fn accept(desk: &mut Desk, seq: u64, priority: Priority, payload_bytes: u32) {
    let meta = RecordMeta { priority, payload_bytes, ..meta(seq, None, None) };
    desk.accept(meta, route(Policy::All));
}

fn take(desk: &mut Desk, now: UnixMillis, budget: Budget) -> Vec<u64> {
    desk.now = now;
    desk.pump();
    desk.poll_batch(now, E[0], budget, 128, 64 * 1024).into_iter().map(|seq| seq.0).collect()
}

fn ack(desk: &mut Desk, numbers: &[u64]) {
    desk.handle_ack(E[0], &seqs(numbers.iter().copied()));
}

#[test]
fn a_large_low_head_that_does_not_fit_holds_back_no_other_priority() {
    let mut outbox = outbox(1);
    accept(&mut outbox, 1, Priority::Low, LARGE);
    accept(&mut outbox, 2, Priority::Low, SMALL);
    for (seq, priority) in [(3, Priority::Normal), (4, Priority::High), (5, Priority::Critical)] {
        accept(&mut outbox, seq, priority, SMALL);
    }
    // What is behind it in its own priority waits: that is the order.
    assert_eq!(take(&mut outbox, NOW, Budget::new(128, 2 * MIB)), [5, 4, 3]);
    assert_eq!(take(&mut outbox, NOW, Budget::new(128, 2 * MIB)), [0_u64; 0]);
    assert_eq!(take(&mut outbox, NOW, Budget::new(128, 4 * MIB)), [1], "a batch of its own");
    assert_eq!(take(&mut outbox, NOW, Budget::new(128, 4 * MIB)), [2]);
}

#[test]
fn while_a_long_one_is_on_its_way_another_waits_and_shorter_ones_pass() {
    let mut outbox = outbox(1);
    let budget = Budget { large_bytes_max: 64 * 1024, ..Budget::new(128, 8 * MIB) };
    accept(&mut outbox, 1, Priority::Low, LARGE);
    accept(&mut outbox, 2, Priority::High, LARGE);
    accept(&mut outbox, 3, Priority::Normal, SMALL);
    assert_eq!(take(&mut outbox, NOW, budget), [3]);
    accept(&mut outbox, 4, Priority::Critical, LARGE);
    assert_eq!(take(&mut outbox, NOW, budget), [4], "critical ones do not wait for others");
    assert_eq!(take(&mut outbox, NOW, Budget::new(128, 8 * MIB)), [2]);
}

#[test]
fn the_reserve_is_for_critical_messages_alone() {
    let mut outbox = outbox(1);
    for (seq, priority) in [(1, Priority::High), (2, Priority::Critical), (3, Priority::Critical)] {
        accept(&mut outbox, seq, priority, SMALL);
    }
    let none = Budget::new(0, 0);
    assert_eq!(take(&mut outbox, NOW, none), [0_u64; 0]);
    let reserve = Budget { critical_messages: 1, critical_bytes: MIB, ..none };
    assert_eq!(take(&mut outbox, NOW, reserve), [2]);
    assert_eq!(take(&mut outbox, NOW, Budget { critical_bytes: 255, ..reserve }), [0_u64; 0]);
    let both = Budget { critical_messages: 1, critical_bytes: 256, ..Budget::new(1, 256) };
    assert_eq!(take(&mut outbox, NOW, both), [3], "it took the one of all");
    assert_eq!(take(&mut outbox, NOW, both), [1]);
}

#[test]
fn a_large_critical_message_is_next_whatever_becomes_free() {
    let mut outbox = outbox(1);
    accept(&mut outbox, 1, Priority::Normal, SMALL);
    assert_eq!(take(&mut outbox, NOW, Budget::new(128, 8 * MIB)), [1]);
    accept(&mut outbox, 2, Priority::Critical, LARGE);
    accept(&mut outbox, 3, Priority::Normal, SMALL);
    assert_eq!(
        take(&mut outbox, NOW, Budget::new(128, 2 * MIB)),
        [0_u64; 0],
        "3 would take what 2 needs"
    );
    assert_eq!(take(&mut outbox, NOW, Budget::new(128, 4 * MIB)), [2]);
    ack(&mut outbox, &[1, 2]);
    // Nothing is in flight, so nothing becomes free any more: the others need not wait for it.
    accept(&mut outbox, 4, Priority::Critical, LARGE);
    assert_eq!(take(&mut outbox, NOW, Budget::new(128, 2 * MIB)), [3]);
}

/// Shorter messages take all that becomes free; so nobody else is sent anything for a while.
#[test]
fn a_class_that_was_passed_over_for_long_gathers_and_is_not_starved() {
    let mut outbox = outbox(1);
    let (mut seq, mut now, mut sent_at) = (0, NOW, None);
    // Messages of 64 KiB, and a peer with room for eighty that takes ten at a time.
    let mut in_flight: VecDeque<u64> = VecDeque::new();
    let left = |in_flight: &VecDeque<u64>| (80 - in_flight.len() as u64) * 64 * 1024;
    while sent_at.is_none() {
        now = UnixMillis(now.0 + 100);
        assert!(now.0 < NOW.0 + PASSED_MILLIS + GATHER_MILLIS, "bounded");
        for _ in 0..100 {
            seq += 1;
            let is_large = seq == 101;
            let (priority, bytes) =
                if is_large { (Priority::Low, LARGE) } else { (Priority::Normal, 64 * 1024) };
            accept(&mut outbox, seq, priority, bytes);
        }
        while sent_at.is_none() {
            let batch = take(&mut outbox, now, Budget::new(128, left(&in_flight)));
            if batch == [101] {
                sent_at = Some(now.0 - NOW.0);
            } else if batch.is_empty() {
                break;
            }
            in_flight.extend(batch);
        }
        let acked: Vec<u64> = in_flight.drain(..in_flight.len().min(10)).collect();
        ack(&mut outbox, &acked);
    }
    assert!(sent_at.is_some_and(|at| at >= PASSED_MILLIS), "not before it waited: {sent_at:?}");
    let critical = seq + 1;
    accept(&mut outbox, critical, Priority::Critical, SMALL);
    assert_eq!(take(&mut outbox, now, Budget::new(1, MIB)), [critical]);
}

#[test]
fn while_a_class_gathers_critical_messages_go_and_a_head_that_never_fits_costs_a_third() {
    let mut outbox = outbox(1);
    accept(&mut outbox, 1, Priority::Low, LARGE);
    accept(&mut outbox, 2, Priority::Normal, SMALL);
    let small = Budget::new(128, MIB);
    assert_eq!(take(&mut outbox, NOW, small), [2]);
    let gathers = UnixMillis(NOW.0 + PASSED_MILLIS);
    accept(&mut outbox, 3, Priority::Normal, SMALL);
    accept(&mut outbox, 4, Priority::Critical, SMALL);
    assert_eq!(outbox.poll_timeout(), None);
    assert_eq!(take(&mut outbox, gathers, small), [4]);
    let over = UnixMillis(gathers.0 + GATHER_MILLIS);
    while outbox.poll_action().is_some() {}
    assert_eq!(outbox.poll_timeout(), Some(over));
    outbox.handle_timeout(over);
    assert_eq!(outbox.poll_action(), Some(Action::Ready(E[0])), "whatever the peer does");
    assert_eq!(outbox.poll_timeout(), None);
    assert_eq!(take(&mut outbox, over, small), [3], "for so long and no longer");
    accept(&mut outbox, 5, Priority::Normal, SMALL);
    ack(&mut outbox, &[2, 3, 4]);
    let again = UnixMillis(over.0 + PASSED_MILLIS);
    assert_eq!(take(&mut outbox, again, small), [5], "with nothing in flight nothing is awaited");
    accept(&mut outbox, 6, Priority::Normal, SMALL);
    outbox.handle_disconnected(E[0]);
    outbox.handle_connected(E[0], &SeqSet::new());
    assert_eq!(take(&mut outbox, again, small), [5, 6], "a new connection starts over");
}

/// Says who it was asked about, and chooses the first in any case.
#[derive(Debug, Default, Clone)]
struct First(Arc<Mutex<Vec<Vec<Candidate>>>>);

impl Balance for First {
    fn choose(&mut self, _now: UnixMillis, candidates: &[Candidate]) -> Option<EndpointId> {
        self.0.lock().unwrap().push(candidates.to_vec());
        candidates.first().map(|candidate| candidate.id)
    }
}

#[test]
fn the_balancer_sees_who_is_full_and_nobody_full_is_given_more() {
    let mut desk = Desk::new(OutboxConfig { assigned_max: 2, ..OutboxConfig::default() });
    let asked = First::default();
    desk.set_balance(Box::new(asked.clone()));
    for (id, name) in E.iter().zip(NAMES).take(2) {
        desk.handle_endpoint_added(*id, name).unwrap();
        desk.handle_connected(*id, &SeqSet::new());
    }
    for seq in 1..=6 {
        desk.accept(meta(seq, None, None), route(Policy::Any));
    }
    let full: Vec<Vec<bool>> = asked
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|seen| seen.iter().map(|candidate| candidate.is_saturated).collect())
        .collect();
    // The third and the fourth are asked for twice; when both are full nobody is asked.
    let expected: [&[bool]; 6] =
        [&[false, false], &[false, false], &[true, false], &[false], &[true, false], &[false]];
    assert_eq!(full, expected);
    assert_eq!(poll(&mut desk, NOW, E[0]), [1, 2]);
    assert_eq!(poll(&mut desk, NOW, E[1]), [3, 4]);
    assert_eq!(desk.unassigned(), [0, 2, 0, 0]);
    desk.handle_ack(E[1], &seqs([3]));
    assert_eq!(poll(&mut desk, NOW, E[1]), [5]);
}

#[test]
fn what_is_in_memory_is_known() {
    let mut desk = outbox(1);
    accept(&mut desk, 1, Priority::Normal, SMALL);
    assert!(desk.is_resident(Seq(1)) && desk.contains(Seq(1)));
    desk.handle_disconnected(E[0]);
    assert!(!desk.is_resident(Seq(1)) && desk.contains(Seq(1)));
    assert!(!desk.is_resident(Seq(2)));
}
