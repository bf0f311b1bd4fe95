//! A link that is cut, in both directions or one, or slow.

use std::time::Duration;

use alys_stream_transport::connection::StateKind;
use alys_stream_transport::endpoint::{KeepaliveConfig, STRICT_INTERVAL};
use alys_stream_transport::grpc::EndpointSettings;

use super::world::{PATIENCE, Weather, World};

/// The table of `transport::grpc`: three heartbeats without an answer, the first of them up to 15 s
/// after the cut and the next look 45 s after it (T5).
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The same, for a link on which nothing comes any more: an HTTP/2 ping after 30 s, and 10 s for its
/// answer.
const PING_MAX: Duration = Duration::from_secs(40);

/// A peer that answers heartbeats and acknowledges nothing is given up after this, counted from the
/// first message that it keeps.
const ACK_MAX: Duration = Duration::from_secs(30);

/// Shorter than what any of the timers takes for silence.
const SHORT: Duration = Duration::from_secs(9);

/// How long a cut lasts otherwise.
const LONG: Duration = Duration::from_secs(150);

/// The steps of the simulation, and packets that are under way.
const GRAIN: Duration = Duration::from_millis(100);

const GOV: &str = "gov-1";
const NODE: &str = "node-1";

/// More than are accepted while a link is cut.
const MESSAGES: u64 = 6_000;

/// A link that fails is found within the bound, the others go on, and it is up again soon after.
fn is_found_and_mended(
    seed: u64,
    cut: impl FnOnce(&World),
    mend: impl FnOnce(&World),
) -> (Duration, String) {
    let mut world = World::with(seed, Weather::default(), 3, MESSAGES);
    world.run_for(Duration::from_secs(5));
    let lost = world.times("gov-2", StateKind::Reconnecting);
    cut(&world);
    let cut_at = world.elapsed();
    let (took, why) = world.until_lost(GOV, SILENCE_MAX + GRAIN);
    println!("found after {took:?}: {why}");
    world.run_for(LONG.saturating_sub(took));
    goes_on(&world, cut_at, world.elapsed());
    assert_ne!(world.nodes[0].state(GOV), StateKind::Healthy, "it is still cut");
    mend(&world);
    let mended = world.until_up(GOV);
    println!("up again after {mended:?}");
    assert_eq!(world.times("gov-2", StateKind::Reconnecting), lost, "the others are not touched");
    assert_eq!(world.times("gov-3", StateKind::Reconnecting), lost, "the others are not touched");
    world.ends_well();
    (took, why)
}

/// What any governance node may have goes on settling, whatever the cut link has in flight.
fn goes_on(world: &World, from: Duration, to: Duration) {
    let seen = world.nodes[0].seen();
    let moments = seen.settled.iter().map(|(at, _)| *at).filter(|at| (from..to).contains(at));
    let moments: Vec<Duration> = [from].into_iter().chain(moments).chain([to]).collect();
    let longest = moments.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest < Some(Duration::from_secs(2)), "nothing settled for {longest:?}");
}

#[test]
fn a_partition_is_found_and_heals() {
    is_found_and_mended(
        101,
        |world| world.sim().partition(NODE, GOV),
        |world| world.sim().repair(NODE, GOV),
    );
}

#[test]
fn a_black_hole_is_found_and_heals() {
    is_found_and_mended(
        102,
        |world| world.sim().hold(NODE, GOV),
        |world| world.sim().release(NODE, GOV),
    );
}

#[test]
fn loss_of_what_we_send_is_found() {
    is_found_and_mended(
        103,
        |world| world.sim().partition_oneway(NODE, GOV),
        |world| world.sim().repair_oneway(NODE, GOV),
    );
}

#[test]
fn loss_of_what_the_peer_sends_is_found() {
    is_found_and_mended(
        104,
        |world| world.sim().partition_oneway(GOV, NODE),
        |world| world.sim().repair_oneway(GOV, NODE),
    );
}

/// Nothing but heartbeats passes: no message is there to be acknowledged.
fn is_found_when_idle(
    seed: u64,
    settings: EndpointSettings,
    within: Duration,
    cut: impl FnOnce(&World),
) {
    let mut world = World::of(seed, Weather::default(), 2, settings, 80);
    world.ends_well();
    world.run_for(Duration::from_secs(fastrand::Rng::with_seed(seed).u64(1..60)));
    cut(&world);
    let (took, why) = world.until_lost(GOV, within + GRAIN);
    println!("found after {took:?}: {why}");
    assert_eq!(world.times("gov-2", StateKind::Reconnecting), 0, "the other is not touched");
}

#[test]
fn silence_on_an_idle_link_is_found() {
    for seed in 120..124 {
        let settings = EndpointSettings::default();
        is_found_when_idle(seed, settings, PING_MAX, |world| world.sim().hold(NODE, GOV));
        let theirs = |world: &World| world.sim().partition_oneway(GOV, NODE);
        is_found_when_idle(seed, settings, PING_MAX, theirs);
        let ours = |world: &World| world.sim().partition_oneway(NODE, GOV);
        is_found_when_idle(seed, settings, SILENCE_MAX, ours);
        // As with a `strict_peer`: pings come too late to help.
        let keepalive = KeepaliveConfig { interval: STRICT_INTERVAL, ..settings.keepalive };
        let settings = EndpointSettings { keepalive, ..settings };
        is_found_when_idle(seed, settings, SILENCE_MAX, theirs);
    }
}

/// The same cuts at many moments of the life of a connection.
#[test]
fn a_cut_at_any_moment_loses_nothing() {
    let mut resumed = 0;
    for seed in 110..116 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::with(seed, Weather::default(), 2, 2_000);
        for _ in 0..4 {
            world.run_for(Duration::from_millis(rng.u64(5..4_000)));
            let name = ["gov-1", "gov-2"][rng.usize(..2)];
            match rng.u8(..3) {
                0 => world.sim().partition(NODE, name),
                1 => world.sim().partition_oneway(NODE, name),
                _ => world.sim().partition_oneway(name, NODE),
            }
            world.run_for(Duration::from_millis(rng.u64(5..70_000)));
            world.sim().repair(NODE, name);
        }
        // What was cut and not yet found is found now.
        world.run_for(SILENCE_MAX);
        for name in ["gov-1", "gov-2"] {
            world.until_up(name);
        }
        world.ends_well();
        resumed += world.resumed();
    }
    println!("{resumed} acknowledgements were lost and made up for by a handshake");
    assert!(resumed > 0, "no cut fell between storing and acknowledging");
}

#[test]
fn a_peer_that_acknowledges_nothing_is_found() {
    let mut world = World::with(107, Weather::default(), 3, MESSAGES);
    world.peer_of(GOV).set_stuck(true);
    let cut_at = world.elapsed();
    // The first message to it may be a while in coming.
    let (took, why) = world.until_lost(GOV, ACK_MAX + Duration::from_secs(5));
    println!("found after {took:?}: {why}");
    goes_on(&world, cut_at, world.elapsed());
    world.peer_of(GOV).set_stuck(false);
    world.until_up(GOV);
    world.ends_well();
}

/// The others' 99th percentile may grow so much beside a black hole.
const P99_GROWTH_MAX: f64 = 1.5;

fn p99(times: impl Iterator<Item = (Duration, Duration)>) -> (Duration, usize) {
    let mut took: Vec<Duration> = times.map(|(accepted, settled)| settled - accepted).collect();
    took.sort_unstable();
    (took[(took.len() * 99).div_ceil(100) - 1], took.len())
}

#[test]
fn the_others_are_as_fast_beside_a_black_hole_as_before() {
    for seed in 130..133 {
        let mut world = World::with(seed, Weather::default(), 3, MESSAGES / 3);
        world.run_for(Duration::from_secs(60));
        let cut_at = world.elapsed();
        world.sim().hold(NODE, GOV);
        world.until_lost(GOV, SILENCE_MAX);
        let found_at = world.elapsed();
        world.sim().release(NODE, GOV);
        world.ends_well();
        let times = world.nodes[0].owner().times();
        let (before, _) = p99(times.iter().copied().filter(|(_, settled)| *settled < cut_at));
        let during =
            times.iter().copied().filter(|(accepted, _)| (cut_at..found_at).contains(accepted));
        let (beside, waited): (Vec<_>, Vec<_>) =
            during.partition(|(_, settled)| *settled < found_at);
        let (during, count) = p99(beside.into_iter());
        println!(
            "p99 {before:?} before, {during:?} of {count} beside; {} waited in it",
            waited.len()
        );
        assert!(during <= before.mul_f64(P99_GROWTH_MAX), "{during:?} {before:?}");
        assert!(waited.len() * 20 <= count, "{} waited in the hole", waited.len());
    }
}

#[test]
fn a_pause_below_the_bound_is_no_death() {
    let mut world = World::with(105, Weather::default(), 3, MESSAGES);
    for _ in 0..5 {
        world.sim().hold(NODE, GOV);
        world.run_for(SHORT);
        world.sim().release(NODE, GOV);
        world.run_for(SHORT);
    }
    world.until(PATIENCE, "it is healthy again", |world| {
        world.nodes[0].state(GOV) == StateKind::Healthy
    });
    assert_eq!(world.times(GOV, StateKind::Connecting), 1, "one connection all the while");
    world.ends_well();
}

#[test]
fn delay_and_jitter_are_no_death() {
    for seed in 106..108 {
        let latency = (Duration::from_millis(50), Duration::from_millis(900));
        let weather = Weather { latency, ..Weather::default() };
        let mut world = World::with(seed, weather, 3, MESSAGES);
        world.run_for(2 * LONG);
        for name in ["gov-1", "gov-2", "gov-3"] {
            assert_eq!(world.times(name, StateKind::Connecting), 1, "{name}: one connection");
        }
        world.ends_well();
    }
}
