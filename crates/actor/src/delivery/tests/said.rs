//! Who says that a message was not stored, and what peers take at all.

use alys_stream_protocol::message::{Epoch, Forgotten, Opening};
use alys_stream_transport::exchange::{Exchange as _, Nack, NackKind, NackOrigin, PeerLog};

use super::*;
use crate::exchange::EndpointExchange;

const COUNT: u64 = 300;

fn nack(seq: Seq, origin: NackOrigin, kind: NackKind) -> Nack {
    Nack { seq, origin, kind, code: 4, text: "no".to_owned() }
}

/// What this side says itself, of a plain peer that cannot carry the messages of applications, is
/// about neither the peer nor the link.
#[tokio::test]
async fn only_what_the_peer_says_is_held_against_it() {
    let site = Site::new(2, Bounds::default());
    let life = site.start().await;
    let exchange = EndpointExchange::new(Arc::clone(&life.delivery), ONE);
    exchange.established_plain("gov-0");
    life.connect(EndpointId(1));
    let errors = "alys_governance_message_errors_total{endpoint=\"gov-0\"";
    let has_errors = || life.metrics.encode().contains(errors);
    let is_ejected = || {
        life.delivery.judge_endpoints();
        life.delivery.balancer.view(ONE).is_some_and(|view| view.ejected.is_some())
    };
    life.accept(messages(0..COUNT)).await;
    let retry = NackKind::Retry { after: None };
    for seq in (1..=COUNT).map(Seq) {
        exchange.nacked(nack(seq, NackOrigin::Local, retry));
    }
    exchange.nacked(nack(Seq(1), NackOrigin::Peer, NackKind::InProgress));
    assert!(!has_errors() && !is_ejected());
    for seq in (1..=5).map(Seq) {
        exchange.nacked(nack(seq, NackOrigin::Peer, NackKind::Terminal));
    }
    assert!(has_errors() && !is_ejected(), "a terminal refusal is about the message");
    for seq in (6..=10).map(Seq) {
        exchange.nacked(nack(seq, NackOrigin::Peer, retry));
    }
    assert!(is_ejected());
    life.stop().await;
}

#[tokio::test]
async fn a_message_that_no_peer_takes_is_a_dead_letter_and_stands_before_nothing() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    let exchange = EndpointExchange::new(Arc::clone(&life.delivery), ONE);
    let peer = PeerLog {
        peer_id: "gov-0".to_owned(),
        log_id: LogId::new([7; 16]),
        opening: Epoch(1).into(),
        next_seq: Seq(1),
        settled_below: Seq(1),
        received: SeqSet::new(),
        highest_seen: Seq(0),
        seen: Opening::NONE,
        forgotten: Forgotten::NONE,
        payload_bytes_max: 1024,
    };
    exchange.established(&peer).unwrap();
    let long = Message { payload: vec![0; 1025].into(), ..message(0, 1000, Priority::Normal) };
    life.delivery.accept(vec![long]).await.unwrap();
    life.accept(messages(1..2)).await;
    assert_eq!(life.drain(ONE, 1).await, [Seq(2)]);
    assert_eq!(life.ended(id(0)).await, OutcomeState::Failed);
    let mut follow = life.delivery.follow(id(0)).unwrap();
    let reason = follow.finished_outcome().await.unwrap().reason;
    assert!(reason.contains("1025 payload bytes") && reason.contains("1024"), "{reason}");
    // A plain peer has no say in it.
    exchange.lost();
    exchange.established_plain("gov-0");
    let long = Message { payload: vec![0; 1025].into(), ..message(2, 1000, Priority::Normal) };
    life.accept(vec![long]).await;
    assert_eq!(life.drain(ONE, 1).await, [Seq(3)]);
    life.stop().await;
}
