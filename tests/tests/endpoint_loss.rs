//! What the loss of one of three endpoints costs the others, measured; and that losing and finding
//! one again many times leaks nothing.
//!
//! Figures are printed. Times are asserted with a margin for machines that do other work meanwhile.

#![expect(clippy::print_stdout, reason = "the figures are shown")]

use std::time::Duration;

use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use alys_stream_testkit::proxy::{Cut, Flow, Proxy};
use alys_stream_tests::deployment::{Deployment, heartbeat_every, listen_of, mint, reach_through};
use alys_stream_tests::footprint::Footprint;
use alys_stream_tests::link;
use alys_stream_tests::noise::Noise;
use alys_stream_tests::seed;
use alys_stream_tests::traffic::{Load, Mix, Settled, Traffic, percentile};

const NAMES: [&str; 3] = ["governance-1", "governance-2", "governance-3"];

/// From the moment at which the node sees the loss to the next acknowledgement from another
/// endpoint.
const NEXT_ACK_MAX: Duration = Duration::from_millis(50);

/// Callers that keep the node busy: as many as a full load takes on two cores.
const CALLERS: u32 = 96;

/// Messages a second while latencies are compared: well below what a debug build can carry.
const PER_SECOND: u32 = 150;

/// The others' 99th percentile may grow so much.
const P99_GROWTH_MAX: f64 = 1.5;

/// How often the hole is made while the machine is quiet: the middle one counts. A round during which
/// it was not is made again, so often in all.
const HOLES: usize = 3;
const HOLES_MAX: usize = 5;

/// A machine is quiet when 99 of 100 wake-ups are not later than this. On a busier one the 99th
/// percentile of anything is that of its other work.
const QUIET: Duration = Duration::from_millis(10);

/// Messages of every round before its hole, and at least as many beside it: the 99th percentile is
/// then not the worst one or two.
const BEFORE: usize = 500;
const BESIDE_MIN: usize = 300;

/// Between two heartbeats, where a silent link is to be found after enough messages, and soon.
const HEARTBEAT: Duration = Duration::from_millis(1500);

/// A silent link is given up within so many of them (T5), and a second that a busy machine may add.
const FOUND_WITHIN: Duration = HEARTBEAT.saturating_mul(4).saturating_add(Duration::from_secs(1));

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
    let mut traffic = Traffic::start(deployment.client(), load, Mix::Any, seed::rng());
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
    let mut traffic = Traffic::start(deployment.client(), load, Mix::Any, seed::rng());
    // The first ones pay for connections and caches.
    traffic.more(150).await;
    let noise = Noise::start();
    let mut growths = Vec::new();
    for _ in 0..HOLES_MAX {
        growths.extend(hole(&deployment, &mut proxy, &mut traffic, &noise).await);
        all_up(&deployment).await;
        traffic.more(150).await;
        if growths.len() == HOLES {
            break;
        }
    }
    growths.sort_unstable_by(f64::total_cmp);
    match growths.get(HOLES / 2) {
        Some(middle) if growths.len() == HOLES => {
            println!("the others' p99 beside the hole is {growths:.2?} of that before");
            assert!(*middle <= P99_GROWTH_MAX, "{growths:?}");
        }
        Some(_) | None => println!(
            "p99 was not compared: this machine was quiet in {} rounds of {HOLES_MAX} alone; the \
             simulation compares it in virtual time",
            growths.len()
        ),
    }
    traffic.finish().await;
    for ledger in deployment.stop().await {
        assert!(ledger.values().all(|times| *times == 1), "something was applied twice");
    }
}

/// Makes the first endpoint a black hole until that is found. How the 99th percentile of what the
/// others carry meanwhile compares with that of before; `None` when the machine was not quiet.
async fn hole(
    deployment: &Deployment,
    proxy: &mut Proxy,
    traffic: &mut Traffic,
    noise: &Noise,
) -> Option<f64> {
    let (begun_at, first) = (SystemClock.now(), traffic.settled().len());
    traffic.more(BEFORE).await;
    let hole_at = SystemClock.now();
    let before = percentile(&traffic.settled()[first..], 99);
    proxy.flows(Flow::Hold).await;
    let gone = ["reconnecting"];
    let found = link::until_changed(&deployment.node, NAMES[0], &gone, hole_at.0).await;
    let found_at = UnixMillis(found.at_ms);
    traffic.more(50).await;
    let settled = traffic.settled();
    let beside: Vec<Settled> = settled
        .iter()
        .filter(|it| it.submitted_at >= hole_at && it.settled_at < found_at)
        .copied()
        .collect();
    let waited =
        settled.iter().filter(|it| it.submitted_at < found_at && it.settled_at >= found_at).count();
    let (during, count) = (percentile(&beside, 99), beside.len());
    let late = |from, to| noise.percentile(from, to, 99);
    let (late_before, late_during) = (late(begun_at, hole_at), late(hole_at, found_at));
    let took = found_at.saturating_since(hole_at);
    println!(
        "p99 {before:?} before (wake-ups {late_before:?} late), {during:?} beside the hole \
         ({late_during:?} late; {count} messages, {waited} waited in it), found after {took:?}"
    );
    assert!(count >= BESIDE_MIN, "{count} messages are too few");
    assert!(took <= FOUND_WITHIN, "{took:?}");
    proxy.cut(Cut::Reset).await;
    proxy.heal().await;
    let is_quiet = late_before.max(late_during) <= QUIET;
    is_quiet.then(|| during.as_secs_f64() / before.as_secs_f64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_kills_of_an_endpoint_leak_nothing_and_lose_nothing() {
    let mut deployment = Deployment::start(3).await;
    all_up(&deployment).await;
    let load = Load::Paced(PER_SECOND);
    let mut traffic = Traffic::start(deployment.client(), load, Mix::AnyAndAll, seed::rng());
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
