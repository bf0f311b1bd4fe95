//! Actors that do not deal with what governance pushed: the peer is held back, it is tried again,
//! and in the end it is a dead letter. Time is moved by the tests.

use alys_stream_messaging::dead_letter::{DeadLetter, DeadLetterId};
use alys_stream_messaging::outbox::Cause;
use alys_stream_transport::exchange::Exchange as _;

use super::pushed::{Governed, Peer, is_in_progress, proposal, update};
use super::*;
use crate::failure::FailureKind;
use crate::federation::tests::draft;
use crate::letters::Replayed;
use crate::neighbours::tests::{Bad, bad_chain, slow_chain};

/// Moves time until something is so.
async fn until(node: &Governed, is_so: impl Fn(&Delivery) -> bool) {
    while !is_so(&node.life.delivery) {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
}

async fn dealt_with(node: &Governed, name: LaneName) {
    until(node, |delivery| delivery.duties.waiting(name) == 0).await;
}

fn dead_letters(node: &Governed) -> Vec<DeadLetter> {
    node.life.letters().letters.into_iter().map(|(_, letter)| letter).collect()
}

fn letter_id(node: &Governed) -> DeadLetterId {
    node.life.delivery.dead_letters.list(None, 1).unwrap()[0].0
}

/// A push to a Chain that is bad for a while, and then is back: it is told, once.
async fn comes_back(bad: Option<Bad>, kind: FailureKind) {
    let site = Governed::site(1);
    let mut node = Governed::start(&site).await;
    node.hold_time();
    match bad {
        Some(bad) => node.tree.neighbours.chain.attach(bad_chain(bad).await),
        None => node.tree.neighbours.chain.detach(),
    }
    let mut peer = Peer::connect(&node, 0);
    let (of_proposal, verdict) = peer.push(&proposal("p", 10)).await;
    assert!(is_in_progress(&verdict), "{verdict:?}");
    let (of_update, verdict) = peer.push(&update(&draft(1, &[1, 2, 4]).signed(&[1, 2]))).await;
    assert!(is_in_progress(&verdict), "{verdict:?}");
    let failures = move |delivery: &Delivery| {
        delivery.failures.snapshot().counts().get(&kind).copied().unwrap_or_default()
    };
    until(&node, move |delivery| failures(delivery) >= 4).await;
    let received = peer.exchange.receive_cursor(peer.log).received;
    assert!(received.is_empty(), "nothing is acknowledged meanwhile (D8)");
    node.tree.attach_chain();
    dealt_with(&node, LaneName::Proposals).await;
    dealt_with(&node, LaneName::Updates).await;
    let chain = node.tree.chain().await;
    assert_eq!((chain.proposals_total, chain.federation), (1, Some(Version(1))), "{bad:?}");
    assert_eq!(node.life.delivery.duties.owed(peer.log), [of_proposal, of_update]);
    assert!(dead_letters(&node).is_empty());
    node.life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_hangs_is_told_again() {
    comes_back(Some(Bad::Hangs), FailureKind::TargetSlow).await;
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_panics_is_told_again() {
    // From then on it is away.
    comes_back(Some(Bad::Panics), FailureKind::TargetAbsent).await;
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_drops_what_it_gets_is_told_again() {
    comes_back(Some(Bad::Drops), FailureKind::TargetDied).await;
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_has_no_time_is_told_again() {
    comes_back(Some(Bad::Defers), FailureKind::TargetDeferred).await;
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_absent_is_told_once_it_is_there() {
    comes_back(None, FailureKind::TargetAbsent).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_chain_gets_one_thing_at_a_time_and_everything_in_order() {
    const COUNT: usize = 20;
    let site = Governed::site(1);
    let mut node = Governed::start(&site).await;
    node.hold_time();
    let (chain, told) = slow_chain(Duration::from_secs(4)).await;
    node.tree.neighbours.chain.attach(chain);
    let mut peer = Peer::connect(&node, 0);
    let ids: Vec<_> = (0..COUNT).map(|number| format!("p{number}")).collect();
    for id in &ids {
        let (_, verdict) = peer.push(&proposal(id, 10)).await;
        assert!(is_in_progress(&verdict), "{verdict:?}");
    }
    dealt_with(&node, LaneName::Proposals).await;
    assert_eq!(*told.lock().unwrap(), ids, "once each: it is within its time");
    node.life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_chain_refuses_for_good_is_a_dead_letter_before_it_is_acknowledged() {
    let site = Governed::site(1);
    let mut node = Governed::start(&site).await;
    node.hold_time();
    node.tree.neighbours.chain.attach(bad_chain(Bad::Refuses).await);
    let mut peer = Peer::connect(&node, 0);
    let pushed = proposal("p", 10);
    let (seq, _) = peer.push(&pushed).await;
    dealt_with(&node, LaneName::Proposals).await;
    while node.life.delivery.duties.is_open(peer.log, seq) {
        tokio::task::yield_now().await;
    }
    let [letter] = dead_letters(&node).try_into().unwrap();
    assert_eq!((letter.log, letter.seq), (peer.log, seq));
    assert_eq!(letter.message.payload, pushed.encode_to_vec());
    assert_eq!(letter.attempts[0].endpoint, "gov-0");
    assert_eq!(letter.message.kind, MessageKind::PROPOSAL_NOTIFICATION);
    let Cause::Refused { text, .. } = &letter.cause else { panic!("{letter:?}") };
    assert!(text.contains("not here"), "{text}");
    assert!(node.failed(FailureKind::TargetRefused) > 0);
    assert_eq!(node.life.delivery.counts().dead_letters, 1);
    assert!(peer.exchange.receive_cursor(peer.log).received.contains(seq));
    let log = peer.log;
    node.crash().await;
    let mut node = Governed::start(&site).await;
    node.hold_time();
    assert_eq!(node.life.delivery.duties.waiting(LaneName::Proposals), 0, "it is over");
    assert_eq!(dead_letters(&node).len(), 1);
    // The operator mends the cause and has it replayed: its actor gets it, and then the letter goes.
    let id = letter_id(&node);
    node.tree.neighbours.chain.attach(bad_chain(Bad::Refuses).await);
    let replayed = node.life.delivery.replay_letters(&[id]).await.unwrap();
    assert!(matches!(&replayed[..], [(_, Replayed::Refused(text))] if text.contains("not here")));
    node.tree.attach_chain();
    let replayed = node.life.delivery.replay_letters(&[id]).await.unwrap();
    assert_eq!(replayed, [(id, Replayed::HandedOn)]);
    assert_eq!(node.tree.chain().await.proposals, [("p".to_owned(), false)]);
    assert!(dead_letters(&node).is_empty());
    assert!(Peer::resume(&node, 0, log).exchange.receive_cursor(log).received.contains(seq));
    node.life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_too_often_is_a_dead_letter() {
    let site = Governed::site(1);
    let mut node = Governed::start(&site).await;
    node.hold_time();
    node.tree.neighbours.chain.attach(bad_chain(Bad::Defers).await);
    let mut peer = Peer::connect(&node, 0);
    let (seq, _) = peer.push(&proposal("p", 10)).await;
    dealt_with(&node, LaneName::Proposals).await;
    while node.life.delivery.duties.is_open(peer.log, seq) {
        tokio::task::yield_now().await;
    }
    let [letter] = dead_letters(&node).try_into().unwrap();
    let Cause::Refused { text, .. } = &letter.cause else { panic!("{letter:?}") };
    assert!(text.starts_with("tried 20 times") && text.contains("busy"), "{text}");
    assert_eq!(node.life.delivery.duties.owed(peer.log), [seq]);
    node.life.stop().await;
}

/// Its federation is in force whatever a neighbour says.
#[tokio::test(start_paused = true)]
async fn an_update_that_chain_refuses_for_good_is_in_force_and_a_dead_letter() {
    let site = Governed::site(1);
    let mut node = Governed::start(&site).await;
    node.hold_time();
    node.tree.neighbours.chain.attach(bad_chain(Bad::Refuses).await);
    let mut peer = Peer::connect(&node, 0);
    peer.push(&update(&draft(1, &[1, 2, 4]).signed(&[1, 2]))).await;
    dealt_with(&node, LaneName::Updates).await;
    while dead_letters(&node).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.in_force(), Version(1));
    assert_eq!(node.tree.network().await.rebroadcast, [Version(1)], "the others know");
    // It is told again all the same, for as long as the node runs.
    node.tree.attach_chain();
    while node.tree.chain().await.federation != Some(Version(1)) {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    node.life.stop().await;
}
