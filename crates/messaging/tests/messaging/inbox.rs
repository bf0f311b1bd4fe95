//! The inbox: once per sender and seq, across restarts.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_messaging::Inbox;
use alys_stream_messaging::inbox::{Fenced, InboxConfig, InboxId, InboxRecord};
use alys_stream_protocol::message::{Epoch, EpochNonce, Forgotten, LogId, Opening, Settled};
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
    inbox.admit(A, Epoch(1).into(), Seq(1)).unwrap();
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
        (cursor.received, cursor.highest_seen, cursor.admitted),
        (seqs(1..=4), Seq(4), Epoch(1).into())
    );
}

#[test]
fn old_epochs_and_rolled_back_logs_are_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open_inbox(dir.path());
    inbox.admit(A, Epoch(5).into(), Seq(1)).unwrap();
    inbox.receive(A, records([7]));
    drop(inbox);
    let (inbox, _) = open_inbox(dir.path());
    assert_eq!(inbox.admit(A, Epoch(4).into(), Seq(9)), Err(Fenced::StaleEpoch { seen: Epoch(5) }));
    assert_eq!(
        inbox.admit(A, Epoch(6).into(), Seq(7)),
        Err(Fenced::RolledBack { highest_seen: Seq(7) })
    );
    assert_eq!(inbox.admit(A, Epoch(5).into(), Seq(8)), Ok(()));
}

const fn opening(epoch: u64, nonce: u64) -> Opening {
    Opening { epoch: Epoch(epoch), nonce: EpochNonce(nonce) }
}

#[test]
fn two_processes_that_begin_one_epoch_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open_inbox(dir.path());
    inbox.admit(A, Epoch(5).into(), Seq(1)).unwrap();
    // Its nonce becomes known.
    inbox.admit(A, opening(5, 50), Seq(1)).unwrap();
    drop(inbox);
    let (inbox, _) = open_inbox(dir.path());
    let copied = Err(Fenced::Copied { epoch: Epoch(5) });
    assert_eq!(inbox.admit(A, opening(5, 51), Seq(1)), copied);
    assert_eq!(inbox.admit(A, Epoch(5).into(), Seq(1)), Ok(()), "it may not say which it is");
    assert_eq!(inbox.admit(A, opening(5, 51), Seq(1)), copied, "which takes nothing back");
    assert_eq!(inbox.admit(A, opening(5, 50), Seq(1)), Ok(()));
    assert_eq!(inbox.admit(A, opening(6, 1), Seq(1)), Ok(()));
}

/// Whoever is admitted and sends nothing leaves no trace of its history here.
#[tokio::test]
async fn the_opening_that_was_seen_is_that_of_the_latest_record_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut inbox, _) = open_inbox(dir.path());
    for epoch in 1..=3 {
        let begun = opening(epoch, epoch * 10);
        inbox.admit(A, begun, Seq(1_000_000)).unwrap();
        // Enough for several segments, each of which begins with a summary.
        let first = epoch * 1000;
        let receipt = inbox.receive(A, records(first..first + 200));
        inbox.durable(receipt.position).await.unwrap();
        inbox.admit(A, opening(epoch, 0), Seq(1_000_000)).unwrap();
        assert_eq!(inbox.cursor(A).seen, begun);
        inbox.admit(A, opening(epoch + 1, epoch * 10 + 10), Seq(1_000_000)).unwrap();
        assert_eq!(inbox.cursor(A).seen, begun, "nothing came yet");
        inbox.close().await;
        drop(inbox);
        (inbox, _) = open_inbox(dir.path());
        let cursor = inbox.cursor(A);
        let admitted = opening(epoch + 1, epoch * 10 + 10);
        assert_eq!((cursor.seen, cursor.admitted), (begun, admitted));
    }
    assert_eq!(inbox.cursor(A).forgotten, Forgotten::NONE);
    inbox.forget(A, Settled { below: Seq(900_000), count: 899_999 }, &seqs([]));
    assert_eq!(inbox.cursor(A).seen, opening(4, 40), "it was told what is settled");
    let forgotten = Forgotten { opening: opening(4, 40), settled_count: 899_999 };
    assert_eq!(inbox.cursor(A).forgotten, forgotten);
    let receipt = inbox.receive(A, records(900_000..900_200));
    inbox.durable(receipt.position).await.unwrap();
    inbox.forget(A, Settled { below: Seq(900_000), count: 900_000 }, &seqs([]));
    assert_eq!(inbox.cursor(A).forgotten, forgotten, "nothing was forgotten for it");
    inbox.close().await;
    drop(inbox);
    (inbox, _) = open_inbox(dir.path());
    assert_eq!(inbox.cursor(A).forgotten, forgotten);
}

#[tokio::test]
async fn only_what_will_never_be_sent_again_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox, _) = open_inbox(dir.path());
    let receipt = inbox.receive(A, records([1, 2, 3, 5, 6, 9]));
    inbox.durable(receipt.position).await.unwrap();
    inbox.forget(A, Settled::known_below(Seq(3)), &seqs([5, 6]));
    assert_eq!(inbox.cursor(A).received, seqs([3, 9]));
    assert_eq!(inbox.receive(A, records([1, 2, 3, 9])).fresh, []);
    inbox.forget(A, Settled::known_below(Seq(2)), &seqs([]));
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
