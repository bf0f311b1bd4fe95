//! Messages that are longer than an endpoint takes at all.

use alys_stream_messaging::outbox::Intake;

use super::*;

const SMALL: u32 = 256;
const LARGE: u32 = 2 << 20;

/// Endpoints that take so much, connected.
fn taking(limits: &[u32]) -> Desk {
    configured(OutboxConfig::default(), limits)
}

/// The same, each with room for two messages under `any`.
fn narrow(limits: &[u32]) -> Desk {
    let config = OutboxConfig { assigned_max: 2, window_max: 64, ..OutboxConfig::default() };
    configured(config, limits)
}

fn configured(config: OutboxConfig, limits: &[u32]) -> Desk {
    let mut desk = Desk::new(config);
    for ((id, name), bytes_max) in E.iter().zip(NAMES).zip(limits) {
        desk.handle_endpoint_added(*id, name).unwrap();
        desk.handle_payload_max(NOW, *id, *bytes_max);
        desk.handle_connected(*id, &SeqSet::new());
    }
    desk
}

fn accept(desk: &mut Desk, seq: u64, key: Option<u8>, payload_bytes: u32, policy: Policy) {
    desk.accept(RecordMeta { payload_bytes, ..meta(seq, key, None) }, route(policy));
    desk.pump();
}

/// Takes all that an endpoint gets, in order.
fn take(desk: &mut Desk, endpoint: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    loop {
        let batch = poll(desk, NOW, E[endpoint]);
        desk.pump();
        if batch.is_empty() {
            return taken;
        }
        taken.extend(batch);
    }
}

fn ack(desk: &mut Desk, endpoint: usize, numbers: &[u64]) {
    desk.handle_ack(E[endpoint], &seqs(numbers.iter().copied()));
    desk.pump();
}

/// The numbers of dead letters, and what they say.
fn dead(desk: &Desk) -> Vec<(u64, String)> {
    let of = |action: &Action| {
        let Action::Dead { seq, cause: Cause::Refused { text, .. }, .. } = action else {
            return None;
        };
        Some((seq.0, text.clone()))
    };
    desk.ended.iter().filter_map(of).collect()
}

#[test]
fn one_that_nobody_takes_is_a_dead_letter_and_stands_before_nothing() {
    for policy in [Policy::Any, Policy::All, Policy::Quorum(2)] {
        let mut desk = taking(&[SMALL, 2 * SMALL]);
        accept(&mut desk, 1, None, LARGE, policy);
        accept(&mut desk, 2, None, SMALL, policy);
        let sent = [take(&mut desk, 0), take(&mut desk, 1)].concat();
        assert!(sent.iter().all(|seq| *seq == 2) && !sent.is_empty(), "{policy:?}: {sent:?}");
        let dead = dead(&desk);
        assert_eq!(dead.len(), 1, "{policy:?}: {dead:?}");
        assert!(dead[0].0 == 1 && dead[0].1.contains("2097152 payload bytes"), "{dead:?}");
        // The last one that was asked, or whoever takes most.
        assert!(dead[0].1.contains("256") || dead[0].1.contains("512"), "{dead:?}");
    }
}

#[test]
fn under_all_the_others_get_it_and_then_it_is_a_dead_letter_that_says_who_does_not() {
    let mut desk = taking(&[SMALL, LARGE]);
    accept(&mut desk, 1, None, LARGE, Policy::All);
    accept(&mut desk, 2, None, SMALL, Policy::All);
    assert_eq!(take(&mut desk, 0), [2]);
    assert_eq!(take(&mut desk, 1), [1, 2]);
    let history = &desk.histories[&Seq(1)];
    let attempts: Vec<_> = history.attempts.iter().map(|a| (&*a.endpoint, a.code)).collect();
    assert_eq!(attempts, [("gov-1", 0)]);
    assert_eq!(dead(&desk), []);
    ack(&mut desk, 1, &[1, 2]);
    ack(&mut desk, 0, &[2]);
    assert_eq!(dead(&desk).len(), 1);
    assert!(desk.ended.contains(&settle(2)));
}

#[test]
fn a_quorum_is_met_by_those_who_take_it() {
    let mut desk = taking(&[LARGE, SMALL, LARGE]);
    accept(&mut desk, 1, None, LARGE, Policy::Quorum(2));
    assert_eq!([0, 1, 2].map(|endpoint| take(&mut desk, endpoint).len()), [1, 0, 1]);
    ack(&mut desk, 0, &[1]);
    ack(&mut desk, 2, &[1]);
    assert_eq!(desk.ended, [settle(1)]);
}

#[test]
fn under_any_it_goes_to_one_that_takes_it_whoever_is_less_busy() {
    let mut desk = taking(&[SMALL, LARGE]);
    accept(&mut desk, 1, None, LARGE, Policy::Any);
    accept(&mut desk, 2, None, LARGE, Policy::Any);
    accept(&mut desk, 3, None, SMALL, Policy::Any);
    assert_eq!(take(&mut desk, 0), [3]);
    assert_eq!(take(&mut desk, 1), [1, 2]);
    ack(&mut desk, 1, &[1, 2]);
    ack(&mut desk, 0, &[3]);
    assert_eq!(desk.ended, [1, 2, 3].map(settle));
}

#[test]
fn while_who_takes_it_is_away_it_waits_and_holds_back_nothing() {
    let mut desk = taking(&[SMALL, LARGE]);
    desk.handle_disconnected(E[1]);
    for seq in (1..=9).step_by(2) {
        accept(&mut desk, seq, None, LARGE, Policy::Any);
        accept(&mut desk, seq + 1, None, SMALL, Policy::Any);
    }
    assert_eq!(take(&mut desk, 0), [2, 4, 6, 8, 10]);
    ack(&mut desk, 0, &[2, 4, 6, 8, 10]);
    assert_eq!(desk.resident(), 0, "M24: what waits for long is not in memory");
    desk.handle_connected(E[1], &SeqSet::new());
    desk.pump();
    assert_eq!(take(&mut desk, 1), [1, 3, 5, 7, 9]);
    assert_eq!(dead(&desk), []);
    // It comes back with less: then nobody takes what it did not acknowledge.
    ack(&mut desk, 1, &[1, 3]);
    desk.handle_payload_max(NOW, E[1], SMALL);
    desk.handle_connected(E[1], &SeqSet::new());
    desk.pump();
    let numbers: Vec<u64> = dead(&desk).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(numbers, [5, 7, 9]);
}

#[test]
fn an_endpoint_that_never_connected_may_take_it_until_it_is_removed() {
    let mut desk = taking(&[SMALL]);
    desk.handle_endpoint_added(E[1], NAMES[1]).unwrap();
    accept(&mut desk, 1, None, LARGE, Policy::Any);
    accept(&mut desk, 2, Some(1), LARGE, Policy::Any);
    assert_eq!((take(&mut desk, 0), dead(&desk)), (vec![], vec![]));
    desk.handle_endpoint_removed(E[1]);
    desk.pump();
    assert_eq!(dead(&desk).len(), 2);
}

#[test]
fn later_ones_of_its_key_wait_for_it_and_no_others() {
    let mut desk = taking(&[SMALL, LARGE]);
    desk.handle_disconnected(E[1]);
    accept(&mut desk, 1, Some(1), LARGE, Policy::Any);
    accept(&mut desk, 2, Some(1), SMALL, Policy::Any);
    accept(&mut desk, 3, Some(2), SMALL, Policy::Any);
    accept(&mut desk, 4, None, SMALL, Policy::Any);
    assert_eq!(take(&mut desk, 0), [3, 4]);
    ack(&mut desk, 0, &[3, 4]);
    desk.handle_connected(E[1], &SeqSet::new());
    desk.pump();
    assert_eq!(take(&mut desk, 1), [1, 2], "M14");
    assert_eq!(take(&mut desk, 0), [0_u64; 0]);
}

#[test]
fn a_key_leaves_an_endpoint_for_one_that_takes_what_comes_next() {
    let mut desk = taking(&[SMALL]);
    accept(&mut desk, 1, Some(1), SMALL, Policy::Any);
    assert_eq!(take(&mut desk, 0), [1]);
    desk.handle_endpoint_added(E[1], NAMES[1]).unwrap();
    desk.handle_payload_max(NOW, E[1], LARGE);
    desk.handle_connected(E[1], &SeqSet::new());
    accept(&mut desk, 2, Some(1), LARGE, Policy::Any);
    accept(&mut desk, 3, Some(1), SMALL, Policy::Any);
    accept(&mut desk, 4, Some(2), LARGE, Policy::Any);
    assert_eq!((take(&mut desk, 0), take(&mut desk, 1)), (vec![], vec![4]), "M14: not before 1");
    ack(&mut desk, 0, &[1]);
    assert_eq!(take(&mut desk, 1), [2, 3]);
}

#[test]
fn while_who_takes_it_is_full_others_get_what_is_behind_it() {
    let mut desk = narrow(&[SMALL, LARGE]);
    for seq in 1..=4 {
        accept(&mut desk, seq, None, LARGE, Policy::Any);
    }
    for seq in 5..=6 {
        accept(&mut desk, seq, None, SMALL, Policy::Any);
    }
    assert_eq!(take(&mut desk, 0), [5, 6]);
    assert_eq!(take(&mut desk, 1), [1, 2]);
    // One that takes nothing for now is no other than one that is full.
    desk.handle_intake(NOW, E[1], Intake::Closed);
    ack(&mut desk, 1, &[1, 2]);
    ack(&mut desk, 0, &[5, 6]);
    accept(&mut desk, 7, None, SMALL, Policy::Any);
    assert_eq!((take(&mut desk, 1), take(&mut desk, 0)), (vec![], vec![7]));
    desk.handle_intake(NOW, E[1], Intake::Open);
    desk.pump();
    assert_eq!(take(&mut desk, 1), [3, 4]);
}

#[test]
fn its_deadline_passes_while_it_waits() {
    let mut desk = taking(&[SMALL]);
    desk.handle_endpoint_added(E[1], NAMES[1]).unwrap();
    let deadline = NOW.saturating_add(Duration::from_secs(5));
    let late = RecordMeta { payload_bytes: LARGE, ..meta(1, None, Some(deadline)) };
    desk.accept(late, route(Policy::Any));
    desk.pump();
    assert_eq!(desk.poll_timeout(), Some(deadline));
    desk.handle_timeout(deadline);
    desk.pump();
    let is_expired = |action: &Action| matches!(action, Action::Dead { cause: Cause::Expired, .. });
    assert!(desk.ended.len() == 1 && desk.ended.iter().all(is_expired), "{:?}", desk.ended);
}

/// What waits for one slow endpoint is not read again whenever that one has room.
#[test]
fn a_long_backlog_of_long_ones_is_looked_up_once() {
    const COUNT: u64 = 1_000;
    let config = OutboxConfig { assigned_max: 4, window_max: 64, ..OutboxConfig::default() };
    let mut desk = Desk::new(config);
    for ((id, name), bytes_max) in E.iter().zip(NAMES).zip([SMALL, LARGE]) {
        desk.handle_endpoint_added(*id, name).unwrap();
        desk.handle_payload_max(NOW, *id, bytes_max);
        desk.handle_connected(*id, &SeqSet::new());
    }
    for seq in 1..=COUNT {
        accept(&mut desk, seq, None, LARGE, Policy::Any);
    }
    accept(&mut desk, COUNT + 1, None, SMALL, Policy::Any);
    let mut sent = 0;
    while desk.ended.len() < usize::try_from(COUNT).unwrap() {
        assert!(desk.resident() <= 2 * 64 + 8, "M24: {}", desk.resident());
        let batch = take(&mut desk, 1);
        sent += batch.len();
        ack(&mut desk, 1, &batch);
    }
    assert_eq!(sent, 1_000);
    assert_eq!(take(&mut desk, 0), [COUNT + 1]);
    assert!(desk.loaded <= 1_001, "{} were looked up", desk.loaded);
}

#[test]
fn keys_that_wait_for_one_that_is_full_go_wherever_room_is_first() {
    let mut desk = narrow(&[SMALL, LARGE, LARGE]);
    for seq in 1..=8 {
        accept(&mut desk, seq, Some(seq as u8), LARGE, Policy::Any);
    }
    accept(&mut desk, 9, Some(8), SMALL, Policy::Any);
    accept(&mut desk, 10, Some(9), SMALL, Policy::Any);
    assert_eq!(take(&mut desk, 0), [10]);
    assert_eq!([take(&mut desk, 1), take(&mut desk, 2)], [[1, 3], [2, 4]]);
    assert!(desk.resident() <= 5, "M24: what waits is not in memory, {}", desk.resident());
    let loaded = desk.loaded;
    ack(&mut desk, 0, &[10]);
    assert!(desk.loaded <= loaded + 5, "nothing is asked for again and again");
    // The other one stays full.
    ack(&mut desk, 2, &[2, 4]);
    assert_eq!(take(&mut desk, 2), [5, 6]);
    ack(&mut desk, 2, &[5, 6]);
    assert_eq!(take(&mut desk, 2), [7, 8]);
    ack(&mut desk, 2, &[7, 8]);
    assert_eq!([0, 1, 2].map(|endpoint| take(&mut desk, endpoint)).concat(), [9]);
    assert_eq!(dead(&desk), []);
}

#[test]
fn one_that_is_to_prove_itself_is_tried_with_what_only_it_takes() {
    let mut desk = narrow(&[SMALL, LARGE]);
    desk.handle_intake(NOW, E[1], Intake::One);
    for seq in 1..=3 {
        accept(&mut desk, seq, Some(seq as u8), LARGE, Policy::Any);
    }
    assert_eq!(take(&mut desk, 1), [1]);
    desk.handle_intake(NOW, E[1], Intake::Closed);
    ack(&mut desk, 1, &[1]);
    assert_eq!(take(&mut desk, 1), [0_u64; 0]);
    desk.handle_intake(NOW, E[1], Intake::One);
    desk.pump();
    assert_eq!(take(&mut desk, 1), [2], "nobody else proves that it takes messages");
    ack(&mut desk, 1, &[2]);
    desk.handle_intake(NOW, E[1], Intake::Open);
    desk.pump();
    assert_eq!(take(&mut desk, 1), [3]);
}
