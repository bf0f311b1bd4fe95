//! A crash at every storage call of a script, in every way, and another one while it recovers.

use alys_stream_testkit::disk::Crash;

use super::rig::Rig;
use super::*;

/// Choices of the disk per call and way to crash.
const SEEDS: u64 = 3;

/// Fills several segments, retires some, closes and opens in between.
pub(crate) fn script(rig: &mut Rig) {
    rig.open();
    rig.append(3, 100);
    rig.sync();
    rig.append(5, 300);
    rig.append(1, 0);
    rig.settle([1]);
    rig.sync();
    for round in 0..8 {
        rig.append(4, 250);
        if round % 2 == 1 {
            rig.settle(0..7);
        }
        rig.append(1, 700);
        if round % 3 != 0 {
            rig.sync();
        }
    }
    // More than a page of the index and a group of ids: one goes to a file.
    rig.append(130, 20);
    rig.sync();
    rig.close();
    rig.open();
    rig.append(2, 2000);
    rig.sync();
    rig.settle(0..40);
    rig.append(2, 600);
    rig.sync();
    rig.settle([0, 2]);
    // Segments go, and what they said of ids is in files.
    rig.settle(0..60);
    rig.sync();
    for _ in 0..3 {
        rig.append(2, 2500);
        rig.sync();
        rig.settle(0..100);
        rig.sync();
    }
    rig.close();
}

/// How many storage calls the script makes when nothing fails; the housekeeper's vary a little.
fn calls_of_script() -> u64 {
    let mut rig = Rig::new(0, tiny(), "no crash".into());
    script(&mut rig);
    let calls = rig.disk.calls();
    rig.open();
    rig.exercise();
    calls
}

fn check(call: u64, crash: Crash, seed: u64) {
    let case = format!("crash at call {call}, {crash:?}, seed {seed}");
    let mut rig = Rig::new(seed, tiny(), case);
    rig.disk.crash_at(call);
    script(&mut rig);
    rig.crash(crash);
    // Once more while it recovers, at a call that the seed names.
    rig.disk.crash_at(1 + (call * 7 + seed * 13) % 40);
    rig.open();
    rig.append(1, 50);
    rig.sync();
    rig.crash(crash);
    rig.open();
    rig.exercise();
    assert_eq!(rig.disk.uses_after_failed_sync(), 0);
}

#[test]
fn at_every_storage_call() {
    let calls = calls_of_script() + 4;
    let ways = Crash::ALL.len() as u64;
    let cases = for_each(calls * ways * SEEDS, |n| {
        let (call, rest) = (n / (ways * SEEDS), n % (ways * SEEDS));
        check(call + 1, Crash::ALL[(rest % ways) as usize], rest / ways);
    });
    println!("cases: crash-at-every-call {cases} ({calls} calls, {ways} ways, {SEEDS} seeds)");
    assert!(cases > 1000, "the script has become too short");
}
