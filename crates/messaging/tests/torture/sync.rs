//! Syncs that fail (D11): once, and nobody notices; twice, and everybody is told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use alys_stream_messaging::{AppendCause, Buffer};
use alys_stream_testkit::disk::{Crash, Disk, Operation};

use super::crash::script;
use super::rig::Rig;
use super::*;

/// Runs the script with one failing sync, loses the power, and checks.
fn check(case: String, arm: impl Fn(&Rig)) {
    let mut rig = Rig::new(7, tiny(), case);
    arm(&rig);
    if rig.try_open() {
        rig.close();
        rig.heal();
    } else {
        // A node that cannot open its log ends; the fault does not outlive it.
        rig.crash(Crash::Kill);
    }
    script(&mut rig);
    assert_eq!(
        rig.disk.uses_after_failed_sync(),
        0,
        "M4: a file was used after its sync failed; {}",
        rig.oracle.case
    );
    rig.crash(Crash::Lose);
    rig.open();
    rig.exercise();
}

/// More than the syncs of the script below.
const SYNCS: u64 = 40;

#[test]
fn one_failed_sync_loses_nothing_wherever_it_is() {
    let cases = for_each(SYNCS, |n| {
        let mut rig = Rig::new(n, tiny(), format!("sync {n} fails"));
        rig.open();
        rig.disk.fail_syncs(n, 1);
        for round in 0..20 {
            rig.append(3, 200);
            if round % 4 == 3 {
                rig.settle(0..6);
            }
            rig.sync();
        }
        assert_eq!(rig.disk.uses_after_failed_sync(), 0, "M4, sync {n}");
        rig.close();
        rig.crash(Crash::Lose);
        rig.open();
        rig.exercise();
    });
    for n in 0..3 {
        check(format!("sync {n} of the first open fails"), |rig| {
            rig.disk.fail_syncs(n, 1);
        });
        check(format!("directory sync {n} of the first open fails"), |rig| {
            rig.disk.fail_dir_syncs(n, 1);
        });
    }
    println!("cases: one-failed-sync {}", cases + 6);
}

/// Storage calls between a failed sync and the one that stores the same elsewhere, and some.
const CALLS: u64 = 10;

/// A process that is killed after a sync failed leaves entries in the cache that were never stored
/// and count as clean; the next one shows them, so it has to store them.
#[test]
fn what_is_found_after_a_failed_sync_and_a_kill_outlives_the_power() {
    let cases = for_each(SYNCS * CALLS, |n| {
        let (sync, calls) = (n / CALLS, n % CALLS);
        let case = format!("sync {sync} fails, the process is killed {calls} calls later");
        let mut rig = Rig::new(n, tiny(), case);
        rig.open();
        rig.disk.fail_syncs(sync, 1);
        let (disk, syncs) = (rig.disk.clone(), AtomicU64::new(0));
        rig.disk.set_hook(Some(Arc::new(move |call| {
            let is_sync = call.operation == Operation::SyncData;
            if is_sync && syncs.fetch_add(1, Ordering::SeqCst) == sync {
                disk.crash_at(2 + calls);
            }
        })));
        for round in 0..12 {
            rig.append(3, 200);
            if round % 4 == 3 {
                rig.settle(0..6);
            }
            rig.sync();
        }
        rig.disk.set_hook(None);
        rig.crash(Crash::Kill);
        rig.open();
        rig.crash(Crash::Lose);
        rig.open();
        rig.exercise();
        assert_eq!(rig.disk.uses_after_failed_sync(), 0, "M4, sync {sync}");
    });
    println!("cases: failed-sync-and-kill {cases}");
}

/// Power that fails after a failed sync leaves parts of a segment that was written again elsewhere:
/// without its header and its first entries, perhaps. Nothing of it may be taken for what was written
/// instead, not even once everything older and the segment that replaces it are gone.
#[test]
fn what_is_left_of_a_failed_sync_is_never_read_again() {
    let left = AtomicU64::new(0);
    let cases = for_each(60 * CALLS, |n| {
        let mut rig = Rig::new(n, tiny(), format!("failed sync, torn, case {n}"));
        rig.open();
        rig.append(5, 700);
        rig.sync();
        let (disk, calls) = (rig.disk.clone(), n % CALLS);
        let segment = |number| Path::new(DIR).join(format!("{number:016x}.segment"));
        let (second, armed) = (segment(2), AtomicBool::new(true));
        rig.disk.set_hook(Some(Arc::new(move |call| {
            // It is known by the name that it was prepared under.
            let is_first_sync = call.operation == Operation::SyncData
                && call.path.file_stem() == second.file_name();
            let has_entries =
                || disk.cached_file(&second).is_some_and(|it| it.starts_with(b"ALYS"));
            if is_first_sync && has_entries() && armed.swap(false, Ordering::SeqCst) {
                disk.fail_syncs(0, 1);
                disk.crash_at(2 + calls);
            }
        })));
        // Until it is prepared the first segment would grow instead.
        let disk = rig.disk.clone();
        let is_prepared = || disk.cached_file(&segment(2)).is_some_and(|it| it.len() >= 8192);
        for _ in 0..10_000 {
            if is_prepared() {
                break;
            }
            thread::yield_now();
        }
        rig.append(4, 830);
        rig.append(2, 150);
        rig.try_sync().ok();
        rig.close();
        rig.disk.set_hook(None);
        rig.crash(Crash::Tear);
        rig.heal();
        let is_left = rig.disk.cached_file(&segment(2)).is_some_and(|it| !it.starts_with(b"ALYS"));
        left.fetch_add(u64::from(is_left), Ordering::SeqCst);
        rig.open();
        rig.settle(0..5);
        rig.append(3, 2000);
        rig.append(3, 2000);
        rig.sync();
        for _ in 0..10_000 {
            if !rig.disk.paths().contains(&segment(1)) {
                break;
            }
            thread::yield_now();
        }
        rig.close();
        rig.open();
        rig.exercise();
    });
    println!("cases: left-of-failed-sync {cases}, {} without a header", left.into_inner());
}

#[test]
fn the_second_failure_is_told_to_everyone_and_costs_nothing_confirmed() {
    for crash in Crash::ALL {
        // No segment is prepared and nothing is held back: no other sync comes between.
        let config = BufferConfig { segment_bytes: 256 * 1024, reserve_bytes: 0, ..tiny() };
        let mut rig = Rig::new(3, config, format!("two failures, {crash:?}"));
        rig.open();
        rig.append(5, 100);
        rig.sync();
        // The thread beside the writer has nothing more to sync then.
        let mark = Path::new(DIR).join("mark");
        while !rig.disk.paths().contains(&mark) {
            thread::yield_now();
        }
        rig.disk.fail_syncs(0, 2);
        rig.append(5, 100);
        rig.try_sync().expect_err("they wait for what never comes");
        let buffer = rig.buffer.as_ref().unwrap();
        let refused = buffer.append_one(NOW, message(999, 1)).unwrap_err();
        assert_eq!(refused.cause, AppendCause::Poisoned);
        assert!(!refused.cause.is_backpressure());
        assert_eq!(rig.disk.uses_after_failed_sync(), 0);
        rig.crash(crash);
        rig.open();
        rig.exercise();
    }
}

/// D12: whichever sync fails while a log is opened, and whenever it is opened again, it is known where
/// the opening before ended.
#[tokio::test]
async fn a_sync_that_fails_while_a_log_is_opened_hides_no_opening() {
    let (mut refused, mut opened) = (0, 0);
    for skip in 0..24 {
        let disk = Disk::new(skip);
        let open = || Buffer::open(Path::new(DIR), tiny(), disk.mount());
        let (buffer, _) = open().unwrap();
        let seen = buffer.opening();
        for n in 1..=5 {
            buffer.append_one(NOW, message(n, 40)).unwrap();
        }
        buffer.durable(Seq(5)).await.unwrap();
        buffer.close().await;
        drop(buffer);
        disk.fail_syncs(skip, 1);
        if let Ok((buffer, _)) = open() {
            opened += 1;
            if buffer.append_one(NOW, message(6, 40)).is_ok() {
                // Whether it is durable or not is no matter here.
                drop(buffer.durable(Seq(6)).await);
            }
            buffer.close().await;
        } else {
            refused += 1;
        }
        disk.crash(Crash::Lose);
        let (buffer, _) = open().unwrap();
        assert!(buffer.is_contradicted_by(seen, Seq(6)), "sync {skip}: 6 came in a later opening");
        assert!(!buffer.is_contradicted_by(seen, Seq(5)), "sync {skip}");
        buffer.close().await;
    }
    println!(
        "cases: failed-sync-while-opening {} ({refused} refused, {opened} opened)",
        refused + opened
    );
    assert!(refused > 0 && opened > 0);
}
