//! Each check that reads the order of events finds what it is there for.

use alys_stream_protocol::message::Priority;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::NackKind;

use super::*;
use crate::history::NodeHistory;
use crate::journal::{Actor, Carried, Entry, Fact};
use crate::net::Machine;
use crate::plan::FIRST_NODE;

const GOV: Machine = Machine(1);

/// Events in this order, a second between two.
fn entries(facts: Vec<(Machine, Fact)>) -> Vec<Entry> {
    let entry = |(at, (who, fact))| Entry { at: Duration::from_secs(at), who, fact };
    (1..).zip(facts).map(entry).collect()
}

fn id(number: u64) -> MessageId {
    crate::world::id_of(0, number)
}

/// A node that was handed messages with these numbers, for one governance node each.
fn history(numbers: std::ops::Range<u64>, facts: Vec<(Machine, Fact)>) -> History {
    let offered = numbers.map(|number| {
        let (target, priority, key, deadline) = (For::Any, Priority::Normal, None, None);
        let content = Content::Application;
        let spec = Spec { number, target, priority, key, deadline, bytes: 1, content };
        Offered { spec, id: id(number), accepted: None, end: None, letter: None }
    });
    let own = NodeHistory { offered: offered.collect(), window_max: 1, ..NodeHistory::default() };
    let (entries, nodes) = (entries(facts), BTreeMap::from([(FIRST_NODE, own)]));
    let applied = BTreeMap::from([(GOV, Vec::new())]);
    History { entries, nodes, applied, ..History::default() }
}

/// Which checks fail.
#[track_caller]
fn finds(history: &History, expected: &[&str]) {
    let found = check_some(history, |name| TIMED.contains(&name));
    let names: Vec<_> = found.iter().map(|it| it.invariant).collect();
    assert_eq!(names, expected, "{found:?}");
}

/// The checks that are tested here.
const TIMED: [&str; 9] = [
    "d1_accepted_when_stored",
    "d2_settled_by_its_policy",
    "d2_bridge_hears_one_end",
    "d4_order_per_key",
    "d7_flight_is_bounded",
    "d8_updates_are_told",
    "d2_acknowledged_when_stored",
    "d3_applied_once",
    "d11_a_full_disk_is_no_exit",
];

fn seqs(numbers: &[u64]) -> SeqSet {
    numbers.iter().copied().map(Seq).collect()
}

/// Messages are stored in the buffer under their own numbers.
fn kept(numbers: &[u64]) -> (Machine, Fact) {
    let records = numbers.iter().map(|number| (Seq(*number), id(*number)));
    (FIRST_NODE, Fact::Kept { records: records.collect() })
}

fn hello(settled_below: u64) -> (Machine, Fact) {
    (FIRST_NODE, Fact::Hello { to: GOV, log: 0, epoch: 1, next_seq: 9, settled_below })
}

fn sent(numbers: &[u64]) -> (Machine, Fact) {
    let carried =
        |number: &u64| Carried { seq: Seq(*number), id: id(*number), deadline_ms: 0, priority: 2 };
    let records = numbers.iter().map(carried).collect();
    (FIRST_NODE, Fact::Sent { to: GOV, log: 0, at_ms: 0, settled_below: 0, records })
}

fn stored(numbers: &[u64]) -> (Machine, Fact) {
    let records = numbers.iter().map(|number| (Some(0), Seq(*number), id(*number)));
    (GOV, Fact::Stored { records: records.collect() })
}

fn acked(numbers: &[u64]) -> (Machine, Fact) {
    (GOV, Fact::Acked { to: FIRST_NODE, ranges: seqs(numbers) })
}

fn settled(numbers: &[u64]) -> (Machine, Fact) {
    (FIRST_NODE, Fact::Settled { seqs: seqs(numbers) })
}

/// A line of a ledger that applied a message of the first node.
fn line(number: u64) -> Applied {
    Applied {
        place: (1, 0),
        id: id(number),
        by: Some(FIRST_NODE),
        log: [0; 16],
        seq: Seq(number),
        received: 5,
    }
}

#[test]
fn what_is_in_order_passes() {
    let accepted = Fact::Accepted { message: 1, seq: Seq(1), is_duplicate: false };
    let facts = vec![
        kept(&[1]),
        (FIRST_NODE, accepted),
        hello(1),
        sent(&[1]),
        stored(&[1]),
        acked(&[1]),
        settled(&[1]),
    ];
    finds(&history(1..2, facts), &[]);
}

#[test]
fn what_is_accepted_or_sent_before_it_is_stored_breaks_d1() {
    let accepted = Fact::Accepted { message: 1, seq: Seq(1), is_duplicate: false };
    let early = vec![(FIRST_NODE, accepted), kept(&[1])];
    finds(&history(1..2, early), &["d1_accepted_when_stored"]);
    finds(&history(1..2, vec![hello(1), sent(&[1]), kept(&[1])]), &["d1_accepted_when_stored"]);
}

#[test]
fn what_is_acknowledged_before_it_is_stored_breaks_d2() {
    let facts = |below| vec![kept(&[1]), hello(below), sent(&[1]), acked(&[1]), stored(&[1])];
    finds(&history(1..2, facts(1)), &["d2_acknowledged_when_stored"]);
    finds(&history(1..2, facts(2)), &[]);
}

#[test]
fn what_a_heartbeat_said_is_over_may_be_acknowledged_unstored() {
    let over = |below| (FIRST_NODE, Fact::Over { to: GOV, log: 0, settled_below: below });
    let facts = |below| vec![kept(&[1]), hello(1), over(below), sent(&[1]), acked(&[1])];
    finds(&history(1..2, facts(2)), &[]);
    finds(&history(1..2, facts(1)), &["d2_acknowledged_when_stored"]);
    let late = vec![kept(&[1]), hello(1), sent(&[1]), acked(&[1]), over(2)];
    finds(&history(1..2, late), &["d2_acknowledged_when_stored"]);
}

#[test]
fn what_is_settled_before_anybody_has_it_or_a_dead_letter_breaks_d2() {
    let begun = || vec![kept(&[1]), hello(1), sent(&[1]), stored(&[1])];
    let early = [begun(), vec![settled(&[1]), acked(&[1])]].concat();
    finds(&history(1..2, early), &["d2_settled_by_its_policy"]);
    let buried = Fact::Buried { seq: Seq(1), id: id(1), cause: "expired" };
    let dead = [begun(), vec![(FIRST_NODE, buried), settled(&[1])]].concat();
    finds(&history(1..2, dead), &[]);
}

#[test]
fn more_under_way_than_two_windows_breaks_d7() {
    let begun = || vec![kept(&[1, 2, 3]), hello(1), sent(&[1, 2])];
    finds(&history(1..4, [begun(), vec![sent(&[3])]].concat()), &["d7_flight_is_bounded"]);
    let answered = vec![stored(&[1]), acked(&[1]), sent(&[3])];
    finds(&history(1..4, [begun(), answered].concat()), &[]);
}

#[test]
fn a_line_that_did_not_have_to_be_written_again_breaks_d3() {
    let line = |slot| Applied {
        place: (1, slot),
        id: id(1),
        by: None,
        log: [0; 16],
        seq: Seq(1),
        received: 5,
    };
    let mut history = history(1..2, Vec::new());
    history.applied.insert(GOV, vec![line(0), line(1)]);
    finds(&history, &["d3_applied_once"]);
    history.doubtful.insert(GOV, BTreeSet::from([(1, 0)]));
    finds(&history, &[]);
}

#[test]
fn a_bridge_that_is_told_of_two_ends_or_of_a_wrong_signature_breaks_d2() {
    let told =
        |what: &str| (FIRST_NODE, Fact::Told { actor: Actor::Bridge, what: what.to_owned() });
    let (complete, failed) = (told("signatures 1 Complete"), told("signatures 1 Failed"));
    finds(&history(1..2, vec![complete.clone(), complete.clone()]), &[]);
    finds(&history(1..2, vec![complete, failed]), &["d2_bridge_hears_one_end"]);
    let wrong = vec![told("signatures 1 Complete wrongly")];
    finds(&history(1..2, wrong), &["d2_bridge_hears_one_end"]);
}

#[test]
fn an_actor_that_does_not_hear_of_the_federation_in_force_breaks_d8() {
    let told = |actor| (FIRST_NODE, Fact::Told { actor, what: "in force 1".to_owned() });
    let all = [Actor::Chain, Actor::Bridge, Actor::Network, Actor::Storage];
    finds(&history(1..1, all.map(told).to_vec()), &[]);
    let most = all.into_iter().filter(|actor| *actor != Actor::Storage).map(told);
    finds(&history(1..1, most.collect()), &["d8_updates_are_told"]);
}

#[test]
fn what_is_applied_before_something_earlier_of_its_key_breaks_d4() {
    let mut history = history(1..3, vec![kept(&[1, 2]), hello(1), sent(&[1, 2])]);
    history.applied.insert(GOV, vec![line(2), line(1)]);
    finds(&history, &[]);
    let own = history.nodes.get_mut(&FIRST_NODE).unwrap();
    own.offered.iter_mut().for_each(|offered| offered.spec.key = Some(1));
    finds(&history, &["d4_order_per_key"]);
}

/// A refusal for good that is lost with its connection: what was refused goes once more on the next
/// one, behind what was sent before; but not behind what is sent after it, or again on the same one.
#[test]
fn what_was_refused_unheard_may_be_passed_until_the_next_connection() {
    let nacked = |seq| (GOV, Fact::Nacked { to: FIRST_NODE, seq, kind: NackKind::Terminal.into() });
    let refused = || (GOV, Fact::RefusedForGood);
    let again = || vec![hello(1), sent(&[1]), stored(&[1])];
    let wrong = &["d4_order_per_key"][..];
    let cases = [
        (vec![sent(&[1]), nacked(1), sent(&[2]), stored(&[2])], again(), &[][..]),
        (vec![sent(&[1]), nacked(1), sent(&[2]), stored(&[2])], vec![sent(&[1])], wrong),
        (vec![sent(&[1]), nacked(1), sent(&[2])], vec![sent(&[1]), hello(1)], wrong),
        (vec![sent(&[1]), nacked(1)], vec![hello(1), sent(&[2]), sent(&[1])], wrong),
        // The refusal was not even written any more; what comes behind it was read all the same.
        (vec![sent(&[1]), refused(), sent(&[2]), stored(&[2])], again(), &[]),
        (vec![sent(&[1, 2]), refused(), hello(1), stored(&[2])], vec![sent(&[1])], &[]),
        (vec![sent(&[1, 2]), hello(1), nacked(1), stored(&[2])], vec![sent(&[1])], &[]),
        (vec![refused(), sent(&[1]), sent(&[2]), stored(&[2])], again(), wrong),
        (vec![sent(&[2]), refused(), sent(&[1]), stored(&[2])], again(), wrong),
        (vec![sent(&[1]), refused(), hello(1), sent(&[2]), stored(&[2])], again(), wrong),
    ];
    for (first, second, found) in cases {
        let mut history = history(1..3, [vec![kept(&[1, 2]), hello(1)], first, second].concat());
        history.applied.insert(GOV, vec![line(2), line(1)]);
        let own = history.nodes.get_mut(&FIRST_NODE).unwrap();
        own.offered.iter_mut().for_each(|offered| offered.spec.key = Some(1));
        finds(&history, found);
    }
}

#[test]
fn what_a_copy_sends_again_after_later_messages_of_its_key_was_over() {
    const OTHER: Machine = Machine(2);
    let sent_there = |(who, mut fact): (Machine, Fact)| {
        if let Fact::Sent { to, .. } = &mut fact {
            *to = OTHER;
        }
        (who, fact)
    };
    let told = || [sent_there(sent(&[1])), (OTHER, stored(&[1]).1), (OTHER, acked(&[1]).1)];
    for (is_over, found) in [(true, &[][..]), (false, &["d4_order_per_key"])] {
        let mut facts = vec![kept(&[1, 2]), hello(1), sent(&[1, 2])];
        facts.extend(told());
        facts.extend(is_over.then(|| settled(&[1])));
        let restored = Duration::from_secs(facts.len() as u64 + 1);
        facts.extend([hello(1), sent(&[1]), stored(&[1])]);
        let mut history = history(1..3, facts);
        history.applied.insert(GOV, vec![line(2), line(1)]);
        let own = history.nodes.get_mut(&FIRST_NODE).unwrap();
        own.restored.push((restored, Duration::ZERO));
        own.offered.iter_mut().for_each(|offered| offered.spec.key = Some(1));
        finds(&history, found);
    }
}

#[test]
fn giving_up_without_a_failed_sync_in_that_life_breaks_d11() {
    let started = || (GOV, Fact::Started { life: 1 });
    let failed = || (GOV, Fact::SyncFailed { what: "a file".to_owned() });
    let gave_up = || (GOV, Fact::GaveUp { why: "no room".to_owned() });
    finds(&history(1..1, vec![started(), failed(), gave_up()]), &[]);
    let before = vec![started(), failed(), started(), gave_up()];
    finds(&history(1..1, before), &["d11_a_full_disk_is_no_exit"]);
}
