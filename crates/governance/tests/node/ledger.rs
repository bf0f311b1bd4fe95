//! The ledger on a disk that fails, in a process that is killed.

use std::path::Path;

use alys_stream_governance::ledger::{Application, Ledger, Standing};
use alys_stream_protocol::message::{LogId, MessageId, MessageKind, Seq};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_testkit::disk::{Crash, Disk};

const FOLDER: &str = "/ledger";

fn application(number: u8) -> Application {
    Application {
        id: MessageId::new([number; 16]),
        kind: MessageKind(1000),
        sender: LogId::new([9; 16]),
        seq: Seq(u64::from(number)),
        received: UnixMillis(1_700_000_000_000),
        digest: [number; 16],
    }
}

fn open(disk: &Disk) -> Ledger {
    Ledger::open(Path::new(FOLDER), disk.mount(), 1000, |_| false).unwrap()
}

fn is_applied(ledger: &Ledger, number: u8) -> bool {
    matches!(ledger.claim([&application(number)])[..], [Standing::Own { is_applied: true, .. }])
}

/// G17: whoever opens the ledger lets go of what it finds applied.
#[test]
fn what_opening_finds_outlives_a_power_cut() {
    for begun in [0, 2] {
        let disk = Disk::new(1);
        let ledger = open(&disk);
        ledger.write(&[application(1)]).unwrap();
        disk.fail_syncs(0, 1 + begun);
        ledger.write(&[application(2)]).unwrap_err();
        for _ in 0..begun {
            ledger.write(&[application(2)]).unwrap_err();
        }
        disk.crash(Crash::Kill);

        let ledger = open(&disk);
        assert!(is_applied(&ledger, 1) && is_applied(&ledger, 2), "the cache has it");
        disk.crash(Crash::Lose);
        let ledger = open(&disk);
        assert!(is_applied(&ledger, 1) && is_applied(&ledger, 2), "begun {begun}");
    }
}

#[test]
fn a_file_whose_name_was_not_stored_is_stored_before_it_is_used() {
    let disk = Disk::new(1);
    let ledger = open(&disk);
    disk.fail_dir_syncs(0, 1);
    ledger.write(&[application(1)]).unwrap_err();
    disk.crash(Crash::Kill);

    let ledger = open(&disk);
    ledger.write(&[application(1)]).unwrap();
    disk.crash(Crash::Lose);
    assert!(is_applied(&open(&disk), 1));
}

/// G20: what is left of lines that were written together is a beginning of them, while they are
/// still to be done; what is done stays, and a hole is damage.
#[test]
fn what_is_left_of_lines_that_were_never_durable_is_a_beginning_of_them() {
    let mut cut = 0;
    for seed in 0..30 {
        let disk = Disk::new(seed);
        let ledger = open(&disk);
        ledger.write(&[application(1)]).unwrap();
        disk.crash_in_sync(0);
        let all: Vec<Application> = (2..=60).map(application).collect();
        ledger.write(&all).unwrap_err();
        disk.crash(Crash::Tear);

        let left = |ledger: &Ledger| -> Vec<u8> {
            (1..=60).filter(|number| is_applied(ledger, *number)).collect()
        };
        let there = left(&open(&disk));
        let first_missing = (1..=60).find(|number| !there.contains(number)).unwrap_or(61);
        let is_unhandled = |line: &Application| line.seq >= Seq(2);
        let ledger = Ledger::open(Path::new(FOLDER), disk.mount(), 1000, is_unhandled).unwrap();
        let kept = left(&ledger);
        assert_eq!(kept, (1..first_missing).collect::<Vec<_>>(), "seed {seed}");
        cut += usize::from(kept.len() < there.len());
        let again: Vec<Application> = (first_missing..=60).map(application).collect();
        ledger.write(&again).unwrap();
        disk.crash(Crash::Lose);
        let ledger = open(&disk);
        assert_eq!(left(&ledger), (1..=60).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!((ledger.stat().messages, ledger.stat().twice), (60, 0), "seed {seed}");
    }
    assert!(cut > 0, "no hole in 30 seeds");
}
