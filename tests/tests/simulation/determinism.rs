//! One seed makes one run.

use std::time::Duration;

use super::world::{Weather, World};

fn run(seed: u64) -> Vec<String> {
    let mut world = World::with(seed, Weather::default(), 3, 800);
    world.run_for(Duration::from_secs(3));
    world.peer_of("gov-2").set_up(false);
    world.sim().partition_oneway("gov-1", "node-1");
    world.run_for(Duration::from_secs(60));
    world.peer_of("gov-2").set_up(true);
    world.sim().repair_oneway("gov-1", "node-1");
    world.ends_well();
    world.trace()
}

#[test]
fn one_seed_makes_one_run() {
    let (first, second) = (run(7), run(7));
    let other = first.iter().zip(&second).position(|(one, two)| one != two);
    let at = |trace: &[String]| other.and_then(|place| trace.get(place).cloned());
    assert_eq!(at(&first), at(&second), "the first difference, at {other:?}");
    assert_eq!(first.len(), second.len());
    assert_ne!(first, run(8), "and another seed another one");
}
