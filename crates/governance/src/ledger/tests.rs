//! What the ledger remembers, and what damage costs.

use super::slot::decode;
use super::*;

fn application(number: u8, seq: u64) -> Application {
    Application {
        id: MessageId::new([number; 16]),
        kind: MessageKind::PEGIN_NOTIFICATION,
        sender: LogId::new([9; 16]),
        seq: Seq(seq),
        received: UnixMillis(1_700_000_000_000),
        digest: [number; 16],
    }
}

fn claim(ledger: &Ledger, application: &Application) -> Standing {
    ledger.claim([application])[0]
}

fn apply(ledger: &Ledger, application: &Application) -> bool {
    ledger.apply([application])[0]
}

fn open(folder: &Path) -> Ledger {
    Ledger::open(folder, Arc::new(FileStorage), 1000, |_| false).unwrap()
}

#[test]
fn the_bytes_of_a_slot_are_fixed() {
    let slot = encode(1, &application(7, 3));
    let expected = "01000000 1e000000 07070707070707070707070707070707 09090909090909090909090909090909 \
                    0300000000000000 0068e5cf8b010000 07070707070707070707070707070707 00000000";
    assert_eq!(hex::encode(&slot[..76]), expected.replace(' ', ""));
    assert_eq!(decode(1, &slot), Some(application(7, 3)));
    assert_eq!(decode(2, &slot), None, "a slot of another file does not verify");
}

#[test]
fn an_id_belongs_to_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let first = application(1, 1);
    assert_eq!(claim(&ledger, &first), Standing::New);
    assert!(apply(&ledger, &first));
    assert!(!apply(&ledger, &first));
    let again = Application { seq: Seq(5), ..first };
    assert_eq!(claim(&ledger, &again), Standing::Duplicate { received: first.received });
    assert!(!apply(&ledger, &again));
    let other = Application { digest: [0; 16], ..again };
    assert_eq!(claim(&ledger, &other), Standing::Conflict);
    assert_eq!(ledger.stat().messages, 1);
    assert_eq!(ledger.stat().by_kind["pegin_notification"], 1);
}

#[test]
fn what_was_written_is_known_after_a_restart_and_offline() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join(FOLDER);
    let ledger = open(&folder);
    let applications: Vec<Application> = (1..=5).map(|n| application(n, u64::from(n))).collect();
    assert!(applications.iter().all(|application| apply(&ledger, application)));
    ledger.write(&applications).unwrap();
    drop(ledger);

    let ledger = open(&folder);
    assert_eq!(ledger.stat().messages, 5);
    assert!(matches!(claim(&ledger, &applications[2]), Standing::Own { is_applied: true, .. }));
    ledger.write(&[application(6, 6)]).unwrap();
    let counts = read_ledger(data.path()).unwrap();
    assert_eq!(counts.len(), 6);
    assert!(counts.iter().all(|(_, count)| *count == 1));
    assert!(read_ledger(Path::new("/nowhere")).is_err());
}

#[test]
fn a_second_application_would_be_seen() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join(FOLDER);
    open(&folder).write(&[application(1, 1), application(1, 2)]).unwrap();
    assert_eq!(open(&folder).stat().twice, 1);
    assert_eq!(read_ledger(data.path()).unwrap(), [(MessageId::new([1; 16]), 2)]);
}

#[test]
fn a_damaged_slot_costs_no_other_one() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).write(&[application(1, 1), application(2, 2), application(3, 3)]).unwrap();
    let path = path(folder.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[SLOT_BYTES + 30] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ledger = open(folder.path());
    assert_eq!(ledger.stat().messages, 2);
    ledger.write(&[application(4, 4)]).unwrap();
    assert_eq!(open(folder.path()).stat().messages, 3);
}

#[test]
fn a_line_that_was_written_again_is_one_application() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join(FOLDER);
    // As after a sync that failed: once in the file that failed, once in the next.
    open(&folder).write(&[application(1, 1), application(1, 1)]).unwrap();
    assert_eq!(open(&folder).stat().twice, 0);
    assert_eq!(open(&folder).stat().messages, 1);
    assert_eq!(read_ledger(data.path()).unwrap(), [(MessageId::new([1; 16]), 1)]);
}

#[test]
fn a_file_that_could_not_be_begun_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    std::fs::write(path(folder.path(), 1), b"left by an attempt that failed").unwrap();
    assert!(ledger.write(&[application(1, 1)]).is_err(), "it is there already");
    ledger.write(&[application(1, 1)]).unwrap();
    assert_eq!(open(folder.path()).stat().messages, 1);
}
