//! A disk without space (D11): backpressure, settling goes on, and it ends by itself.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_stream_messaging::log::LogStat;
use alys_stream_messaging::{AppendCause, Buffer};
use alys_stream_testkit::disk::{Crash, Disk, Operation};
use tokio::time::timeout;

use super::*;

/// What takes longer hangs: space is looked for every tenth of a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Appends until the buffer refuses; returns how many it took. One waits at a time: more would be
/// accepted than there may ever be space for.
pub(crate) async fn fill(buffer: &Buffer, first: u64) -> u64 {
    let filling = async {
        for n in first.. {
            match buffer.append_one(NOW, message(n, 700)) {
                Ok(_) => {
                    let is_waiting = |stat: LogStat| !stat.is_disk_full && stat.entries < n;
                    while is_waiting(buffer.log_stat()) {
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => {
                    assert_eq!(error.cause, AppendCause::DiskFull);
                    assert!(error.cause.is_backpressure());
                    return n - first;
                }
            }
        }
        unreachable!("numbers do not end");
    };
    timeout(PATIENCE, filling).await.expect("a full disk is backpressure")
}

/// Makes messages durable, 60 at least, until space is held back for a full disk; returns how many.
/// The thread that does so may get no turn for long, and a disk that is full before it did has
/// nothing to give up.
pub(crate) async fn grow(buffer: &Buffer) -> u64 {
    let growing = async {
        for n in 1.. {
            let seq = buffer.append_one(NOW, message(n, 700)).unwrap().seq;
            buffer.durable(seq).await.unwrap();
            if n >= 60 && buffer.log_stat().reserve_bytes > 0 {
                return n;
            }
        }
        unreachable!("numbers do not end");
    };
    timeout(PATIENCE, growing).await.expect("space is held back")
}

/// Waits until the buffer takes a message again, without help.
pub(crate) async fn resumes(buffer: &Buffer, number: u64) -> Seq {
    let trying = async {
        loop {
            match buffer.append_one(NOW, message(number, 100)) {
                Ok(accepted) => return accepted.seq,
                Err(error) => assert_eq!(error.cause, AppendCause::DiskFull),
            }
            tokio::task::yield_now().await;
        }
    };
    let seq = timeout(PATIENCE, trying).await.expect("it resumes by itself");
    timeout(PATIENCE, buffer.durable(seq)).await.unwrap().unwrap();
    seq
}

fn open(disk: &Disk) -> Buffer {
    Buffer::open(Path::new(DIR), tiny(), disk.mount()).unwrap().0
}

#[tokio::test]
async fn when_space_returns_everything_accepted_becomes_durable() {
    for spare in [0, 100, 4096, 9000, 20_000] {
        let disk = Disk::new(spare);
        let buffer = open(&disk);
        let first = resumes(&buffer, 1).await;
        disk.set_space(Some(disk.used_bytes() + spare));
        let taken = fill(&buffer, 2).await;
        disk.set_space(None);
        let last = Seq(first.0 + taken);
        timeout(PATIENCE, buffer.durable(last)).await.unwrap().unwrap();
        let after = resumes(&buffer, 1_000_000).await;
        assert_eq!(after, last.next());
        disk.crash_at(1);
        drop(buffer);
        disk.crash(Crash::Lose);
        let buffer = open(&disk);
        assert_eq!(buffer.next_seq(), after.next());
        assert_eq!(buffer.stat().records(), after.0);
        for n in 2..2 + taken {
            assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 700)));
        }
    }
}

#[tokio::test]
async fn settling_goes_on_without_space_and_makes_some() {
    for spare in [0, 4096, 30_000] {
        let disk = Disk::new(spare);
        let buffer = open(&disk);
        let grown = grow(&buffer).await;
        disk.set_space(Some(disk.used_bytes() + spare));
        let taken = fill(&buffer, grown + 1).await;
        let position = buffer.settle(&seqs(1..=50));
        timeout(PATIENCE, buffer.position_durable(position))
            .await
            .expect("a settlement needs no space that is not there")
            .unwrap();
        // What the settled ones took is free now.
        let last = resumes(&buffer, 1_000_000).await;
        assert_eq!(last, Seq(grown + taken + 1));
        drop(buffer);
        disk.set_space(None);
        disk.crash(Crash::Lose);
        let buffer = open(&disk);
        assert!((1..=50).all(|n| buffer.is_settled(Seq(n))));
        assert_eq!(buffer.stat().records(), grown - 50 + taken + 1);
    }
}

/// The sync that fails may be that of the segment which is to make way on a full disk: what is
/// behind it goes elsewhere, as after any other.
#[tokio::test]
async fn a_failed_sync_of_what_makes_way_ends_nothing() {
    const MANY: u64 = 100;
    let mut failed = 0;
    for spare in [0, 100, 4096, 9000, 20_000] {
        let disk = Disk::new(spare);
        let config = BufferConfig { reserve_bytes: 16 * 1024, ..tiny() };
        let open = || Buffer::open(Path::new(DIR), config, disk.mount()).unwrap().0;
        let buffer = open();
        let grown = grow(&buffer).await;
        let (device, is_way) = (disk.clone(), Arc::new(AtomicBool::new(false)));
        let is_tried = Arc::clone(&is_way);
        let gate = Arc::new(Mutex::new(()));
        let passed = Arc::clone(&gate);
        disk.set_hook(Some(Arc::new(move |call| {
            if call.operation == Operation::Write {
                drop(passed.lock().unwrap());
            }
            // It is known by the name that it was prepared under.
            let is_synced = call.operation == Operation::SyncData;
            if is_synced
                && call.path.ends_with("emergency.tmp")
                && !is_tried.swap(true, Ordering::SeqCst)
            {
                device.fail_syncs(0, 1);
            }
        })));
        // Accepted before anybody knows that there is no space for it.
        let shut = gate.lock().unwrap();
        let many = (1..=MANY).map(|n| message(grown + n, 700)).collect();
        buffer.append(NOW, many).unwrap();
        disk.set_space(Some(disk.used_bytes() + spare));
        drop(shut);
        until_full(&buffer).await;
        let position = buffer.settle(&seqs(1..=50));
        let is_over = async {
            while !is_way.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, is_over).await.expect("the settled ones make way");
        disk.set_space(None);
        timeout(PATIENCE, buffer.position_durable(position)).await.unwrap().unwrap();
        let last = resumes(&buffer, 1_000_000).await;
        assert_eq!(last, Seq(grown + MANY + 1));
        failed += buffer.log_stat().syncs_failed;
        disk.set_hook(None);
        drop(buffer);
        assert_eq!(disk.uses_after_failed_sync(), 0, "M4");
        disk.crash(Crash::Lose);
        let buffer = open();
        assert!((1..=50).all(|n| buffer.is_settled(Seq(n))));
        assert_eq!(buffer.stat().records(), grown - 50 + MANY + 1);
    }
    println!("cases: failed-sync-of-what-makes-way {failed}");
}

/// Waits until the writer found no space for something.
async fn until_full(buffer: &Buffer) {
    let filling = async {
        while !buffer.log_stat().is_disk_full {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, filling).await.expect("there is no space for it");
}
