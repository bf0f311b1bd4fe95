//! What must not be acted on, pushed by an endpoint that may be anybody's.

use alys_stream_protocol::limits::MESSAGE_BYTES_MAX;
use alys_stream_transport::exchange::{Exchange as _, NackKind, Verdict};
use prost::bytes::BufMut as _;

use super::pushed::{Governed, Peer, is_busy, is_in_progress, is_taken, proposal, update};
use super::*;
use crate::failure::FailureKind;
use crate::federation::tests::{draft, halt, resume};
use crate::neighbours::tests::{Bad, bad_chain};

/// Refused for good, and why.
fn refusal(verdict: Verdict) -> String {
    match verdict {
        Verdict::Refused { kind: NackKind::Terminal, text, .. } => text,
        verdict @ (Verdict::Stored | Verdict::Refused { .. }) => panic!("{verdict:?}"),
    }
}

/// Nothing of a federation has changed, and nobody was told of anything.
async fn assert_nothing_happened(node: &Governed) {
    assert_eq!(node.in_force(), Version(0));
    let chain = node.tree.chain().await;
    assert!(chain.scheduled.is_empty() && !chain.is_halted && chain.emergencies == 0, "{chain:?}");
    assert!(!node.tree.bridge().await.is_halted);
    assert!(node.tree.network().await.rebroadcast.is_empty());
}

#[tokio::test]
async fn an_unsigned_update_is_refused() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    let (seq, verdict) = peer.push(&update(&draft(1, &[1, 2, 4]).unsigned())).await;
    let text = refusal(verdict);
    assert!(text.contains("update_signature"), "{text}");
    assert!(!peer.exchange.receive_cursor(peer.log).received.contains(seq), "not stored");
    assert_eq!(node.failed(FailureKind::InboundInvalid), 1);
    assert_nothing_happened(&node).await;
    node.life.stop().await;
}

#[tokio::test]
async fn an_under_signed_update_is_refused_and_waits_for_nobody() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    // Nobody who is refused waits for an actor.
    node.tree.neighbours.network.detach();
    let mut peer = Peer::connect(&node, 0);
    for seeds in [&[1][..], &[1, 1, 1]] {
        peer.hand_over(&node, &update(&draft(1, &[1, 2, 4]).signed(seeds))).await;
    }
    assert_eq!(node.failed(FailureKind::SignatureInvalid), 2);
    assert_nothing_happened(&node).await;
    let audit = node.tree.storage().await.audit;
    assert_eq!(audit.iter().filter(|it| it.action == "refused_signature").count(), 2);
    assert_eq!(node.life.delivery.dead_letters.stat().count, 0, "a flood of it would cost others");
    node.life.stop().await;
}

#[tokio::test]
async fn a_replayed_update_does_nothing() {
    let site = Governed::site(2);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    let pushed = update(&draft(1, &[1, 2, 4]).signed(&[1, 2]));
    let seq = peer.hand_over(&node, &pushed).await;
    // As the same record, as another, in another session, by another endpoint.
    let again = peer.send(seq, pushed.kind(), pushed.encode_to_vec().into()).await;
    assert_eq!(again, Verdict::Stored);
    peer.hand_over(&node, &pushed).await;
    Peer::connect(&node, 0).hand_over(&node, &pushed).await;
    Peer::connect(&node, 1).hand_over(&node, &pushed).await;
    assert_eq!(node.tree.network().await.rebroadcast, [Version(1)]);
    assert_eq!(node.in_force(), Version(1));
    node.life.stop().await;
}

#[tokio::test]
async fn an_older_version_is_refused() {
    let site = Governed::site(2);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    peer.hand_over(&node, &update(&draft(2, &[1, 2, 4]).signed(&[1, 2]))).await;
    Peer::connect(&node, 1).hand_over(&node, &update(&draft(1, &[1, 2, 5]).signed(&[1, 2]))).await;
    assert_eq!(node.in_force(), Version(2));
    assert_eq!(node.tree.network().await.rebroadcast, [Version(2)]);
    assert_eq!(node.failed(FailureKind::UpdateOld), 1);
    node.life.stop().await;
}

#[tokio::test]
async fn an_update_of_a_future_height_waits_and_acts_when_chain_is_there() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    peer.hand_over(&node, &update(&draft(1, &[1, 2, 4]).height(9).signed(&[1, 2]))).await;
    for height in [None, Some(8)] {
        node.life.delivery.heights.send_replace(height);
        assert_eq!(node.in_force(), Version(0), "D9");
    }
    assert_eq!(node.tree.chain().await.scheduled, BTreeMap::from([(9, Version(1))]));
    node.life.delivery.heights.send_replace(Some(9));
    node.until(|delivery| delivery.in_force().unwrap().version == Version(1)).await;
    let chain = node.tree.chain().await;
    assert_eq!((chain.federation, chain.scheduled), (Some(Version(1)), BTreeMap::new()));
    node.life.stop().await;
}

#[tokio::test]
async fn of_conflicting_updates_from_two_endpoints_none_is_applied() {
    let site = Governed::site(3);
    let node = Governed::start(&site).await;
    for (endpoint, member) in [(0, 4), (1, 5), (2, 4)] {
        let it = draft(1, &[1, 2, member]).height(9).signed(&[1, 2]);
        Peer::connect(&node, endpoint).hand_over(&node, &update(&it)).await;
    }
    node.life.delivery.heights.send_replace(Some(9));
    // One more goes through everything after it.
    let next = update(&draft(2, &[1, 2, 6]).signed(&[1, 2]));
    Peer::connect(&node, 0).hand_over(&node, &next).await;
    assert_eq!(node.tree.network().await.rebroadcast, [Version(2)], "version 1 is burnt");
    assert_eq!(node.failed(FailureKind::ContentConflict), 2);
    let events = node.tree.sync().await.events;
    assert!(events.iter().any(|event| event.contains("two contents")), "an alert: {events:?}");
    node.life.stop().await;
}

#[tokio::test]
async fn a_halt_with_a_bad_signature_halts_nothing_and_holds_up_no_good_one() {
    let site = Governed::site(2);
    let node = Governed::start(&site).await;
    // Somebody does not deal with what is in force: bad halts do not wait for that.
    node.tree.neighbours.network.attach(crate::neighbours::tests::hanging_network().await);
    let mut evil = Peer::connect(&node, 0);
    let mut taken = 0;
    for number in 0..u64::try_from(LANE_ITEMS_MAX).unwrap() + 20 {
        // Strangers, who may be members soon: those are looked at again later.
        let seeds: &[u8] = if number % 2 == 0 { &[1, 1] } else { &[8, 9] };
        let (_, verdict) = evil.push(&update(&halt(number + 1).signed(seeds))).await;
        taken += usize::from(is_taken(&verdict));
    }
    assert!(taken >= LANE_ITEMS_MAX);
    assert_nothing_happened(&node).await;
    assert!(node.failed(FailureKind::SignatureInvalid) > 0);
    let mut good = Peer::connect(&node, 1);
    let (_, verdict) = good.push(&update(&halt(1000).signed(&[1, 2]))).await;
    assert!(is_taken(&verdict), "{verdict:?}");
    node.until(|delivery| delivery.duties.federation.as_ref().unwrap().halted().borrow().is_some())
        .await;
    assert!(node.tree.chain().await.is_halted && node.tree.bridge().await.is_halted);
    node.life.stop().await;
}

/// Time stands still: nothing that has to wait for a timer is ahead of it.
#[tokio::test(start_paused = true)]
async fn a_valid_halt_is_ahead_of_full_lanes() {
    let site = Governed::site(1);
    let mut node = Governed::start(&site).await;
    node.hold_time();
    let chain = bad_chain(Bad::HearsHaltsAlone).await;
    node.tree.neighbours.chain.attach(chain);
    let mut peer = Peer::connect(&node, 0);
    let mut version = 0;
    while {
        version += 1;
        let one = update(&draft(version, &[1, 2, 4]).height(1000 + version).signed(&[1, 2]));
        let (_, verdict) = peer.push(&one).await;
        let (_, other) = peer.push(&proposal(&version.to_string(), 10)).await;
        !is_busy(&verdict) || !is_busy(&other)
    } {}
    let waiting = |name| node.life.delivery.duties.waiting(name);
    assert_eq!(waiting(LaneName::Updates), LANE_ITEMS_MAX);
    assert_eq!(waiting(LaneName::Proposals), LANE_ITEMS_MAX);
    let began = tokio::time::Instant::now();
    let (_, verdict) = peer.push(&update(&halt(1).signed(&[1, 2]))).await;
    assert!(is_taken(&verdict), "{verdict:?}");
    while !node.tree.bridge().await.is_halted {
        tokio::task::yield_now().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(waiting(LaneName::Updates), LANE_ITEMS_MAX, "they still wait");
    node.life.stop().await;
}

#[tokio::test]
async fn a_resume_must_be_newer_than_the_halt() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    peer.hand_over(&node, &update(&halt(2).signed(&[1, 2]))).await;
    peer.hand_over(&node, &update(&resume(1).signed(&[1, 2]))).await;
    peer.hand_over(&node, &update(&resume(3).signed(&[1]))).await;
    assert!(node.tree.chain().await.is_halted);
    peer.hand_over(&node, &update(&resume(3).signed(&[1, 2]))).await;
    peer.hand_over(&node, &update(&halt(2).signed(&[1, 2]))).await;
    assert!(!node.tree.chain().await.is_halted, "an old halt stays over");
    node.life.stop().await;
}

#[tokio::test]
async fn four_mebibytes_of_nonsense_are_refused_and_kept_nowhere() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    // Bytes that are no message, and a message that is all unknown fields.
    let mut unknown = Vec::with_capacity(MESSAGE_BYTES_MAX);
    prost::encoding::encode_key(99, prost::encoding::WireType::LengthDelimited, &mut unknown);
    prost::encoding::encode_varint(u64::try_from(MESSAGE_BYTES_MAX).unwrap() - 16, &mut unknown);
    unknown.put_bytes(7, MESSAGE_BYTES_MAX - 16);
    for nonsense in [vec![0xff; MESSAGE_BYTES_MAX], unknown] {
        for kind in [MessageKind::FEDERATION_UPDATE, MessageKind::SIGNATURE_RESPONSE] {
            let (seq, verdict) = peer.push_raw(kind, Bytes::from(nonsense.clone())).await;
            let text = refusal(verdict);
            assert!(text.len() < 300, "{text}");
            assert!(!peer.exchange.receive_cursor(peer.log).received.contains(seq));
        }
    }
    assert!(node.life.delivery.inbox.stat().bytes < 1024);
    assert_eq!(peer.exchange.receive_cursor(peer.log).highest_seen, Seq(0));
    assert_eq!(node.failed(FailureKind::InboundInvalid), 4);
    assert_nothing_happened(&node).await;
    // The stream goes on.
    peer.hand_over(&node, &proposal("p", 10)).await;
    node.life.stop().await;
}

#[tokio::test]
async fn unknown_kinds_are_refused_with_their_number() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    let good = update(&draft(1, &[1, 2, 4]).signed(&[1, 2])).encode_to_vec();
    for number in [0, 77, MessageKind::SIGNATURE_REQUEST.0, 1000, u32::MAX] {
        let (_, verdict) = peer.push_raw(MessageKind(number), good.clone().into()).await;
        let text = refusal(verdict);
        assert!(text.contains(&format!("kind {number} ")), "{text}");
    }
    assert_eq!(node.failed(FailureKind::KindUnknown), 5);
    // And one that is not what it says.
    let (_, verdict) = peer.push_raw(MessageKind::PROPOSAL_NOTIFICATION, good.into()).await;
    let text = refusal(verdict);
    assert!(text.contains("is announced") && text.contains("is inside"), "{text}");
    assert_nothing_happened(&node).await;
    node.life.stop().await;
}

/// Memory is bounded, the peer is told to come again, and in the end everything was told.
#[tokio::test(start_paused = true)]
async fn a_flood_is_bounded_and_nothing_of_it_is_lost() {
    const COUNT: usize = 400;
    let site = Governed::site(1);
    let mut node = Governed::start(&site).await;
    node.hold_time();
    node.tree.neighbours.chain.attach(bad_chain(Bad::Hangs).await);
    let mut peer = Peer::connect(&node, 0);
    let mut refused = Vec::new();
    for number in 0..COUNT {
        let it = proposal(&format!("p{number}"), 1000);
        let (seq, verdict) = peer.push(&it).await;
        assert!(is_busy(&verdict) || is_in_progress(&verdict), "{verdict:?}");
        if is_busy(&verdict) {
            refused.push((seq, it));
        }
        assert!(node.life.delivery.duties.waiting(LaneName::Proposals) <= LANE_ITEMS_MAX, "D7");
    }
    assert_eq!(refused.len(), COUNT - LANE_ITEMS_MAX);
    assert!(node.life.delivery.neighbours.chain.in_flight() <= crate::neighbours::IN_FLIGHT_MAX);
    node.tree.attach_chain();
    while let Some((seq, it)) = refused.pop() {
        let verdict = peer.send(seq, it.kind(), it.encode_to_vec().into()).await;
        if is_busy(&verdict) {
            // As the peer does.
            refused.push((seq, it));
            tokio::time::advance(Duration::from_secs(5)).await;
        }
    }
    while node.life.delivery.duties.waiting(LaneName::Proposals) > 0 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(node.tree.chain().await.proposals_total, u64::try_from(COUNT).unwrap());
    let cursor = peer.exchange.receive_cursor(peer.log);
    assert_eq!(cursor.received.count(), u64::try_from(COUNT).unwrap(), "all are acknowledged");
    assert_eq!(node.life.delivery.dead_letters.stat().count, 0);
    node.life.stop().await;
}

/// What is here already needs no room.
#[tokio::test]
async fn what_was_handled_is_acknowledged_again_also_when_there_is_no_room() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    let first = proposal("first", 10);
    let seq = peer.hand_over(&node, &first).await;
    node.tree.neighbours.chain.attach(bad_chain(Bad::Hangs).await);
    for number in 0..=LANE_ITEMS_MAX {
        peer.push(&proposal(&format!("p{number}"), 10)).await;
    }
    let again = peer.send(seq, first.kind(), first.encode_to_vec().into()).await;
    assert_eq!(again, Verdict::Stored);
    node.life.stop().await;
}
