//! What the watcher of a disk notes, over testkit's disk.

use super::*;
use crate::planted::Planted;

const GOV: Machine = Machine(1);
const LINE_BYTES: u64 = 80;

/// A disk that is watched.
struct Fixture {
    disk: Disk,
    witness: Witness,
}

impl Fixture {
    fn new() -> Self {
        let disk = Disk::new(1);
        let (journal, logs, files) = (Journal::new(), Arc::default(), Files::default());
        Self { disk, witness: Witness { who: GOV, journal, logs, files } }
    }

    fn mount(&self) -> Watched {
        let inner = self.disk.mount();
        inner.create_dir_all(Path::new("/ledger")).unwrap();
        Watched::new(inner, self.witness.clone())
    }

    fn crash(&self, crash: Crash) {
        self.disk.crash(crash);
        self.witness.files.crash(crash);
    }

    /// What was noted since the last call, in short.
    fn noted(&self) -> Vec<String> {
        let entries = std::mem::take(&mut *self.witness.journal.entries());
        let short = |fact: &Fact| {
            if let Fact::Applied { lines } = fact {
                format!("applied {}", lines.len())
            } else if let Fact::SyncFailed { .. } = fact {
                "a sync failed".to_owned()
            } else if let Fact::Misused { how, .. } = fact {
                (*how).to_owned()
            } else {
                format!("{fact:?}")
            }
        };
        entries.iter().map(|entry| short(&entry.fact)).collect()
    }
}

fn path() -> &'static Path {
    Path::new("/ledger/applied-00000001.ledger")
}

/// A line of the ledger with this number.
fn line(number: u8) -> Vec<u8> {
    let mut line = vec![number; 76];
    line[0] = 1;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&1_u32.to_le_bytes()), &line);
    line.extend(crc.to_le_bytes());
    line
}

#[test]
fn what_is_written_is_noted_once_it_and_its_name_are_stored() {
    let fixture = Fixture::new();
    let storage = fixture.mount();
    let file = storage.create(path()).unwrap();
    file.write_at(&line(1), 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(fixture.noted(), [""; 0], "its name may be lost");
    storage.sync_dir(Path::new("/ledger")).unwrap();
    assert_eq!(fixture.noted(), ["applied 1"]);
    file.write_at(&line(2), LINE_BYTES).unwrap();
    assert_eq!(fixture.noted(), [""; 0]);
    fixture.crash(Crash::Kill);
    let file = fixture.mount().open(path()).unwrap();
    file.sync_data().unwrap();
    assert_eq!(fixture.noted(), ["applied 1"], "the cache still had it");
    file.write_at(&line(2), LINE_BYTES).unwrap();
    file.sync_data().unwrap();
    assert_eq!(fixture.noted(), [""; 0], "it was known");
}

#[test]
fn what_was_there_before_is_noted_once() {
    let fixture = Fixture::new();
    fixture.disk.store_file(path(), line(1));
    for expected in [&["Found { records: [] }", "applied 1"][..], &[]] {
        fixture.witness.survey(&fixture.disk);
        assert_eq!(fixture.noted(), expected);
    }
}

#[test]
fn a_descriptor_whose_sync_failed_is_not_used_again() {
    let fixture = Fixture::new();
    let storage = fixture.mount();
    let file = storage.create(path()).unwrap();
    file.write_at(&line(1), 0).unwrap();
    fixture.disk.fail_syncs(0, 1);
    assert!(file.sync_data().is_err());
    assert_eq!(fixture.noted(), ["a sync failed"]);
    assert_eq!(fixture.witness.files.doubtful(), BTreeSet::from([(1, 0)]));
    file.write_at(&line(1), 0).unwrap();
    file.sync_data().unwrap();
    let misused = ["written after a failed sync", "synced after a failed sync"];
    assert_eq!(fixture.noted(), misused);
}

#[test]
fn what_a_process_of_before_is_told_is_none_of_the_disks() {
    let fixture = Fixture::new();
    let (old, at_ledger) = (fixture.mount(), Path::new("/ledger"));
    let file = old.create(path()).unwrap();
    old.sync_dir(at_ledger).unwrap();
    fixture.crash(Crash::Kill);
    let next = fixture.mount().open(path()).unwrap();
    next.write_at(&line(1), 0).unwrap();
    assert!(file.write_at(&line(2), LINE_BYTES).is_err() && file.sync_data().is_err());
    assert!(old.sync_dir(at_ledger).is_err());
    next.sync_data().unwrap();
    assert_eq!(fixture.noted(), ["applied 1"]);
    assert_eq!(fixture.witness.files.doubtful(), BTreeSet::new());
}

#[test]
fn what_a_failed_sync_dropped_is_stored_only_when_it_is_written_again() {
    for is_written_again in [false, true] {
        let fixture = Fixture::new();
        let storage = fixture.mount();
        let file = storage.create(path()).unwrap();
        storage.sync_dir(Path::new("/ledger")).unwrap();
        file.write_at(&line(1), 0).unwrap();
        fixture.disk.fail_syncs(0, 1);
        assert!(file.sync_data().is_err());
        fixture.crash(Crash::Kill);
        let file = fixture.mount().open(path()).unwrap();
        let first = if is_written_again { 0 } else { LINE_BYTES };
        let lines = if is_written_again { [line(1), line(2)].concat() } else { line(2) };
        file.write_at(&lines, first).unwrap();
        file.sync_data().unwrap();
        let expected: &[&str] = match is_written_again {
            true => &["a sync failed", "applied 2"],
            false => {
                &["a sync failed", "applied 1", "synced without what a failed sync had dropped"]
            }
        };
        assert_eq!(fixture.noted(), expected);
    }
}

#[test]
fn a_bug_that_tries_a_failed_sync_again_is_seen_below_it() {
    let fixture = Fixture::new();
    let watched = Arc::new(fixture.mount());
    let storage = super::super::Spoilt::new(watched, Planted::RetryFsync, GOV, 1);
    let file = storage.create(path()).unwrap();
    file.write_at(&line(1), 0).unwrap();
    fixture.disk.fail_syncs(0, 1);
    file.sync_data().expect("it passes for stored");
    let dropped = "synced without what a failed sync had dropped";
    assert_eq!(fixture.noted(), ["a sync failed", "synced after a failed sync", dropped]);
}

#[test]
fn what_a_failed_sync_dropped_counts_for_a_file_that_gets_its_name_and_not_for_one_used_again() {
    let misused: &[&str] = &["synced without what a failed sync had dropped"];
    let names = ["/ledger/applied-00000001.ledger.tmp", "/ledger/applied-00000000.ledger"];
    for (name, noted) in names.into_iter().zip([misused, &[]]) {
        let fixture = Fixture::new();
        let storage = fixture.mount();
        let file = storage.create(Path::new(name)).unwrap();
        file.write_at(&line(1), 0).unwrap();
        fixture.disk.fail_syncs(0, 1);
        file.sync_data().unwrap_err();
        let storage = fixture.mount();
        storage.rename(Path::new(name), path()).unwrap();
        fixture.noted();
        storage.open(path()).unwrap().sync_data().unwrap();
        assert_eq!(fixture.noted(), noted, "{name}");
    }
}
