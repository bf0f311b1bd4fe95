//! Each check finds what it is there for, in what is seen of real processes too.

use super::*;

fn id(number: u8) -> MessageId {
    MessageId::new([number; 16])
}

/// A message for everyone, under a number of its own, that ended well.
fn complete(number: u8, key: Option<u8>) -> (Accepted, Fate) {
    let accepted = Accepted {
        id: id(number),
        seq: Seq(number.into()),
        target: For::All,
        priority: Priority::Normal,
        key,
        deadline: None,
    };
    (accepted, Fate { end: End::Ended(OutcomeState::Complete), letter: None })
}

/// Messages that were applied in this order, each at another time.
fn ledger(numbers: &[u8]) -> Ledger {
    let applied = (1..).zip(numbers).map(|(received, number)| Applied {
        place: (1, usize::try_from(received).unwrap()),
        id: id(*number),
        by: None,
        log: [7; 16],
        seq: Seq((*number).into()),
        received,
    });
    Ledger(applied.collect())
}

/// What is found in two messages of one key, after a change of what became of them.
#[track_caller]
fn finds(change: impl FnOnce(&mut [(Accepted, Fate); 2]), ledgers: [&[u8]; 2], expected: &[&str]) {
    let mut messages = [complete(1, Some(0)), complete(2, Some(0))];
    change(&mut messages);
    let violations = judge(&messages, ledgers.map(ledger).to_vec());
    let invariants: Vec<_> = violations.iter().map(|it| it.invariant).collect();
    assert_eq!(invariants, expected, "{violations:?}");
    for Violation { text, .. } in &violations {
        let has_id = [1, 2].iter().any(|number| text.contains(&id(*number).to_string()));
        assert!(has_id, "nobody knows which message: {text}");
    }
}

#[test]
fn what_is_as_promised_passes() {
    finds(|_| (), [&[1, 2], &[1, 2]], &[]);
}

#[test]
fn an_accepted_message_that_the_node_does_not_know_breaks_d1() {
    let forget = |messages: &mut [(Accepted, Fate); 2]| messages[1].1.end = End::Unknown;
    finds(forget, [&[1, 2], &[1, 2]], &["d1_accepted_is_durable"]);
}

#[test]
fn a_settled_message_that_a_ledger_misses_breaks_d2() {
    finds(|_| (), [&[1, 2], &[1]], &["d2_exactly_one_end"]);
}

#[test]
fn a_policy_asks_for_no_more_ledgers_than_it_says() {
    for (target, expected) in [(For::Any, vec![]), (For::Quorum, vec!["d2_exactly_one_end"])] {
        let change = |messages: &mut [(Accepted, Fate); 2]| messages[1].0.target = target;
        finds(change, [&[1, 2], &[1]], &expected);
    }
}

#[test]
fn a_settled_message_that_is_a_dead_letter_breaks_d2() {
    let bury = |messages: &mut [(Accepted, Fate); 2]| {
        messages[0].1.letter = Some("expired".to_owned());
    };
    finds(bury, [&[1, 2], &[1, 2]], &["d2_exactly_one_end"]);
}

#[test]
fn a_message_that_was_applied_twice_breaks_d3() {
    let apart = |messages: &mut [(Accepted, Fate); 2]| messages[0].0.key = None;
    finds(apart, [&[1, 2, 1], &[1, 2]], &["d3_applied_once"]);
}

#[test]
fn a_line_that_was_written_again_is_one_application() {
    let mut again = ledger(&[1]);
    again.0.extend_from_within(..);
    assert_eq!(judge(&[complete(1, None)], vec![again]), []);
}

#[test]
fn messages_of_one_key_out_of_order_break_d4() {
    finds(|_| (), [&[1, 2], &[2, 1]], &["d4_order_per_key"]);
}

#[test]
fn other_keys_and_other_priorities_have_no_order() {
    let change = |messages: &mut [(Accepted, Fate); 2]| messages[1].0.key = Some(1);
    finds(change, [&[1, 2], &[2, 1]], &[]);
    let change = |messages: &mut [(Accepted, Fate); 2]| messages[1].0.priority = Priority::High;
    finds(change, [&[1, 2], &[2, 1]], &[]);
}

#[test]
fn a_message_that_does_not_end_breaks_liveness() {
    let linger = |messages: &mut [(Accepted, Fate); 2]| messages[1].1.end = End::Unended;
    finds(linger, [&[1, 2], &[1]], &["liveness_everything_ends"]);
}
