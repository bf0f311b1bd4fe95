//! What is left of messages that were received together when the power fails before they are durable:
//! a beginning of them, without a hole (M41, D4).

use std::path::Path;

use alys_stream_messaging::Inbox;
use alys_stream_messaging::inbox::{InboxConfig, InboxRecord, Received};
use alys_stream_protocol::message::LogId;
use alys_stream_testkit::disk::{Crash, Disk};

use super::*;

const SENDER: LogId = LogId::new([7; 16]);

/// Received and durable before the power fails.
const BEFORE: u64 = 3;
const ALL: u64 = 40;

fn open(disk: &Disk) -> (Inbox, Vec<u64>) {
    let config = InboxConfig { segment_bytes: 64 * 1024, ..InboxConfig::default() };
    let (inbox, unhandled) = Inbox::open(Path::new(DIR), config, disk.mount()).unwrap();
    (inbox, numbers(&unhandled))
}

fn numbers(received: &[Received]) -> Vec<u64> {
    received.iter().map(|it| it.seq.0).collect()
}

fn records(seqs: std::ops::RangeInclusive<u64>) -> Vec<InboxRecord> {
    let payload_bytes = |n: u64| 40 + n as usize * 53 % 700;
    seqs.map(|n| InboxRecord { seq: Seq(n), message: message(n, payload_bytes(n)) }).collect()
}

/// Loses power in the sync of a write; says whether something behind a hole was cut off.
async fn check(seed: u64) -> bool {
    let disk = Disk::new(seed);
    let (inbox, _) = open(&disk);
    let receipt = inbox.receive(SENDER, records(1..=BEFORE));
    inbox.durable(receipt.position).await.unwrap();
    disk.crash_in_sync(0);
    let receipt = inbox.receive(SENDER, records(1..=ALL));
    inbox.durable(receipt.position).await.unwrap_err();
    disk.crash(Crash::Tear);
    drop(inbox);

    let (inbox, left) = open(&disk);
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
    is_cut
}

#[test]
fn what_is_left_of_a_write_is_a_beginning_of_it() {
    let cut = AtomicU64::new(0);
    let cases = for_each(600, |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        cut.fetch_add(u64::from(runtime.block_on(check(seed))), Ordering::Relaxed);
    });
    let cut = cut.into_inner();
    println!("cases: torn-inbox {cases} ({cut} cut off at a hole)");
    assert!(cut > 0);
}
