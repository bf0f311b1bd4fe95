//! Half-open and slow peers, over real sockets: each is found within its bound, loses nothing, and
//! costs the other endpoints nothing.
//!
//! The first of three governance nodes is behind a proxy that breaks what passes. The bounds are the
//! documented ones; heartbeats are configured to be frequent, so that the bounds are short.

#![expect(clippy::print_stdout, reason = "the figures are shown")]

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::time::{SystemClock, WallClock as _};
use alys_stream_testkit::proxy::{Admission, Cut, Direction, Flow, Proxy};
use alys_stream_tests::deployment::{Deployment, heartbeat_every, listen_of, mint, reach_through};
use alys_stream_tests::link::{self, Change};
use alys_stream_tests::seed;
use alys_stream_tests::traffic::{Load, Mix, Settled, Traffic};
use serde_json::json;

/// The endpoint behind the proxy, and the others.
const BROKEN: &str = "governance-1";
const OTHERS: [&str; 2] = ["governance-2", "governance-3"];

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(400);

/// A link whose peer answers nothing is given up within (`missed_max` + 1) heartbeats (T5), with the
/// default of 3.
const SILENCE_MAX: Duration = HEARTBEAT.saturating_mul(4);

/// TCP and TLS with one address.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// What a busy machine may add to any of these times.
const SLACK: Duration = Duration::from_secs(1);

/// Messages a second meanwhile, an eighth of them for all governance nodes.
const PER_SECOND: u32 = 100;

/// A node, three governance nodes, a proxy before the first, and messages under way.
struct Rig {
    deployment: Deployment,
    proxy: Proxy,
    traffic: Traffic,
    rng: fastrand::Rng,
    /// How often the others had been dialled when everything was well.
    dials: [u64; 2],
}

impl Rig {
    async fn start() -> Self {
        let mut rng = seed::rng();
        let folder = mint(3);
        let root = folder.path().join("d");
        let listen = listen_of(&root.join("governance-1/governance.yaml"));
        let proxy = Proxy::start(listen.parse().expect("an address")).expect("a free port");
        reach_through(&root, 1, proxy.address());
        for governance in 1..=3 {
            heartbeat_every(&root, governance, HEARTBEAT);
        }
        let deployment = Deployment::start_in(folder, 3).await;
        for name in [BROKEN].iter().chain(&OTHERS) {
            link::until_up(&deployment.node, name).await;
        }
        let load = Load::Paced(PER_SECOND);
        let mut traffic = Traffic::start(deployment.client(), load, Mix::AnyAndAll, rng.fork());
        traffic.more(50).await;
        let mut rig = Self { deployment, proxy, traffic, rng, dials: [0; 2] };
        rig.dials = rig.dials_of_others().await;
        rig
    }

    async fn dials_of_others(&self) -> [u64; 2] {
        let mut dials = [0; 2];
        for (dials, name) in dials.iter_mut().zip(OTHERS) {
            let found = link::endpoint(&self.deployment.node, name).await;
            *dials = found["attempts"].as_u64().expect("a number");
        }
        dials
    }

    /// Waits until the broken link is given up, which must be within the bound.
    async fn is_found(&self, since_ms: u64, within: Duration) -> Change {
        let gone = ["reconnecting", "failed"];
        let change = link::until_changed(&self.deployment.node, BROKEN, &gone, since_ms).await;
        let took = Duration::from_millis(change.at_ms - since_ms);
        println!("found after {took:?} (bound {within:?}): {}", change.why);
        assert!(took <= within + SLACK, "{took:?} for {change:?}");
        change
    }

    /// The others go on while it is broken.
    async fn goes_on(&mut self) {
        self.traffic.more(50).await;
    }

    /// Everything is well again, everything settles, and nothing was applied twice by anyone.
    async fn ends_well(mut self) {
        self.proxy.heal().await;
        link::until_up(&self.deployment.node, BROKEN).await;
        assert_eq!(self.dials_of_others().await, self.dials, "the others kept their connections");
        let settled = self.traffic.finish().await;
        for name in [BROKEN].iter().chain(&OTHERS) {
            link::until(&self.deployment.node, name, |it| it["in_flight"] == 0).await;
        }
        let ledgers = self.deployment.stop().await;
        println!("{} settled", settled.len());
        let ids = |for_all| {
            let of = settled.iter().filter(move |settled: &&Settled| settled.for_all == for_all);
            of.map(|settled| settled.id).collect::<BTreeSet<MessageId>>()
        };
        for ledger in &ledgers {
            assert!(ledger.values().all(|times| *times == 1), "something was applied twice");
            let lost = ids(true).into_iter().find(|id| !ledger.contains_key(id));
            assert_eq!(lost, None, "a governance node never got it");
        }
        let is_lost = |id: &MessageId| !ledgers.iter().any(|ledger| ledger.contains_key(id));
        assert_eq!(ids(false).into_iter().find(is_lost), None, "nobody got it");
    }
}

fn now_ms() -> u64 {
    SystemClock.now().0
}

/// A link on which a flow is broken in one direction or both is found by its heartbeats.
async fn a_broken_flow_is_found(up: Flow, down: Flow) {
    let mut rig = Rig::start().await;
    let since = now_ms();
    rig.proxy.flow(Direction::Up, up).await;
    rig.proxy.flow(Direction::Down, down).await;
    rig.is_found(since, SILENCE_MAX).await;
    rig.goes_on().await;
    // What was held or thrown away belongs to connections that nobody wants any more.
    rig.proxy.cut(Cut::Reset).await;
    rig.ends_well().await;
}

#[tokio::test]
async fn a_black_hole() {
    a_broken_flow_is_found(Flow::Hold, Flow::Hold).await;
}

#[tokio::test]
async fn a_peer_that_stops_reading() {
    a_broken_flow_is_found(Flow::Hold, Flow::Pass).await;
}

#[tokio::test]
async fn a_peer_that_reads_one_byte_a_second() {
    let one = NonZeroU64::MIN;
    a_broken_flow_is_found(Flow::Throttle(one), Flow::Pass).await;
}

#[tokio::test]
async fn a_peer_that_answers_one_byte_a_second() {
    let one = NonZeroU64::MIN;
    a_broken_flow_is_found(Flow::Pass, Flow::Throttle(one)).await;
}

#[tokio::test]
async fn a_middlebox_that_drops_what_we_send() {
    a_broken_flow_is_found(Flow::Discard, Flow::Pass).await;
}

#[tokio::test]
async fn a_middlebox_that_drops_what_the_peer_sends() {
    a_broken_flow_is_found(Flow::Pass, Flow::Discard).await;
}

#[tokio::test]
async fn a_peer_whose_stream_is_not_read_any_more() {
    let mut rig = Rig::start().await;
    let since = now_ms();
    rig.deployment.governance[0].misbehave(&json!({"stop_reading": true})).await;
    rig.is_found(since, SILENCE_MAX).await;
    rig.goes_on().await;
    rig.deployment.governance[0].misbehave(&json!({"stop_reading": false})).await;
    rig.ends_well().await;
}

#[tokio::test]
async fn a_peer_that_accepts_and_never_answers() {
    let mut rig = Rig::start().await;
    rig.proxy.admit(Admission::Silent).await;
    rig.proxy.cut(Cut::Reset).await;
    let accepted = rig.proxy.counts().accepted;
    rig.proxy.until(|counts| counts.accepted > accepted).await;
    let change = rig.is_found(now_ms(), ADDRESS_TIMEOUT).await;
    assert_eq!(change.to, "failed", "{change:?}");
    rig.goes_on().await;
    rig.ends_well().await;
}

#[tokio::test]
async fn a_reset() {
    let mut rig = Rig::start().await;
    let since = now_ms();
    rig.proxy.cut(Cut::Reset).await;
    rig.is_found(since, Duration::ZERO).await;
    rig.goes_on().await;
    rig.ends_well().await;
}

#[tokio::test]
async fn a_polite_close_of_the_connection() {
    let mut rig = Rig::start().await;
    let since = now_ms();
    rig.proxy.cut(Cut::Close).await;
    rig.is_found(since, Duration::ZERO).await;
    rig.goes_on().await;
    rig.ends_well().await;
}

/// Heartbeats keep a link alive through a proxy that cuts what is idle for longer than they are
/// apart; one that cuts sooner is seen at once.
#[tokio::test]
async fn a_proxy_that_cuts_idle_connections() {
    let mut rig = Rig::start().await;
    rig.traffic = {
        let load = Load::Paced(0);
        let client = rig.deployment.client();
        let quiet = Traffic::start(client.clone(), load, Mix::AnyAndAll, rig.rng.fork());
        std::mem::replace(&mut rig.traffic, quiet).finish().await;
        Traffic::start(client, load, Mix::AnyAndAll, rig.rng.fork())
    };
    rig.proxy.cut_idle_after(Some(HEARTBEAT * 3)).await;
    // Heartbeats of some seconds pass, and nothing else.
    let bytes = rig.proxy.counts().bytes_up;
    let heartbeats = link::until(&rig.deployment.node, BROKEN, |_| {
        rig.proxy.counts().bytes_up >= bytes + 10 * 40
    });
    heartbeats.await;
    assert_eq!(rig.proxy.counts().cut_idle, 0, "heartbeats keep it alive");

    rig.proxy.cut_idle_after(Some(HEARTBEAT / 4)).await;
    let since = now_ms();
    rig.proxy.until(|counts| counts.cut_idle > 0).await;
    rig.is_found(since, HEARTBEAT).await;
    let load = Load::Paced(PER_SECOND);
    let client = rig.deployment.client();
    rig.traffic = Traffic::start(client, load, Mix::AnyAndAll, rig.rng.fork());
    rig.goes_on().await;
    rig.ends_well().await;
}

/// GOAWAY alone, without a frame of ours: the stream could go on for ever, and is left at once.
#[tokio::test]
async fn a_goaway_and_nothing_else() {
    let mut rig = Rig::start().await;
    let (since, accepted) = (now_ms(), rig.proxy.counts().accepted);
    rig.deployment.governance[0].misbehave(&json!({"goaway": true})).await;
    let change = rig.is_found(since, Duration::ZERO).await;
    assert!(change.why.contains("GOAWAY"), "{change:?}");
    rig.goes_on().await;
    rig.proxy.until(|counts| counts.accepted > accepted).await;
    rig.ends_well().await;
}

/// GOAWAY lets the stream go on until it has drained; then there is a new connection.
#[tokio::test]
async fn a_goaway() {
    let mut rig = Rig::start().await;
    let since = now_ms();
    let within = Duration::from_secs(2);
    let act = json!({"goaway": true, "drain": {"deadline_ms": 2000}});
    rig.deployment.governance[0].misbehave(&act).await;
    let accepted = rig.proxy.counts().accepted;
    rig.is_found(since, within).await;
    rig.goes_on().await;
    rig.proxy.until(|counts| counts.accepted > accepted).await;
    rig.ends_well().await;
}
