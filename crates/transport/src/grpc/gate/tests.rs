//! The gate with an owner of messages in memory.

use futures::FutureExt as _;

use super::*;
use crate::session::driver::tests::Memory;

fn gated(messages: u64) -> Gated<Memory> {
    let config = BreakerConfig { jitter: 0.0, ..BreakerConfig::default() };
    let gate = Arc::new(Gate::new(config, 1));
    Gated { inner: Memory::with(messages, 0), gate }
}

fn taken(gated: &Gated<Memory>) -> usize {
    gated.poll_batch(Budget::new(128, u64::MAX)).len()
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_holds_messages_back_and_lets_one_probe_through() {
    let gated = gated(300);
    assert_eq!(taken(&gated), 128);
    for _ in 0..5 {
        gated.gate.failed(Failure::Broken);
    }
    assert_eq!(gated.gate.state(), BreakerState::Open);
    assert_eq!(taken(&gated), 0);
    assert_eq!(gated.gate.closed_for(), Some(Duration::from_secs(1)));
    // It comes back by itself when the time is over.
    gated.ready().await;
    assert_eq!(gated.gate.state(), BreakerState::HalfOpen);
    assert_eq!(taken(&gated), 1, "T53");
    assert_eq!(taken(&gated), 0, "T53");
    let mut waiting = Box::pin(gated.ready());
    assert!((&mut waiting).now_or_never().is_none(), "T54: only the outcome opens it");
    gated.gate.succeeded(1);
    waiting.await;
    assert_eq!(taken(&gated), 128);
}

#[tokio::test(start_paused = true)]
async fn asking_without_a_message_does_not_spend_the_probe() {
    let gated = gated(0);
    for _ in 0..5 {
        gated.gate.failed(Failure::Broken);
    }
    gated.ready().await;
    for _ in 0..10 {
        assert_eq!(taken(&gated), 0);
        assert_eq!(gated.gate.state(), BreakerState::HalfOpen);
    }
    crate::lock(&gated.inner.queue).extend(1..=3);
    assert_eq!(taken(&gated), 1, "T53");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_ask_again_has_no_room() {
    let gated = gated(200);
    gated.gate.accepted();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(gated.gate.starved_for(), Duration::ZERO, "nothing was ever asked for");
    assert_eq!(taken(&gated), 128);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(gated.gate.starved_for(), Duration::from_secs(9));
    assert_eq!(taken(&gated), 72);
    assert_eq!(taken(&gated), 0);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(gated.gate.starved_for(), Duration::ZERO, "it waits for messages");
}

/// Opens the breaker, and waits until a probe may pass.
async fn half_open(gated: &Gated<Memory>) {
    for _ in 0..5 {
        gated.gate.failed(Failure::Broken);
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(gated.gate.state(), BreakerState::HalfOpen);
}

fn seqs(range: RangeInclusive<u64>) -> SeqSet {
    range.map(Seq).collect()
}

#[tokio::test(start_paused = true)]
async fn what_left_before_it_opened_neither_closes_it_nor_doubles_the_time() {
    let gated = gated(300);
    assert_eq!(taken(&gated), 128);
    half_open(&gated).await;
    gated.gate.acked(&seqs(1..=64));
    gated.gate.dealt_with(Seq(65));
    gated.gate.refused(Seq(66), Failure::Broken);
    assert_eq!(gated.gate.state(), BreakerState::HalfOpen, "T56");
    assert_eq!(taken(&gated), 1, "T53");
    gated.gate.acked(&seqs(67..=100));
    gated.gate.refused(Seq(101), Failure::Broken);
    assert_eq!(gated.gate.state(), BreakerState::HalfOpen, "T56");
    assert_eq!(taken(&gated), 0, "T53");
    gated.gate.refused(Seq(129), Failure::Broken);
    assert_eq!(gated.gate.closed_for(), Some(Duration::from_secs(2)), "doubled once");
    tokio::time::advance(Duration::from_secs(2)).await;
    gated.gate.acked(&seqs(129..=129));
    assert_eq!(gated.gate.state(), BreakerState::HalfOpen, "T56: an earlier probe");
    assert_eq!(taken(&gated), 1, "T53");
    gated.gate.acked(&seqs(120..=130));
    assert_eq!(gated.gate.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_this_side_gives_up_is_followed_by_another() {
    let gated = gated(3);
    half_open(&gated).await;
    assert_eq!(taken(&gated), 1, "T53");
    gated.gate.given_up(Seq(2));
    assert_eq!(taken(&gated), 0, "another message proves nothing");
    let mut waiting = Box::pin(gated.ready());
    assert!((&mut waiting).now_or_never().is_none(), "T54: only the outcome opens it");
    gated.gate.given_up(Seq(1));
    waiting.await;
    assert_eq!(gated.gate.state(), BreakerState::HalfOpen);
    assert_eq!(taken(&gated), 1, "T53");
    gated.gate.acked(&seqs(2..=2));
    assert_eq!(gated.gate.state(), BreakerState::Closed);
}
