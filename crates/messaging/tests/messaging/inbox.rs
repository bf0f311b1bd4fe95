//! The inbox: once per sender and seq, across restarts.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_messaging::Inbox;
use alys_stream_messaging::inbox::{Fenced, InboxConfig, InboxId, InboxRecord};
use alys_stream_protocol::message::{Epoch, LogId};
use proptest::prelude::*;

use super::*;

const A: LogId = LogId::new([1; 16]);
const B: LogId = LogId::new([2; 16]);

fn open_inbox(dir: &Path) -> (Inbox, Vec<alys_stream_messaging::inbox::Received>) {
    let config = InboxConfig { segment_bytes: 12 * 1024, ..InboxConfig::default() };
    Inbox::open(dir, config, Arc::new(FileStorage)).unwrap()
}

fn records(seqs: impl IntoIterator<Item = u64>) -> Vec<InboxRecord> {
    seqs.into_iter().map(|n| InboxRecord { seq: Seq(n), message: message(n, 150) }).collect()
}

#[tokio::test]
async fn a_record_is_fresh_once_across_restarts_and_handed_out_until_handled() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, unhandled) = open_inbox(dir.path());
    assert!(unhandled.is_empty());
    inbox.admit(A, Epoch(1), Seq(1)).unwrap();
    let receipt = inbox.receive(A, records([1, 2, 4, 2]));
    assert_eq!((receipt.fresh.len(), receipt.duplicates), (3, 1));
    inbox.durable(receipt.position).await.unwrap();
    inbox.handled(&[receipt.fresh[0].id]);
    assert_eq!(inbox.receive(B, records([1])).fresh.len(), 1, "another log");
    inbox.close().await;
    drop(inbox);

    let (inbox, unhandled) = open_inbox(dir.path());
    let left: Vec<(LogId, u64)> = unhandled.iter().map(|r| (r.sender, r.seq.0)).collect();
    assert_eq!(left, [(A, 2), (A, 4), (B, 1)]);
    assert_eq!(unhandled[0].message, message(2, 150));
    let receipt = inbox.receive(A, records(1..=4));
    assert_eq!(receipt.fresh.iter().map(|r| r.seq.0).collect::<Vec<_>>(), [3]);
    inbox.durable(receipt.position).await.unwrap();
    let cursor = inbox.cursor(A);
    assert_eq!(
        (cursor.received, cursor.highest_seen, cursor.epoch),
        (seqs(1..=4), Seq(4), Epoch(1))
    );
}

#[test]
fn old_epochs_and_rolled_back_logs_are_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open_inbox(dir.path());
    inbox.admit(A, Epoch(5), Seq(1)).unwrap();
    inbox.receive(A, records([7]));
    drop(inbox);
    let (inbox, _) = open_inbox(dir.path());
    assert_eq!(inbox.admit(A, Epoch(4), Seq(9)), Err(Fenced::StaleEpoch { seen: Epoch(5) }));
    assert_eq!(inbox.admit(A, Epoch(6), Seq(7)), Err(Fenced::RolledBack { highest_seen: Seq(7) }));
    assert_eq!(inbox.admit(A, Epoch(5), Seq(8)), Ok(()));
}

#[tokio::test]
async fn only_what_will_never_be_sent_again_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open_inbox(dir.path());
    let receipt = inbox.receive(A, records([1, 2, 3, 5, 6, 9]));
    inbox.durable(receipt.position).await.unwrap();
    inbox.forget(A, Seq(3), &seqs([5, 6]));
    assert_eq!(inbox.cursor(A).received, seqs([3, 9]));
    assert_eq!(inbox.receive(A, records([1, 2, 3, 9])).fresh, []);
    inbox.forget(A, Seq(2), &seqs([]));
    assert_eq!(inbox.cursor(A).settled_below, Seq(3), "never backwards");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_seq_is_fresh_once(steps in prop::collection::vec((0..10_u8, 1..120_u64, 1..20_u64), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut inbox, _) = open_inbox(dir.path());
        let mut seen = BTreeSet::new();
        let mut unhandled: BTreeMap<u64, InboxId> = BTreeMap::new();
        for (action, first, count) in steps {
            match action {
                0..6 => {
                    let receipt = inbox.receive(A, records(first..first + count));
                    for fresh in &receipt.fresh {
                        assert!(seen.insert(fresh.seq.0), "twice");
                        unhandled.insert(fresh.seq.0, fresh.id);
                    }
                    assert_eq!(receipt.fresh.len() as u64 + receipt.duplicates, count);
                }
                6..9 => {
                    let done: Vec<u64> = unhandled.range(first..first + count).map(|(n, _)| *n).collect();
                    let ids: Vec<InboxId> = done.iter().map(|n| unhandled.remove(n).unwrap()).collect();
                    inbox.handled(&ids);
                }
                _ => {
                    drop(inbox);
                    let left;
                    (inbox, left) = open_inbox(dir.path());
                    let left: BTreeMap<u64, InboxId> = left.iter().map(|r| (r.seq.0, r.id)).collect();
                    assert_eq!(&left, &unhandled);
                }
            }
            assert!((1..140).all(|n| inbox.has(A, Seq(n)) == seen.contains(&n)));
            assert_eq!(inbox.unhandled(), unhandled.len());
        }
    }
}
