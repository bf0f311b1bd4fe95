//! Random lives: whatever comes, in whatever order, with restarts in between.

use super::*;

/// A seed fails? Put it in alone.
const SEEDS: std::ops::Range<u64> = 0..60;

/// Two of the first eight keys.
fn pair(rng: &mut fastrand::Rng) -> Vec<u8> {
    let first = rng.u8(1..8);
    vec![first, rng.u8(first + 1..=8)]
}

/// The names of the members of a federation, as seeds of their keys.
fn seeds_of(federation: &Federation) -> Vec<u8> {
    let ids = federation.members().iter().map(|member| member.id.strip_prefix("member-"));
    ids.map(|id| id.unwrap().parse().unwrap()).collect()
}

/// Somebody's update: mostly honest, signed by the federation in force, the last one that is
/// scheduled, or by nobody that matters.
fn random_update(rng: &mut fastrand::Rng, machine: &Federations) -> Arc<FederationUpdate> {
    let version = machine.newest().0.saturating_sub(1) + rng.u64(0..4);
    let last = machine.scheduled().last().map(|it| it.federation.clone());
    let signers = match rng.u8(0..4) {
        0 => pair(rng),
        1 => seeds_of(&last.unwrap_or_else(|| machine.in_force().federation.clone())),
        _ => seeds_of(&machine.in_force().federation),
    };
    match rng.u8(0..6) {
        0 => halt(rng.u64(1..20)).signed(&signers),
        1 => resume(rng.u64(1..20)).signed(&signers),
        _ => draft(version, &pair(rng)).height(rng.u64(0..3) * rng.u64(0..60)).signed(&signers),
    }
}

fn state(machine: &Federations) -> impl PartialEq + fmt::Debug {
    let scheduled: Vec<_> = machine.scheduled().cloned().collect();
    let halted = machine.halted().cloned();
    (Arc::clone(machine.in_force()), scheduled, machine.newest(), halted)
}

#[test]
fn no_life_breaks_an_invariant_and_every_restart_knows_all() {
    let (mut changes, mut halts, mut restarts) = (0, 0, 0);
    for seed in SEEDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut machine = machine();
        let mut entries = vec![root_entry()];
        let mut highest = 0;
        for step in 0..120 {
            let context = format!("seed {seed}, step {step}");
            let (version, newest) = (machine.in_force().version, machine.newest());
            let moment = at(10 + step);
            let was_halted = machine.halted().is_some();
            match rng.u8(0..10) {
                0..7 => {
                    let update = random_update(&mut rng, &machine);
                    drop(machine.handle_update(moment, "a", &update));
                }
                7 => {
                    let height = rng.u64(0..150);
                    highest = highest.max(height);
                    machine.handle_height(moment, height);
                }
                8 => machine.handle_conflict(moment, Version(newest.0 + rng.u64(0..2))),
                _ => {
                    let restored = Federations::restore(entries.clone());
                    let mut restored = restored.expect(&context).expect(&context);
                    assert_eq!(state(&restored), state(&machine), "{context}");
                    // Chain tells its height again, as it does for every block.
                    restored.handle_height(moment, highest);
                    machine = restored;
                    restarts += 1;
                }
            }
            entries.extend(stored(&mut machine));
            changes += u32::from(machine.in_force().version > version);
            halts += u32::from(!was_halted && machine.halted().is_some());
            assert!(machine.in_force().version >= version, "A11: {context}");
            assert!(machine.newest() >= newest, "A11: {context}");
            assert!(machine.in_force().effective_height <= highest, "A12: {context}");
            let waiting: Vec<_> =
                machine.scheduled().map(|it| (it.version, it.effective_height)).collect();
            assert!(waiting.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{context}: {waiting:?}");
            assert!(waiting.iter().all(|it| it.1 > highest), "{context}: {waiting:?} {highest}");
        }
    }
    // The lives are worth living.
    println!("{changes} federations, {halts} halts, {restarts} restarts");
    assert!(changes > 300 && halts > 30 && restarts > 300, "{changes} {halts} {restarts}");
}

fn root_entry() -> Entry {
    let Root { version, federation } = root();
    Entry::Root(RootEntry { version, federation, at: UnixMillis(1), first_seq: Seq(1) })
}
