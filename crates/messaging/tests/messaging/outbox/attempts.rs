//! What a dead message says of everybody who was asked.

use super::*;

const DEADLINE: UnixMillis = UnixMillis(NOW.0 + 60_000);

fn at(millis: u64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

/// Who, when and what; refusals first. The code where a peer gave one.
fn attempts(desk: &mut Desk) -> Vec<(String, u64, u32, String)> {
    let dead = actions(desk).into_iter().find_map(|action| match action {
        Action::Dead { attempts, unanswered, .. } => Some([attempts, unanswered].concat()),
        Action::Ready(_)
        | Action::Load { .. }
        | Action::Remember { .. }
        | Action::Settle { .. }
        | Action::Lost { .. } => None,
    });
    let told = |it: Attempt| (it.endpoint, it.at.0 - NOW.0, it.code, it.text);
    dead.expect("it is dead").into_iter().map(told).collect()
}

fn said(endpoint: &str, at: u64, code: u32, text: &str) -> (String, u64, u32, String) {
    (endpoint.to_owned(), at, code, text.to_owned())
}

#[test]
fn every_attempt_is_told_answered_or_not() {
    let mut desk = outbox(2);
    desk.accept(meta(1, None, Some(DEADLINE)), route(Policy::All));
    for id in [E[0], E[1]] {
        assert_eq!(poll(&mut desk, at(0), id), [1]);
    }
    let retry = Refusal::Retry { after: None };
    desk.handle_nack(at(1000), E[0], Seq(1), retry, 7, "busy");
    // The other one has it, and its stream ends without a word.
    desk.handle_timeout(at(2000));
    desk.handle_disconnected(E[1]);
    desk.handle_timeout(at(3000));
    desk.handle_connected(E[1], &SeqSet::new());
    assert_eq!(poll(&mut desk, at(3000), E[1]), [1]);
    desk.handle_timeout(DEADLINE);
    assert_eq!(
        attempts(&mut desk),
        [
            said("gov-1", 1000, 7, "busy"),
            said("gov-2", 2000, 0, "no answer: its stream ended"),
            said("gov-2", 60_000, 0, "no answer: its deadline passed"),
        ]
    );
}

#[test]
fn who_was_never_sent_it_or_has_it_is_no_attempt() {
    let mut desk = outbox(3);
    desk.accept(meta(1, None, Some(DEADLINE)), route(Policy::Quorum(3)));
    assert_eq!(poll(&mut desk, NOW, E[0]), [1]);
    desk.handle_ack(E[0], &seqs([1]));
    // Queued for the second, which goes away before it is sent.
    desk.handle_disconnected(E[1]);
    assert_eq!(poll(&mut desk, NOW, E[2]), [1]);
    desk.handle_timeout(DEADLINE);
    assert_eq!(attempts(&mut desk), [said("gov-3", 60_000, 0, "no answer: its deadline passed")]);
}

#[test]
fn what_was_refused_says_so_and_not_that_others_did_not_answer() {
    let mut desk = outbox(2);
    desk.accept(meta(1, None, None), route(Policy::Quorum(2)));
    for id in [E[0], E[1]] {
        assert_eq!(poll(&mut desk, NOW, id), [1]);
    }
    desk.handle_nack(NOW, E[0], Seq(1), Refusal::Terminal, 9, "no");
    desk.pump();
    let Some(Action::Dead { cause, .. }) = desk.ended.first() else { panic!("{:?}", desk.ended) };
    assert_eq!(*cause, Cause::Refused { code: 9, text: "no".into() });
    let expected =
        [said("gov-1", 0, 9, "no"), said("gov-2", 0, 0, "no answer: others had refused it")];
    assert_eq!(attempts(&mut desk), expected);
}

#[test]
fn a_stream_that_ends_all_the_time_is_remembered_within_a_bound() {
    let mut desk = outbox(1);
    desk.accept(meta(1, None, Some(DEADLINE)), route(Policy::Any));
    for n in 1..=40 {
        assert_eq!(poll(&mut desk, at(n), E[0]), [1]);
        desk.handle_disconnected(E[0]);
        desk.handle_connected(E[0], &SeqSet::new());
    }
    desk.handle_timeout(DEADLINE);
    let times: Vec<u64> = attempts(&mut desk).into_iter().map(|(_, at, ..)| at).collect();
    assert_eq!(times, (25..=40).collect::<Vec<_>>(), "the newest");
}

#[test]
fn what_waits_on_the_disk_alone_is_told_its_attempts_too() {
    let mut desk = outbox(1);
    desk.accept(meta(1, None, Some(DEADLINE)), route(Policy::Any));
    assert_eq!(poll(&mut desk, at(1), E[0]), [1]);
    desk.handle_disconnected(E[0]);
    desk.pump();
    assert_eq!(desk.resident(), 0, "nobody is there, so nothing is in memory");
    desk.handle_timeout(DEADLINE);
    assert_eq!(attempts(&mut desk), [said("gov-1", 1, 0, "no answer: its stream ended")]);
}
