//! The buffer against a plain map: any order of appending, settling, syncing, crashing, opening,
//! flipping bits and filling the disk.

use std::thread;

use alys_stream_testkit::disk::Crash;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::rig::Rig;
use super::*;

const CASES: u32 = 3200;

/// More than there are processors: a case with a full disk waits most of its time.
const SHARDS: u32 = 16;

#[derive(Debug, Clone)]
enum Step {
    Append {
        count: u64,
        payload_bytes: usize,
    },
    Settle {
        places: Vec<usize>,
    },
    Sync,
    Reopen,
    Crash {
        crash: Crash,
        corrupt: Option<u64>,
    },
    /// Crashes at a storage call of the steps that follow.
    CrashSoon {
        calls: u64,
    },
    Corrupt {
        choice: u64,
    },
    Fill {
        space: u64,
        crash: Option<Crash>,
    },
    FailSync {
        skip: u64,
    },
}

fn crash() -> impl Strategy<Value = Crash> {
    prop::sample::select(Crash::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (1..6_u64, 0..900_usize)
            .prop_map(|(count, payload_bytes)| Step::Append { count, payload_bytes }),
        12 => prop::collection::vec(0..12_usize, 1..8).prop_map(|places| Step::Settle { places }),
        16 => Just(Step::Sync),
        5 => Just(Step::Reopen),
        6 => (crash(), prop::option::of(any::<u64>()))
            .prop_map(|(crash, corrupt)| Step::Crash { crash, corrupt }),
        4 => (1..60_u64).prop_map(|calls| Step::CrashSoon { calls }),
        4 => any::<u64>().prop_map(|choice| Step::Corrupt { choice }),
        1 => (0..12_000_u64, prop::option::of(crash()))
            .prop_map(|(space, crash)| Step::Fill { space, crash }),
        3 => (0..4_u64).prop_map(|skip| Step::FailSync { skip }),
    ]
}

fn run(rig: &mut Rig, step: &Step) {
    match step {
        Step::Append { count, payload_bytes } => rig.append(*count, *payload_bytes),
        Step::Settle { places } => rig.settle(places.iter().copied()),
        Step::Sync => rig.sync(),
        Step::Reopen => {
            rig.close();
            rig.heal();
            rig.open();
        }
        Step::Crash { crash, corrupt } => {
            rig.crash(*crash);
            if let Some(choice) = corrupt {
                rig.corrupt(*choice);
            }
            rig.open();
        }
        Step::CrashSoon { calls } => rig.disk.crash_at(*calls),
        Step::Corrupt { choice } => {
            rig.close();
            rig.heal();
            rig.recover(Crash::Kill);
            // A crash on top could take the entry behind, and make damage of a torn tail.
            rig.disk.disarm();
            rig.corrupt(*choice);
            rig.open();
        }
        Step::Fill { space, crash } => fill(rig, *space, *crash),
        Step::FailSync { skip } => rig.fail_sync_soon(*skip),
    }
}

fn fill(rig: &mut Rig, space: u64, crash: Option<Crash>) {
    rig.disk.set_space(Some(rig.disk.used_bytes() + space));
    rig.may_be_full = true;
    rig.oracle.may_forget = true;
    for _ in 0..20 {
        rig.append(2, 500);
        rig.settle([0]);
    }
    if let Some(crash) = crash {
        rig.crash(crash);
        rig.disk.set_space(None);
        rig.open();
    } else {
        rig.disk.set_space(None);
        rig.sync();
    }
}

fn check(seed: u64, steps: &[Step]) {
    let mut rig = Rig::new(seed, tiny(), format!("seed {seed}, {steps:?}"));
    rig.open();
    for step in steps {
        run(&mut rig, step);
        // The machine starts again as soon as anyone notices that it is down.
        if rig.disk.is_down() {
            rig.crash(Crash::ALL[(seed % 3) as usize]);
            rig.open();
        }
    }
    rig.close();
    rig.recover(Crash::Lose);
    rig.disk.disarm();
    rig.heal();
    rig.open();
    rig.exercise();
}

fn shard(n: u32) {
    let config = Config { cases: CASES / SHARDS, failure_persistence: None, ..Config::default() };
    let mut seed = [0x5A; 32];
    seed[..4].copy_from_slice(&n.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let steps = prop::collection::vec(step(), 1..24);
    let outcome =
        TestRunner::new_with_rng(config, rng).run(&(any::<u64>(), steps), |(seed, steps)| {
            check(seed, &steps);
            Ok(())
        });
    if let Err(failure) = outcome {
        panic!("shard {n}: {failure}");
    }
}

#[test]
fn behaves_like_a_map_whatever_the_disk_does() {
    thread::scope(|scope| {
        for n in 0..SHARDS {
            scope.spawn(move || shard(n));
        }
    });
    println!("cases: model {CASES}");
}
