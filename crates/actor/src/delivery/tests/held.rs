//! An endpoint whose stream is up and takes nothing: what it was not sent leaves through another.

use alys_stream_transport::connection::{StateKind, Transition};
use alys_stream_transport::exchange::Exchange as _;
use alys_stream_transport::grpc::Observer as _;
use alys_stream_transport::reconnect::BreakerState;
use alys_stream_transport::session::driver::Observed;

use super::*;
use crate::exchange::EndpointExchange;
use crate::observer::{EndpointObserver, EndpointWatch};

const TWO: EndpointId = EndpointId(1);

const COUNT: usize = 40;

/// The stream of the first endpoint, and who sees its link.
struct Link {
    exchange: Arc<EndpointExchange>,
    watch: EndpointWatch,
}

impl Link {
    fn new(life: &Life) -> Self {
        let exchange = Arc::new(EndpointExchange::new(Arc::clone(&life.delivery), ONE));
        let all = EndpointObserver::new(
            Arc::clone(&life.metrics),
            Arc::clone(&life.delivery.failures),
            "node-1".to_owned(),
        );
        let watch = EndpointWatch::new(Arc::new(all), &exchange);
        Self { exchange, watch }
    }

    fn connect(&self) {
        self.exchange.established_plain("gov-0");
    }

    fn breaker(&self, state: BreakerState) {
        self.watch.breaker("gov-0", state);
    }

    fn enter(&self, new: StateKind) {
        let at = tokio::time::Instant::now().into_std();
        let transition = Transition { old: StateKind::Healthy, new, why: String::new(), at };
        self.watch.transition("gov-0", &transition);
    }

    fn drain(&self, by_peer: bool) {
        let (deadline, reason) = (Duration::ZERO, "rolling");
        let observed = Observed::Draining { deadline, reason, by_peer };
        self.watch.observed("gov-0", tokio::time::Instant::now().into_std(), &observed);
    }
}

/// Both endpoints are up, and messages are assigned to both.
async fn filled(life: &Life, link: &Link) {
    link.connect();
    life.connect(TWO);
    let last = u64::try_from(COUNT).unwrap();
    life.accept(messages(0..last)).await;
    let queued = [ONE, TWO].map(|endpoint| life.delivery.queued(endpoint));
    assert!(queued.iter().all(|queued| *queued > 0), "{queued:?}");
}

async fn leaves_through_the_other(hold: impl FnOnce(&Link), release: impl FnOnce(&Link)) {
    let site = Site::new(2, Bounds::default());
    let life = site.start().await;
    let link = Link::new(&life);
    filled(&life, &link).await;
    let sent = life.delivery.poll_batch(ONE, Budget::new(1, 1 << 20));
    assert_eq!(sent.len(), 1);
    hold(&link);
    assert_eq!(life.delivery.queued(ONE), 0);
    assert_eq!(life.delivery.in_flight(ONE), 1, "it may still acknowledge");
    let mut seen = life.drain(TWO, COUNT - 1).await;
    seen.extend(&sent);
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).map(Seq).collect::<Vec<_>>());
    life.accept(messages(100..101)).await;
    assert_eq!(life.drain(TWO, 1).await.len(), 1);

    release(&link);
    // With nobody else there is no other way.
    life.delivery.handle_lost(TWO);
    life.accept(messages(200..203)).await;
    life.drain(ONE, 3).await;
    life.stop().await;
}

#[tokio::test]
async fn what_is_assigned_behind_an_open_breaker_leaves_through_another() {
    let open = |link: &Link| link.breaker(BreakerState::Open);
    leaves_through_the_other(open, |link| link.breaker(BreakerState::Closed)).await;
}

#[tokio::test]
async fn what_is_assigned_to_one_that_is_suspended_leaves_through_another() {
    let suspend = |link: &Link| {
        link.enter(StateKind::Connected);
        link.enter(StateKind::Suspended);
    };
    leaves_through_the_other(suspend, |link| link.enter(StateKind::Connected)).await;
}

#[tokio::test]
async fn what_is_assigned_to_one_that_drains_leaves_through_another_until_it_is_back() {
    for by_peer in [true, false] {
        leaves_through_the_other(
            |link| link.drain(by_peer),
            |link| {
                link.exchange.lost();
                link.connect();
            },
        )
        .await;
    }
}

/// The breaker outlives the stream; a half-open one lets one message show what it is worth.
#[tokio::test]
async fn a_new_stream_behind_an_open_breaker_is_tried_with_one_message() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    let link = Link::new(&life);
    link.breaker(BreakerState::Open);
    link.connect();
    life.accept(messages(0..5)).await;
    assert_eq!(life.delivery.queued(ONE), 0);
    assert!(life.delivery.poll_batch(ONE, Budget::new(64, 1 << 20)).is_empty());
    link.breaker(BreakerState::HalfOpen);
    assert_eq!(life.batch(ONE).await, [Seq(1)]);
    assert_eq!(life.delivery.queued(ONE), 0);
    link.breaker(BreakerState::Closed);
    assert_eq!(life.batch(ONE).await, [2, 3, 4, 5].map(Seq));
    life.stop().await;
}

/// What holds is every cause that is left, in whichever order they come and go.
#[tokio::test]
async fn a_breaker_that_closes_does_not_end_a_suspension() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    let link = Link::new(&life);
    link.connect();
    link.enter(StateKind::Suspended);
    link.breaker(BreakerState::Open);
    link.breaker(BreakerState::Closed);
    life.accept(messages(0..1)).await;
    assert_eq!(life.delivery.queued(ONE), 0);
    link.enter(StateKind::Streaming);
    assert_eq!(life.delivery.queued(ONE), 1);
    life.stop().await;
}
