//! Many links at once: a governance node that returns to many nodes, a site that returns to one
//! node, and three endpoints that come and go.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_transport::connection::StateKind;
use alys_stream_transport::grpc::EndpointSettings;
use alys_stream_transport::reconnect::{BreakerState, DialSpreadConfig, RetryBudgetConfig};

use super::network::most_within;
use super::world::{PATIENCE, Weather, World};

/// Nodes of the first storm, and endpoints of the second.
const NODES: usize = 50;
const ENDPOINTS: u16 = 60;

/// How long everything is away: long enough for every backoff to be at its longest.
const AWAY: Duration = Duration::from_secs(420);

/// A coarser grain: there are many machines.
const COARSE: Weather = Weather {
    tick: Duration::from_millis(50),
    latency: (Duration::from_millis(50), Duration::from_millis(150)),
};

/// Dials in any second that a governance node may get from [`NODES`] nodes when it returns: the
/// jitter of ten backoffs (± 20 % of up to 120 s each) has spread them over about 48 s.
const DIALS_PER_SECOND_MAX: usize = NODES / 5;

#[test]
fn many_nodes_do_not_storm_a_governance_node_that_returns() {
    let mut world = World::new(201, COARSE);
    world.peer("gov-1", 10);
    for number in 1..=NODES {
        let name = format!("node-{number}");
        world.node(&name, &["gov-1".to_owned()], EndpointSettings::default(), 200);
    }
    let all_up =
        |world: &World| world.nodes.iter().all(|node| node.state("gov-1") == StateKind::Healthy);
    world.until(PATIENCE, "all are up", all_up);
    let peer = Arc::clone(world.peer_of("gov-1"));
    peer.set_up(false);
    world.run_for(AWAY);
    let back_at = world.elapsed();
    let before = peer.accepted().len();
    peer.set_up(true);
    let took = world.until(PATIENCE, "all are up again", all_up);
    let dials = peer.accepted().split_off(before);
    let most = most_within(&dials, Duration::from_secs(1));
    println!(
        "all {NODES} up {took:?} after the return, by {} connections, at most {most} in a second",
        dials.len()
    );
    assert_eq!(dials.len(), NODES, "one attempt each is enough");
    assert!(most <= DIALS_PER_SECOND_MAX, "{most} in one second");
    // While it was away each node tried less and less often.
    for node in &world.nodes {
        let tried: Vec<Duration> = node.network.dials();
        let late = tried.iter().filter(|at| **at > back_at - AWAY / 2 && **at < back_at).count();
        assert!(late <= 6, "{late} dials in {:?}", AWAY / 2);
    }
    one_probe_each(&world, back_at);
    world.ends_well();
}

/// From the moment at which a breaker lets a probe pass to the one at which it closes, one message
/// arrives.
fn one_probe_each(world: &World, since: Duration) {
    let mut probed = 0;
    for node in &world.nodes {
        let seen = node.seen();
        let at = |wanted: BreakerState| {
            let mut later = seen.breakers.iter().filter(|(at, ..)| *at >= since);
            later.find(|(_, _, state)| *state == wanted).map(|(at, ..)| *at)
        };
        // One that is closed again before it opened is closed for good.
        let Some(closed) = at(BreakerState::Closed) else { continue };
        let batches = world.peers[0].shelf(node.owner().log_id()).batches();
        let before: usize = batches
            .iter()
            .filter(|(at, _)| (since..closed).contains(at))
            .map(|(_, records)| records)
            .sum();
        assert!(before <= 1, "{before} messages before the breaker closed at {closed:?}");
        probed += before;
    }
    println!("{probed} breakers closed by one message each");
    assert!(probed > NODES / 2, "{probed} of {NODES} breakers had opened and were probed");
}

#[test]
fn a_node_spreads_its_dials_to_a_site_that_is_away_and_returns() {
    let mut world = World::new(202, COARSE);
    let endpoints = world.site("site", ENDPOINTS);
    world.peers.iter().for_each(|peer| peer.set_up(false));
    world.node_of("node-1", endpoints.clone(), EndpointSettings::default(), 500);
    world.run_for(AWAY);
    let dials = world.nodes[0].network.dials();
    let (spread, budget) = (DialSpreadConfig::default(), RetryBudgetConfig::default());
    let at_once = dials.iter().filter(|at| **at < Duration::from_millis(500)).count();
    assert_eq!(at_once, usize::try_from(spread.at_once).unwrap(), "the first ones");
    let most = most_within(&dials, budget.window);
    let repeats = f64::from(budget.per_second) * budget.window.as_secs_f64();
    let allowed = repeats + (1.0 + budget.ratio) * f64::from(ENDPOINTS);
    let seen = world.nodes[0].seen();
    let held =
        seen.changes.iter().filter(|change| change.why.contains("waiting for a turn")).count();
    drop(seen);
    println!(
        "{} dials while it was away, at most {most} in {:?}; {held} waited for a turn",
        dials.len(),
        budget.window
    );
    assert!(held > 0, "the budget was never spent");
    assert!((most as f64) <= allowed, "T49: {most}");

    world.peers.iter().for_each(|peer| peer.set_up(true));
    let back_at = world.elapsed();
    let all_up = |world: &World| {
        endpoints.iter().all(|(name, _)| world.nodes[0].state(name) == StateKind::Healthy)
    };
    let took = world.until(PATIENCE, "all are up", all_up);
    let dials: Vec<Duration> =
        world.nodes[0].network.dials().into_iter().filter(|at| *at >= back_at).collect();
    let most = most_within(&dials, Duration::from_secs(1));
    println!("all {ENDPOINTS} up {took:?} after the return, at most {most} dials in a second");
    assert!(most <= usize::from(ENDPOINTS) / 4, "{most} in one second");
    world.ends_well();
}

/// Seconds of flapping.
const FLAPPING: u64 = 300;

/// Every seed is another order of cuts, returns and pauses, of one, two or all three.
#[test]
fn three_endpoints_that_flap_lose_nothing() {
    const NAMES: [&str; 3] = ["gov-1", "gov-2", "gov-3"];
    for seed in 301..305 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::with(seed, Weather::default(), 3, 20 * FLAPPING);
        let end = world.elapsed() + Duration::from_secs(FLAPPING);
        while world.elapsed() < end {
            let name = NAMES[rng.usize(..3)];
            match rng.u8(..6) {
                0 => world.peer_of(name).set_up(false),
                1 => world.sim().partition("node-1", name),
                2 => world.sim().hold("node-1", name),
                3 => world.sim().partition_oneway(name, "node-1"),
                _ => {
                    world.peer_of(name).set_up(true);
                    world.sim().release("node-1", name);
                    world.sim().repair("node-1", name);
                }
            }
            world.run_for(Duration::from_millis(rng.u64(5..8_000)));
        }
        for name in NAMES {
            world.peer_of(name).set_up(true);
            world.sim().release("node-1", name);
            world.sim().repair("node-1", name);
        }
        world.ends_well();
        let lost: Vec<usize> =
            NAMES.iter().map(|name| world.times(name, StateKind::Reconnecting)).collect();
        println!(
            "lost and found {lost:?} times, all settled after {:?}; {} acknowledgements made up for",
            world.elapsed(),
            world.resumed()
        );
    }
}
