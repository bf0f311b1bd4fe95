//! What the loss of one of three endpoints costs the others, measured; and that losing and finding
//! one again many times leaks nothing.
//!
//! Figures are printed. Times are asserted with a margin for machines that do other work meanwhile.

use std::time::Duration;

use alys_stream_protocol::time::{SystemClock, WallClock as _};
use alys_stream_testkit::proxy::{Cut, Flow, Proxy};
use alys_stream_tests::deployment::{Deployment, heartbeat_every, listen_of, mint, reach_through};
use alys_stream_tests::footprint::Footprint;
use alys_stream_tests::link;
use alys_stream_tests::traffic::{Load, Mix, Settled, Traffic, percentile};

const NAMES: [&str; 3] = ["governance-1", "governance-2", "governance-3"];

/// From the moment at which the node sees the loss to the next acknowledgement from another
/// endpoint.
const NEXT_ACK_MAX: Duration = Duration::from_millis(50);

/// Callers that keep the node busy: as many as a full load takes on two cores.
const CALLERS: u32 = 96;

/// Messages a second while latencies are compared: well below what a debug build can carry.
const PER_SECOND: u32 = 150;

/// The others' 99th percentile may grow so much, and by so much more on a machine that does other
/// work meanwhile.
const P99_GROWTH_MAX: f64 = 1.5;
const P99_SLACK: Duration = Duration::from_millis(30);

/// Between two heartbeats, where a silent link is to be found soon.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How often an endpoint is killed and started again.
const CYCLES: usize = 50;

/// The first cycles fill caches and pools: what is held after them is what may be held at the end.
const WARM_UP_CYCLES: usize = 10;

/// Descriptors and threads that may be there or not at the moment of a look: connections of the
/// admin port and of the submission interface, and idle threads for blocking work.
const DESCRIPTORS_SLACK: usize = 8;
const THREADS_SLACK: usize = 8;

/// Resident memory that settled messages of the cycles may take, by their remembered ids (about
/// 100 bytes each, with what the allocator keeps).
const RESIDENT_SLACK_KIB: u64 = 12 * 1024;

async fn all_up(deployment: &Deployment) {
    for name in NAMES {
        link::until_up(&deployment.node, name).await;
    }
}

fn after(settled: &[Settled], at_ms: u64) -> impl Iterator<Item = &Settled> + Clone {
    settled.iter().filter(move |settled| settled.settled_at.0 >= at_ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_acknowledgement_comes_at_once_when_an_endpoint_is_killed_at_full_load() {
    let mut deployment = Deployment::start(3).await;
    all_up(&deployment).await;
    let load = Load::Saturating(CALLERS);
    let mut traffic = Traffic::start(deployment.client(), load, Mix::Any, 61);
    traffic.more(1_000).await;
    deployment.governance[1].kill().await;
    let gone = ["critical", "reconnecting"];
    let seen = link::until_changed(&deployment.node, NAMES[1], &gone, 0).await;
    traffic.more(1_000).await;
    deployment.governance[1].restart();
    let settled = traffic.finish().await;

    let next = after(&settled, seen.at_ms).map(|it| it.settled_at.0).min().expect("it goes on");
    let next = Duration::from_millis(next - seen.at_ms);
    // Those that were under way when it was seen, some of them to the one that is gone.
    let under_way = after(&settled, seen.at_ms).filter(|it| it.submitted_at.0 < seen.at_ms);
    let last = under_way.clone().map(|it| it.settled_at.0).max().unwrap_or(seen.at_ms);
    println!(
        "next acknowledgement {next:?} after the loss was seen; the {} under way all settled \
         within {} ms; {} in all",
        under_way.count(),
        last - seen.at_ms,
        settled.len()
    );
    assert!(next <= NEXT_ACK_MAX, "{next:?}");
    deployment.governance[1].ready().await;
    for ledger in deployment.stop().await {
        assert!(ledger.values().all(|times| *times == 1), "something was applied twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_leaves_the_others_as_fast_as_before() {
    let folder = mint(3);
    let root = folder.path().join("d");
    let listen = listen_of(&root.join("governance-1/governance.yaml"));
    let mut proxy = Proxy::start(listen.parse().expect("an address")).expect("a free port");
    reach_through(&root, 1, proxy.address());
    for governance in 1..=3 {
        heartbeat_every(&root, governance, HEARTBEAT);
    }
    let deployment = Deployment::start_in(folder, 3).await;
    all_up(&deployment).await;
    let load = Load::Paced(PER_SECOND);
    let mut traffic = Traffic::start(deployment.client(), load, Mix::Any, 62);
    // The first ones pay for connections and caches.
    traffic.more(150).await;
    let warm = traffic.settled().len();
    traffic.more(600).await;
    let before = percentile(&traffic.settled()[warm..], 99);

    let hole_ms = SystemClock.now().0;
    proxy.flows(Flow::Hold).await;
    let found = link::until_changed(&deployment.node, NAMES[0], &["reconnecting"], hole_ms).await;
    traffic.more(50).await;
    let settled = traffic.settled();
    let meanwhile: Vec<Settled> = settled
        .iter()
        .filter(|it| it.submitted_at.0 >= hole_ms && it.settled_at.0 < found.at_ms)
        .copied()
        .collect();
    let waited = settled
        .iter()
        .filter(|it| it.submitted_at.0 < found.at_ms && it.settled_at.0 >= found.at_ms)
        .count();
    let during = percentile(&meanwhile, 99);
    println!(
        "p99 {before:?} before and {during:?} beside the hole ({} messages; {waited} waited in it), \
         found after {} ms",
        meanwhile.len(),
        found.at_ms - hole_ms
    );
    assert!(during <= before.mul_f64(P99_GROWTH_MAX) + P99_SLACK, "{before:?} {during:?}");

    proxy.cut(Cut::Reset).await;
    proxy.heal().await;
    all_up(&deployment).await;
    traffic.finish().await;
    for ledger in deployment.stop().await {
        assert!(ledger.values().all(|times| *times == 1), "something was applied twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_kills_of_an_endpoint_leak_nothing_and_lose_nothing() {
    let mut deployment = Deployment::start(3).await;
    all_up(&deployment).await;
    let load = Load::Paced(PER_SECOND);
    let mut traffic = Traffic::start(deployment.client(), load, Mix::AnyAndAll, 63);
    traffic.more(100).await;
    let pid = deployment.node.pid();
    let mut warm = Footprint::of(pid);
    println!("at the start: {warm:?}");
    for cycle in 0..CYCLES {
        let name = NAMES[cycle % NAMES.len()];
        let victim = &mut deployment.governance[cycle % NAMES.len()];
        victim.kill().await;
        victim.restart();
        victim.ready().await;
        link::reconnect(deployment.node_address(), name.to_owned()).await;
        traffic.more(1).await;
        if cycle + 1 == WARM_UP_CYCLES {
            warm = Footprint::of(pid);
            println!("after {WARM_UP_CYCLES} cycles: {warm:?}");
        }
    }
    all_up(&deployment).await;
    let settled = traffic.finish().await;
    let end = Footprint::of(pid);
    println!("after {CYCLES} cycles and {} messages: {end:?}", settled.len());
    assert!(end.descriptors <= warm.descriptors + DESCRIPTORS_SLACK, "{warm:?} {end:?}");
    assert!(end.threads <= warm.threads + THREADS_SLACK, "{warm:?} {end:?}");
    assert!(end.resident_kib <= warm.resident_kib + RESIDENT_SLACK_KIB, "{warm:?} {end:?}");

    let ledgers = deployment.stop().await;
    for settled in &settled {
        let times: Vec<_> = ledgers.iter().map(|ledger| ledger.get(&settled.id)).collect();
        assert!(times.iter().flatten().all(|times| **times == 1), "{:?} {times:?}", settled.id);
        let having = times.iter().flatten().count();
        let wanted = if settled.for_all { ledgers.len() } else { 1 };
        assert!(having >= wanted, "{:?} is at {having} of {wanted}", settled.id);
    }
}
