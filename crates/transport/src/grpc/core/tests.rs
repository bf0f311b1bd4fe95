//! What the machines of an endpoint make of what its streams show.

use alys_stream_protocol::governance::ErrorCode;
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::SystemClock;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::endpoint::{EndpointConfig, Insecure};
use crate::exchange::{Nack, NackKind, NackOrigin};
use crate::grpc::{EndpointSettings, NodeIdentity, NodeType, Unobserved};
use crate::session::driver::Observed;
use crate::session::driver::tests::Memory;

const SECOND: Duration = Duration::from_secs(1);

fn core() -> Core {
    let url = "http://127.0.0.1:1".parse().expect("a URL");
    let insecure = Some(Insecure::Plaintext);
    Core::new(&EndpointParts {
        config: EndpointConfig { insecure, ..EndpointConfig::new("one", url) },
        identity: NodeIdentity {
            node_id: "node-1".into(),
            software: "test/1".into(),
            public_key: "02".repeat(33),
            node_type: NodeType::Bridge,
            region: None,
            auth: None,
        },
        tls: None,
        exchange: Memory::with(0, 0),
        observer: Arc::new(Unobserved),
        clock: Arc::new(SystemClock),
        seed: 1,
        settings: EndpointSettings::default(),
        shutdown: CancellationToken::new(),
    })
}

fn nack(core: &Core, seq: u64, origin: NackOrigin, kind: NackKind) {
    let code = u32::try_from(i32::from(ErrorCode::InternalError)).expect("a code");
    let nack = Nack { seq: Seq(seq), origin, kind, code, text: "no".into() };
    core.see(now(), &Observed::Nacked(&nack));
}

fn grade(core: &Core) -> Grade {
    crate::lock(&core.vitals).handle_timeout(now())
}

#[tokio::test(start_paused = true)]
async fn what_this_side_gives_up_says_nothing_of_the_peer() {
    let core = core();
    let retry = NackKind::Retry { after: None };
    for seq in 1..=300 {
        nack(&core, seq, NackOrigin::Local, retry);
        assert_eq!(core.gate.state(), BreakerState::Closed, "after {seq}");
    }
    assert_eq!(grade(&core), Grade::Good);
    // Nor is it a success: four refusals of the peer are still in a row with the fifth.
    for seq in 301..=304 {
        nack(&core, seq, NackOrigin::Peer, retry);
    }
    nack(&core, 305, NackOrigin::Local, NackKind::Terminal);
    nack(&core, 306, NackOrigin::Peer, retry);
    assert_eq!(core.gate.state(), BreakerState::Open, "what the peer says counts");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_leaves_in_parts_or_is_worked_on_is_not_late() {
    let core = core();
    core.see(now(), &Observed::Sent { records: &[], in_flight: 1, awaited: 0 });
    for _ in 0..20 {
        tokio::time::advance(6 * SECOND).await;
        assert_eq!(grade(&core), Grade::Good, "it is still leaving");
        core.see(now(), &Observed::Progress { in_flight: 1, awaited: 0 });
    }
    core.see(now(), &Observed::Progress { in_flight: 1, awaited: 1 });
    tokio::time::advance(4 * SECOND).await;
    assert_eq!(grade(&core), Grade::Good, "it has just left");
    nack(&core, 1, NackOrigin::Peer, NackKind::InProgress);
    core.see(now(), &Observed::Progress { in_flight: 1, awaited: 0 });
    tokio::time::advance(60 * SECOND).await;
    assert_eq!(grade(&core), Grade::Good, "the peer is at it");
    core.see(now(), &Observed::Sent { records: &[], in_flight: 2, awaited: 1 });
    tokio::time::advance(15 * SECOND).await;
    assert_eq!(grade(&core), Grade::Critical, "another one is late");
    let ranges: SeqSet = [Seq(2)].into_iter().collect();
    core.see(now(), &Observed::Acked { ranges: &ranges, in_flight: 1, awaited: 0 });
    assert_eq!(core.in_flight.load(Ordering::Relaxed), 1);
}

/// Feeds what a second and the peer bring, until the state is another; returns the seconds it took.
async fn seconds_until(core: &Core, state: StateKind) -> u64 {
    for seconds in 0..120 {
        if core.state() == state {
            return seconds;
        }
        tokio::time::advance(SECOND).await;
        core.handle_timeout();
        core.handle_tick();
    }
    panic!("{:?} is not {state:?} within two minutes", core.state());
}

#[tokio::test(start_paused = true)]
async fn a_critical_link_that_recovers_is_kept_and_one_that_does_not_is_given_up() {
    let core = core();
    for event in [Event::Establish, Event::TransportUp, Event::Accepted, Event::StreamOpened] {
        core.feed(event);
    }
    core.feed(Event::Alive);
    let sent = || core.see(now(), &Observed::Sent { records: &[], in_flight: 1, awaited: 1 });
    let ranges: SeqSet = [Seq(1)].into_iter().collect();
    sent();
    assert_eq!(seconds_until(&core, StateKind::Critical).await, 15, "ack_age_critical");
    tokio::time::advance(20 * SECOND).await;
    core.see(now(), &Observed::Acked { ranges: &ranges, in_flight: 0, awaited: 0 });
    let resolve_after = 6;
    assert!(seconds_until(&core, StateKind::Warning).await <= resolve_after);
    assert!(seconds_until(&core, StateKind::Healthy).await <= resolve_after);
    sent();
    assert_eq!(seconds_until(&core, StateKind::Critical).await, 15);
    assert_eq!(seconds_until(&core, StateKind::Reconnecting).await, 30, "critical_max");
}
