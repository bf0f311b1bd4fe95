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
    Ledger::open(Path::new(FOLDER), disk.mount(), 1000).unwrap()
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
