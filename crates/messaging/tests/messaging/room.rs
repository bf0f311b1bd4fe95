//! A quota that is used up, and a disk that is full: who waits, who is refused, who goes.

use std::sync::Mutex;
use std::time::Duration;

use alys_stream_messaging::dead_letter::{DeadLetter, DeadLetterConfig};
use alys_stream_messaging::{
    Action, AppendCause, BufferConfig, Cause, DeadLetters, Outbox, OutboxConfig, Policy, Route,
    WhenFull,
};
use alys_stream_protocol::message::Priority;
use alys_stream_testkit::disk::{Crash, Disk, Operation};
use tokio::task::JoinSet;

use super::*;

const DIR: &str = "data";

/// Bytes on disk of a message with so large a payload.
const fn stored(payload_bytes: u64) -> u64 {
    (32 + 44 + payload_bytes).next_multiple_of(8)
}

fn of(n: u64, priority: Priority) -> Message {
    Message { priority, ..message(n, 200) }
}

/// Room for eight low messages, and two more of each priority above.
fn bounded(when_full: WhenFull) -> BufferConfig {
    BufferConfig {
        quota_bytes: 14 * stored(200),
        quota_low_bytes: Some(8 * stored(200)),
        quota_normal_bytes: Some(10 * stored(200)),
        quota_high_bytes: Some(12 * stored(200)),
        when_full,
        ..small()
    }
}

#[tokio::test]
async fn what_is_urgent_finds_room_when_the_rest_finds_none() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), bounded(WhenFull::Reject));
    let mut n = 0;
    for (priority, room) in
        [(Priority::Low, 8), (Priority::Normal, 2), (Priority::High, 2), (Priority::Critical, 2)]
    {
        for _ in 0..room {
            n += 1;
            buffer.append_one(NOW, of(n, priority)).unwrap();
        }
        let refused = buffer.append_waiting(NOW, vec![of(99, priority)]).await.unwrap_err();
        assert!(matches!(refused.cause, AppendCause::Full { .. }), "{priority:?}");
        assert_eq!(refused.messages, [of(99, priority)]);
    }
    assert_eq!(buffer.stat().quotas.map(|quota| quota / stored(200)), [8, 10, 12, 14]);
    // A share of a quota, and never less than the largest message takes.
    let config = BufferConfig { quota_bytes: 100 << 20, ..BufferConfig::default() };
    assert_eq!(config.quota_bytes_of(Priority::Low), 70 << 20);
    let config = BufferConfig { quota_bytes: 5 << 20, ..BufferConfig::default() };
    assert!(config.quota_bytes_of(Priority::Low) > 4 << 20);
}

#[tokio::test]
async fn a_sender_waits_for_room_and_is_let_in_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), bounded(WhenFull::Block));
    let first = (1..=8).map(|n| of(n, Priority::Low)).collect();
    assert_eq!(buffer.append_waiting(NOW, first).await.unwrap().len(), 8);
    buffer.durable(Seq(8)).await.unwrap();
    let mut waiting = JoinSet::new();
    for n in 0..3 {
        let sender = buffer.clone();
        waiting.spawn(async move {
            let two = vec![of(100 + 2 * n, Priority::Low), of(101 + 2 * n, Priority::Low)];
            (n, sender.append_waiting(NOW, two).await.unwrap()[0].seq)
        });
        tokio::task::yield_now().await;
    }
    // Urgent ones do not stand behind them.
    let urgent = buffer.append_waiting(NOW, vec![of(50, Priority::Critical)]).await.unwrap();
    assert_eq!(urgent[0].seq, Seq(9));
    // One that gives up has accepted nothing, and lets the others go on.
    let given_up = buffer.append_waiting(NOW, vec![of(60, Priority::Low)]);
    assert!(tokio::time::timeout(Duration::ZERO, given_up).await.is_err());
    assert_eq!((buffer.lookup(&message(60, 0).id), buffer.next_seq()), (None, Seq(10)));
    buffer.settle(&seqs([1, 9]));
    tokio::task::yield_now().await;
    assert_eq!(buffer.next_seq(), Seq(10), "half of two is not accepted");
    let mut order = Vec::new();
    for n in [2, 3, 4] {
        buffer.settle(&seqs([n, n + 1, n + 2]));
        if let Some(done) = waiting.join_next().await {
            order.push(done.unwrap());
        }
    }
    order.sort_by_key(|(_, seq)| *seq);
    assert_eq!(order.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1, 2], "in turn");
}

#[tokio::test]
async fn senders_that_wait_are_bounded_and_told_when_the_log_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = BufferConfig { pending_bytes_max: 12 * stored(200), ..bounded(WhenFull::Block) };
    let (buffer, _) = open(dir.path(), config);
    let mut waiting = JoinSet::new();
    let fill = |n| buffer.append_one(NOW, of(n, Priority::Low));
    for n in 1..=8 {
        until(|| fill(n).is_ok()).await;
    }
    for n in 10..13 {
        let sender = buffer.clone();
        waiting.spawn(async move { sender.append_waiting(NOW, vec![of(n, Priority::Low)]).await });
        tokio::task::yield_now().await;
    }
    let refused = buffer.append_waiting(NOW, vec![of(20, Priority::Low)]).await.unwrap_err();
    assert_eq!(refused.cause, AppendCause::Backlog);
    let urgent = buffer.append_waiting(NOW, vec![of(30, Priority::Critical)]).await;
    assert!(urgent.is_ok(), "another line is not full for that");
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    let sender = buffer.clone();
    waiting.spawn(async move { sender.append_waiting(NOW, vec![of(21, Priority::Low)]).await });
    tokio::task::yield_now().await;
    buffer.settle(&seqs([1, 9]));
    assert!(
        waiting.join_next().await.unwrap().unwrap().is_ok(),
        "what was given up counts no more"
    );
}

#[tokio::test]
async fn the_oldest_low_ones_become_dead_letters_and_nothing_else_is_dropped() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (buffer, _) = open(dirs[0].path(), bounded(WhenFull::DropOldestLow));
    let (letters, _) =
        DeadLetters::open(dirs[1].path(), DeadLetterConfig::default(), Arc::new(FileStorage))
            .unwrap();
    let mut outbox = Outbox::new(OutboxConfig::default());
    buffer.append(NOW, (1..=8).map(|n| of(n, Priority::Low)).collect()).unwrap();
    buffer.append(NOW, (9..=10).map(|n| of(n, Priority::Normal)).collect()).unwrap();
    buffer.append(NOW, (11..=14).map(|n| of(n, Priority::Critical)).collect()).unwrap();
    for meta in buffer.next_durable().await.unwrap() {
        outbox.handle_accepted(NOW, meta, Route { policy: Policy::Any, awaits_answer: false });
    }
    buffer.durable(Seq(14)).await.unwrap();
    let accepted = buffer.append_one(NOW, of(15, Priority::Critical)).unwrap();
    let evicted = buffer.next_evicted().await.unwrap();
    assert_eq!(evicted, [Seq(1)]);
    assert_eq!(buffer.stat().evicted, 1);
    assert!(!buffer.is_settled(Seq(1)), "not before it has its dead letter");
    for seq in evicted {
        outbox.handle_evicted(seq);
        let died = std::iter::from_fn(|| outbox.poll_action())
            .find(|action| !matches!(action, Action::Ready(_)));
        let Some(Action::Dead { seq, cause, .. }) = died else { panic!("{died:?}") };
        assert_eq!((cause.clone(), cause.as_str()), (Cause::Evicted, "evicted"));
        let letter = DeadLetter {
            log: buffer.log_id(),
            seq,
            message: buffer.read(seq).unwrap().unwrap(),
            accepted_at: NOW,
            died_at: NOW,
            cause,
            attempts: Vec::new(),
            error_chain: Vec::new(),
        };
        let (id, position) = letters.put(&letter);
        letters.durable(position).await.unwrap();
        assert_eq!(letters.get(id).unwrap(), Some(letter));
        buffer.settle(&seqs([seq.0]));
    }
    buffer.durable(accepted.seq).await.unwrap();
    // All low ones go in the end, one by one; then the door is shut.
    for n in 0..7 {
        buffer.append_one(NOW, of(20 + n, Priority::Critical)).unwrap();
        let evicted = buffer.next_evicted().await.unwrap();
        assert_eq!(evicted, [Seq(2 + n)]);
        buffer.settle(&evicted.into_iter().collect());
    }
    let refused = buffer.append_one(NOW, of(40, Priority::Critical)).unwrap_err();
    assert!(matches!(refused.cause, AppendCause::Full { .. }));
    assert_eq!(buffer.stat().unsettled.map(|stat| stat.records), [0, 2, 0, 12]);
    buffer.close().await;
    assert_eq!(buffer.next_evicted().await, None);
}

fn reserved() -> BufferConfig {
    BufferConfig { segment_bytes: 32 * 1024, reserve_bytes: 64 * 1024, ..BufferConfig::default() }
}

/// A buffer with a reserve and the next segment prepared, so that tests know how much room there
/// is; and how many messages are in it.
async fn grown(disk: &Disk) -> (Buffer, u64) {
    let (buffer, _) = Buffer::open(Path::new(DIR), reserved(), disk.mount()).unwrap();
    for n in 1..=80 {
        buffer.append_one(NOW, message(n, 700)).unwrap();
        buffer.durable(Seq(n)).await.unwrap();
    }
    until(|| buffer.stat().log.reserve_bytes == 64 * 1024).await;
    let is_segment = |path: &Path| path.extension().is_some_and(|suffix| suffix == "segment");
    let files = || disk.paths().iter().filter(|path| is_segment(path)).count() as u64;
    let mut count = 80;
    // It is asked for once half of the present one is used.
    while files() <= buffer.stat().log.segments {
        count += 1;
        buffer.append_one(NOW, message(500_000 + count, 700)).unwrap();
        buffer.durable(Seq(count)).await.unwrap();
    }
    (buffer, count)
}

/// Appends messages from 1000 on, whose first byte is written once the disk has no space.
fn append_onto_full_disk(disk: &Disk, buffer: &Buffer, count: u64) -> Seq {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let waits = Arc::clone(&gate);
    disk.set_hook(Some(Arc::new(move |call| {
        if call.operation == Operation::Write {
            drop(waits.lock().unwrap());
        }
    })));
    let many = (1000..1000 + count).map(|n| message(n, 700)).collect();
    let last = buffer.append(NOW, many).unwrap().last().unwrap().seq;
    disk.set_space(Some(disk.used_bytes()));
    drop(closed);
    disk.set_hook(None);
    last
}

fn has(disk: &Disk, name: &str) -> bool {
    disk.paths().contains(&Path::new(DIR).join(name))
}

#[tokio::test]
async fn the_reserve_is_given_up_on_a_full_disk_and_held_back_again() {
    let disk = Disk::new(1);
    let (buffer, count) = grown(&disk).await;
    assert!(has(&disk, "reserve") && has(&disk, "emergency"));
    // More than a fresh segment and a prepared one have room for, less than the reserve adds.
    let last = append_onto_full_disk(&disk, &buffer, 80);
    // What was accepted before becomes durable, and so does a settlement behind it.
    let position = buffer.settle(&seqs([80]));
    buffer.position_durable(position).await.unwrap();
    buffer.durable(last).await.unwrap();
    assert!(buffer.stat().log.is_disk_full && !has(&disk, "reserve"));
    let refused = buffer.append_one(NOW, message(5000, 1)).unwrap_err();
    assert_eq!(refused.cause, AppendCause::DiskFull, "while nothing is held back");
    disk.set_space(None);
    until(|| buffer.append_one(NOW, message(5000, 1)).is_ok()).await;
    assert!(has(&disk, "reserve") && buffer.stat().log.reserve_bytes == 64 * 1024);
    buffer.close().await;
    drop(buffer);
    disk.crash(Crash::Lose);
    let (buffer, recovered) = Buffer::open(Path::new(DIR), reserved(), disk.mount()).unwrap();
    assert_eq!((buffer.stat().records(), recovered.gaps.len()), (count - 1 + 80 + 1, 0));
    assert_eq!(buffer.stat().log.reserve_bytes, 64 * 1024, "found again");
}

#[tokio::test]
async fn settling_frees_segments_however_much_is_pending_before_it() {
    let disk = Disk::new(2);
    let (buffer, count) = grown(&disk).await;
    let last = append_onto_full_disk(&disk, &buffer, 400);
    until(|| buffer.stat().log.is_disk_full).await;
    // More is pending than the reserve has room for.
    let position = buffer.settle(&seqs(1..=80));
    // How much of it fits into what that frees depends on when segments were prepared.
    until(|| !has(&disk, "0000000000000001.segment")).await;
    disk.set_space(Some(disk.used_bytes() + 1024 * 1024));
    buffer.durable(last).await.unwrap();
    buffer.position_durable(position).await.unwrap();
    buffer.close().await;
    drop(buffer);
    let (buffer, recovered) = Buffer::open(Path::new(DIR), reserved(), disk.mount()).unwrap();
    assert_eq!((buffer.stat().records(), recovered.gaps.len()), (count - 80 + 400, 0));
    assert_eq!(buffer.read(last).unwrap(), Some(message(1399, 700)));
}

#[tokio::test]
async fn a_full_disk_does_not_keep_a_buffer_from_starting() {
    let disk = Disk::new(3);
    let (grown, count) = grown(&disk).await;
    grown.close().await;
    drop(grown);
    disk.set_space(Some(disk.used_bytes()));
    let (buffer, _) = Buffer::open(Path::new(DIR), reserved(), disk.mount()).unwrap();
    assert_eq!(buffer.stat().records(), count);
    let position = buffer.settle(&seqs(1..=79));
    buffer.position_durable(position).await.unwrap();
    disk.set_space(None);
    until(|| buffer.append_one(NOW, message(500, 700)).is_ok()).await;
}

#[tokio::test]
async fn without_a_reserve_there_are_no_files_of_it_and_another_size_is_made_anew() {
    let disk = Disk::new(4);
    let (grown, _) = grown(&disk).await;
    grown.close().await;
    drop(grown);
    let other = BufferConfig { reserve_bytes: 32 * 1024, ..reserved() };
    let (buffer, _) = Buffer::open(Path::new(DIR), other, disk.mount()).unwrap();
    for n in 100..=200 {
        let seq = buffer.append_one(NOW, message(n, 700)).unwrap().seq;
        buffer.durable(seq).await.unwrap();
    }
    until(|| buffer.stat().log.reserve_bytes == 32 * 1024).await;
    buffer.close().await;
    drop(buffer);
    let none = BufferConfig { reserve_bytes: 0, ..reserved() };
    let (buffer, _) = Buffer::open(Path::new(DIR), none, disk.mount()).unwrap();
    for n in 300..=400 {
        let seq = buffer.append_one(NOW, message(n, 700)).unwrap().seq;
        buffer.durable(seq).await.unwrap();
    }
    buffer.close().await;
    assert!(!has(&disk, "reserve") && !has(&disk, "emergency"));
}
