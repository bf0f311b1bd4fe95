//! Endpoints that are killed and started again a thousand times under load, with everything of the
//! product above the socket: nothing is lost, and nothing is left behind.

use std::time::Duration;

use alys_stream_tests::footprint::Footprint;
use alys_stream_transport::connection::StateKind;
use alys_stream_transport::grpc::EndpointSettings;
use alys_stream_transport::reconnect::BackoffConfig;

use super::network::Holding;
use super::world::{Weather, World};

const SEED: u64 = 401;

/// Kills, of one endpoint after the other.
const CYCLES: usize = 1000;

/// The first ones fill caches and pools: what is held after them is what may be held at the end.
const WARM_UP_CYCLES: usize = 100;

const NAMES: [&str; 3] = ["gov-1", "gov-2", "gov-3"];

/// A bit more than are accepted during all cycles, so that there is load until the end.
const MESSAGES: u64 = 18_000;

/// The first delay of the backoff: shorter than the default, so that the time goes into connections
/// and not into waiting for them.
const BACKOFF: Duration = Duration::from_millis(100);

/// A connection whose peer is gone is seen to be lost at once: packets that are under way.
const SEEN_WITHIN: Duration = Duration::from_millis(500);

/// Resident memory that the cycles after those may add: the books of the test itself, which remember
/// every message and every change, take about half of it. It is 13 KiB for each kill.
const RESIDENT_SLACK_KIB: u64 = 12 * 1024;

/// A coarse grain: most of the time is spent in backoffs.
const COARSE: Weather = Weather {
    tick: Duration::from_millis(20),
    latency: (Duration::from_millis(20), Duration::from_millis(40)),
};

/// What the node and its governance nodes hold when all is well and nothing is going on.
fn at_rest(world: &mut World) -> Vec<Holding> {
    for name in NAMES {
        world.until_up(name);
    }
    // Connections that were given up are gone by then, and heartbeats are answered.
    world.run_for(Duration::from_secs(5));
    let node = world.nodes[0].seen().holding;
    [node].into_iter().chain(world.peers.iter().map(|peer| peer.holding())).collect()
}

#[test]
fn a_thousand_kills_of_endpoints_under_load_lose_nothing_and_leave_nothing_behind() {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let backoff = BackoffConfig { first: BACKOFF, ..BackoffConfig::default() };
    let settings = EndpointSettings { backoff, ..EndpointSettings::default() };
    let mut world = World::of(SEED, COARSE, NAMES.len(), settings, MESSAGES);
    let before = at_rest(&mut world);
    let pid = std::process::id();
    let mut warm = Footprint::of(pid);
    for cycle in 0..CYCLES {
        if cycle == WARM_UP_CYCLES {
            warm = Footprint::of(pid);
        }
        let name = NAMES[cycle % NAMES.len()];
        world.peer_of(name).set_up(false);
        world.until_lost(name, SEEN_WITHIN);
        world.run_for(Duration::from_millis(rng.u64(5..300)));
        world.peer_of(name).set_up(true);
        world.until_up(name);
        world.run_for(Duration::from_millis(rng.u64(5..300)));
    }
    let (accepted, _) = world.nodes[0].owner().counts();
    assert!(accepted < MESSAGES, "the load ended before the cycles did");
    let lost: usize = NAMES.iter().map(|name| world.times(name, StateKind::Reconnecting)).sum();
    let end = Footprint::of(pid);
    let took = world.elapsed();
    world.ends_well();
    let after = at_rest(&mut world);
    println!(
        "{CYCLES} kills in {took:?}, {lost} connections lost, {} acknowledgements made up for; \
         held at rest {before:?} before and {after:?} after; {warm:?} after {WARM_UP_CYCLES} kills \
         and {end:?} after all",
        world.resumed()
    );
    assert_eq!(
        lost, CYCLES,
        "each kill was of a connection that was up, and nothing else was lost"
    );
    assert_eq!(before, after, "a task or a connection was left behind");
    assert_eq!((end.descriptors, end.threads), (warm.descriptors, warm.threads));
    assert!(end.resident_kib <= warm.resident_kib + RESIDENT_SLACK_KIB, "{warm:?} {end:?}");
}
