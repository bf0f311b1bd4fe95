//! The simulated disk keeps what it promises, and nothing more.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alys_stream_messaging::Storage;
use alys_stream_messaging::storage::{LockError, StorageFile};
use alys_stream_testkit::disk::{Crash, Disk, Harm, Operation};

const SEEDS: u64 = 300;

fn dir() -> &'static Path {
    Path::new("/d")
}

/// A file with `bytes` that are synced, under a name that is.
fn stored(disk: &Disk, bytes: &[u8]) -> (Arc<dyn Storage>, Arc<dyn StorageFile>) {
    let mount = disk.mount();
    mount.create_dir_all(dir()).unwrap();
    let file = mount.create(&dir().join("f")).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    mount.sync_dir(dir()).unwrap();
    (mount, file)
}

fn read(disk: &Disk) -> Vec<u8> {
    disk.cached_file(&dir().join("f")).unwrap()
}

#[test]
fn k1_what_was_synced_survives_and_k2_nothing_else_changes() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..SEEDS {
        let disk = Disk::new(seed);
        let (_mount, file) = stored(&disk, &[1; 700]);
        file.write_at(&[2; 1500], 600).unwrap();
        let harm = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&harm);
        disk.set_witness(Some(Arc::new(move |it| {
            assert_eq!(it, Harm::Torn);
            told.fetch_add(1, Ordering::Relaxed);
        })));
        disk.crash(Crash::Tear);
        let found = read(&disk);
        assert!(found.len() >= 700 && found.len() <= 2100, "{}", found.len());
        assert_eq!(found[..600], [1; 600], "bytes that nobody wrote");
        assert!(found[600..700].iter().all(|byte| [1, 2].contains(byte)));
        assert!(found[700..].iter().all(|byte| [0, 2].contains(byte)));
        match found.iter().filter(|byte| **byte == 2).count() {
            0 => lost += 1,
            1500 => kept += 1,
            _ => torn += 1,
        }
        let is_torn = ![0, 1500].contains(&found.iter().filter(|byte| **byte == 2).count());
        assert_eq!(harm.load(Ordering::Relaxed), u64::from(is_torn));
    }
    assert!(kept > 20 && lost > 20 && torn > 20, "{kept} {lost} {torn}");
}

#[test]
fn the_power_fails_in_the_middle_of_a_sync() {
    let disk = Disk::new(7);
    let (mount, file) = stored(&disk, &[1; 4]);
    disk.crash_in_sync(1);
    file.write_at(&[2; 4], 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&[3; 4], 0).unwrap();
    assert!(!disk.is_down());
    file.sync_data().unwrap_err();
    assert!(disk.is_down());
    mount.list(dir()).unwrap_err();
    disk.crash(Crash::Lose);
    assert!(!disk.is_down());
    assert_eq!(read(&disk), [2; 4], "the sync before it is whole");
}

#[test]
fn lose_loses_and_kill_keeps_what_is_not_synced() {
    for (crash, expected) in [(Crash::Lose, vec![1; 10]), (Crash::Kill, vec![1, 1, 7, 7])] {
        let disk = Disk::new(1);
        let (mount, file) = stored(&disk, if crash == Crash::Lose { &[1; 10] } else { &[1; 4] });
        file.write_at(&[7; 2], 2).unwrap();
        mount.rename(&dir().join("f"), &dir().join("g")).unwrap();
        disk.crash(crash);
        let name = if crash == Crash::Lose { "f" } else { "g" };
        assert_eq!(disk.cached_file(&dir().join(name)), Some(expected));
        assert_eq!(disk.paths().len(), 1);
        // What a killed process left in the cache is still lost with the power.
        disk.crash(Crash::Lose);
        assert_eq!(disk.paths(), [dir().join("f")]);
        assert!(read(&disk).iter().all(|byte| *byte == 1));
    }
}

#[test]
fn names_survive_in_part_and_in_any_order() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = Disk::new(seed);
        let (mount, _file) = stored(&disk, b"old");
        mount.create(&dir().join("a")).unwrap();
        mount.rename(&dir().join("a"), &dir().join("b")).unwrap();
        mount.remove(&dir().join("f")).unwrap();
        disk.crash(Crash::Tear);
        let names: Vec<_> =
            disk.paths().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        seen.insert(names);
    }
    assert_eq!(seen.len(), 6, "f or not, with none, a or b: {seen:?}");
}

#[test]
fn k3_a_failed_sync_is_clean_afterwards_and_what_it_should_have_stored_is_lost() {
    let disk = Disk::new(4);
    let (_mount, file) = stored(&disk, &[1; 4]);
    disk.fail_syncs(0, 1);
    file.write_at(&[2; 4096], 0).unwrap();
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(disk.uses_after_failed_sync(), 1);
    assert_eq!(read(&disk), [2; 4096], "still readable");
    let stored = disk.image().remove(&dir().join("f")).unwrap();
    assert_ne!(stored, [2; 4096], "never stored");
    disk.crash(Crash::Kill);
    assert_eq!(read(&disk), [2; 4096], "also to the next process");
    disk.crash(Crash::Lose);
    assert_eq!(read(&disk), stored);
}

#[test]
fn k4_after_a_crash_an_old_mount_is_dead_and_its_lock_is_gone() {
    let disk = Disk::new(0);
    let (mount, file) = stored(&disk, b"x");
    let lock = mount.lock(&dir().join("lock")).unwrap();
    let held = mount.lock(&dir().join("lock")).unwrap_err();
    assert!(matches!(held, LockError::Held { .. }));
    disk.crash(Crash::Kill);
    file.sync_data().unwrap_err();
    mount.list(dir()).unwrap_err();
    let mount = disk.mount();
    let _lock = mount.lock(&dir().join("lock")).unwrap();
    drop(lock);
    mount.lock(&dir().join("lock")).unwrap_err();
}

#[test]
fn k5_the_same_seed_and_calls_give_the_same_bytes() {
    let run = |seed| {
        let disk = Disk::new(seed);
        let (mount, file) = stored(&disk, &[1; 100]);
        for n in 0..20 {
            file.write_at(&[n; 300], u64::from(n) * 250).unwrap();
            mount.create(&dir().join(n.to_string())).unwrap();
        }
        disk.crash(Crash::Tear);
        disk.image()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn it_goes_down_at_the_call_that_was_named() {
    let mut done = 0;
    for seed in 0..SEEDS {
        let disk = Disk::new(seed);
        let (mount, file) = stored(&disk, b"x");
        disk.crash_at(2);
        file.size().unwrap();
        file.write_at(b"yy", 0).unwrap_err();
        assert!(disk.is_down());
        mount.list(dir()).unwrap_err();
        disk.crash(Crash::Kill);
        assert!(!disk.is_down() && disk.calls() == 0);
        done += u64::from(read(&disk) == b"yy");
    }
    assert!((50..250).contains(&done), "the last call has its effect or not: {done}");
}

#[test]
fn what_does_not_fit_is_written_in_part() {
    let disk = Disk::new(0);
    let (mount, file) = stored(&disk, &[1; 10]);
    disk.set_space(Some(15));
    let error = file.write_at(&[2; 10], 8).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(read(&disk), [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
    file.write_at(&[3; 15], 0).unwrap();
    mount.remove(&dir().join("f")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn the_hook_sees_each_call_before_it_happens() {
    let disk = Disk::new(0);
    let (_mount, file) = stored(&disk, b"x");
    let syncs = Arc::new(AtomicU64::new(0));
    let (seen, seeing) = (Arc::clone(&syncs), disk.clone());
    disk.set_hook(Some(Arc::new(move |call| {
        assert_eq!(call.number, seeing.calls());
        if call.operation == Operation::SyncData {
            assert_eq!(seeing.image()[&dir().join("f")], b"x");
            seen.fetch_add(1, Ordering::Relaxed);
        }
    })));
    file.write_at(b"y", 0).unwrap();
    file.sync_data().unwrap();
    disk.set_hook(None);
    assert_eq!((syncs.load(Ordering::Relaxed), read(&disk)), (1, b"y".to_vec()));
}

#[test]
fn a_flipped_bit_stays_flipped_wherever_the_byte_is() {
    for crash in Crash::ALL {
        let disk = Disk::new(2);
        let (_mount, file) = stored(&disk, &[0; 4]);
        file.write_at(&[0; 4], 2).unwrap();
        assert!(disk.flip_bit(&dir().join("f"), 1, 3) && disk.flip_bit(&dir().join("f"), 3, 0));
        assert!(!disk.flip_bit(&dir().join("f"), 6, 0) && !disk.flip_bit(&dir().join("g"), 0, 0));
        disk.crash(crash);
        assert_eq!(read(&disk)[..4], [0, 8, 0, 1], "{crash:?}");
    }
}
