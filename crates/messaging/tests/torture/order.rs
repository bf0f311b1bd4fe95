//! What is left of messages that were received together when the power fails before they are durable:
//! a beginning of them, without a hole (M41, D4).

use std::path::Path;

use alys_stream_messaging::inbox::{InboxConfig, InboxRecord, Received};
use alys_stream_messaging::{Inbox, OpenError};
use alys_stream_protocol::message::LogId;
use alys_stream_testkit::disk::{Crash, Disk};

use super::*;

const SENDER: LogId = LogId::new([7; 16]);

/// Received and durable before the power fails.
const BEFORE: u64 = 3;
const ALL: u64 = 40;

fn try_open(disk: &Disk) -> Result<(Inbox, Vec<u64>), OpenError> {
    let config = InboxConfig { segment_bytes: 64 * 1024, ..InboxConfig::default() };
    let (inbox, unhandled) = Inbox::open(Path::new(DIR), config, disk.mount())?;
    Ok((inbox, numbers(&unhandled)))
}

fn open(disk: &Disk) -> (Inbox, Vec<u64>) {
    try_open(disk).unwrap()
}

fn numbers(received: &[Received]) -> Vec<u64> {
    received.iter().map(|it| it.seq.0).collect()
}

fn records(seqs: std::ops::RangeInclusive<u64>) -> Vec<InboxRecord> {
    let payload_bytes = |n: u64| 40 + n as usize * 53 % 700;
    seqs.map(|n| InboxRecord { seq: Seq(n), message: message(n, payload_bytes(n)) }).collect()
}

/// Loses power in the sync of a write, and perhaps lets a sync of the next start fail; says whether
/// something behind a hole was cut off, and whether a start failed.
async fn check(seed: u64) -> (bool, bool) {
    let disk = Disk::new(seed);
    let (inbox, _) = open(&disk);
    let receipt = inbox.receive(SENDER, records(1..=BEFORE));
    inbox.durable(receipt.position).await.unwrap();
    disk.crash_in_sync(0);
    let receipt = inbox.receive(SENDER, records(1..=ALL));
    inbox.durable(receipt.position).await.unwrap_err();
    disk.crash(Crash::Tear);
    drop(inbox);

    disk.fail_syncs(seed / 2 % 4, seed % 2);
    let first = try_open(&disk);
    let is_failed = first.is_err();
    let (inbox, left) = first.unwrap_or_else(|_| open(&disk));
    let is_cut = inbox.recovery().torn_tail.is_some();
    let count = u64::try_from(left.len()).unwrap();
    assert!(count >= BEFORE, "seed {seed}");
    assert_eq!(left, (1..=count).collect::<Vec<_>>(), "seed {seed}: a hole");
    assert_eq!(inbox.recovery().gaps, [], "seed {seed}: nothing of it was durable");
    // What is missing comes again, and what is left of the first attempt is not found behind it.
    let receipt = inbox.receive(SENDER, records(count + 1..=count + 1));
    inbox.durable(receipt.position).await.unwrap();
    disk.crash(Crash::Lose);
    drop(inbox);
    let (inbox, left) = open(&disk);
    assert_eq!(left, (1..=count + 1).collect::<Vec<_>>(), "seed {seed}: after one more");
    let receipt = inbox.receive(SENDER, records(1..=ALL + 1));
    assert_eq!(numbers(&receipt.fresh), (count + 2..=ALL + 1).collect::<Vec<_>>(), "seed {seed}");
    inbox.durable(receipt.position).await.unwrap();
    inbox.close().await;
    drop(inbox);
    assert_eq!(open(&disk).1, (1..=ALL + 1).collect::<Vec<_>>(), "seed {seed}: at last");
    (is_cut, is_failed)
}

#[test]
fn what_is_left_of_a_write_is_a_beginning_of_it() {
    let (cut, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let cases = for_each(1200, |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (is_cut, is_failed) = runtime.block_on(check(seed));
        cut.fetch_add(u64::from(is_cut), Ordering::Relaxed);
        failed.fetch_add(u64::from(is_failed), Ordering::Relaxed);
    });
    let (cut, failed) = (cut.into_inner(), failed.into_inner());
    println!("cases: torn-inbox {cases} ({cut} cut off at a hole, {failed} at the second start)");
    assert!(cut > 0 && failed > 0);
}
