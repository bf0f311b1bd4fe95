//! Who waits, who is refused and who goes when there is no room, through the whole of the node: a
//! quota that is used up, a disk that is slower than the senders, and one that is full (D5, D7, D11).

use alys_stream_messaging::buffer::{AppendCause, WhenFull};
use alys_stream_protocol::limits::MESSAGE_BYTES_MAX;
use alys_stream_testkit::disk::{Disk, Operation};
use futures::poll;

use super::classes::{Release, site};
use super::*;

/// Messages of one call that weighs 32 MiB.
const HEAVY: u64 = 8;

/// Eight low messages of 200 bytes, and a little more for what is urgent.
fn narrow(when_full: WhenFull) -> BufferConfig {
    BufferConfig {
        quota_bytes: 12 * 280,
        quota_low_bytes: Some(8 * 280),
        quota_normal_bytes: Some(8 * 280),
        quota_high_bytes: Some(8 * 280),
        when_full,
        ..BufferConfig::default()
    }
}

fn low(number: u64) -> Message {
    Message { payload: vec![7; 200].into(), ..message(number, 1000, Priority::Low) }
}

fn critical(number: u64) -> Message {
    Message { priority: Priority::Critical, ..low(number) }
}

fn heavy(first: u64) -> Vec<Message> {
    let payload = Bytes::from(vec![7; MESSAGE_BYTES_MAX]);
    (first..first + HEAVY).map(|n| Message { payload: payload.clone(), ..low(n) }).collect()
}

async fn refused(life: &Life, message: Message) -> AppendCause {
    match life.delivery.accept(vec![message]).await {
        Err(SendError::Backpressure { cause, messages }) => {
            assert_eq!(messages.len(), 1, "it is given back");
            cause
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_urgent_is_accepted_while_the_rest_waits_for_room() {
    let mut site = Site::new(1, Bounds::default());
    site.config.buffer = narrow(WhenFull::Block);
    let life = site.start().await;
    let first = life.accept((0..8).map(low).collect()).await;
    // However much of it there is, and however it is divided.
    let mut waiting = vec![Box::pin(life.delivery.accept(heavy(100)))];
    assert!(poll!(&mut waiting[0]).is_pending());
    for number in 10..30 {
        let mut sender = Box::pin(life.delivery.accept(vec![low(number)]));
        match poll!(&mut sender) {
            std::task::Poll::Pending => waiting.push(sender),
            // The line is as long as it may be.
            std::task::Poll::Ready(Err(SendError::Backpressure { cause, .. })) => {
                assert_eq!(cause, AppendCause::Backlog);
            }
            std::task::Poll::Ready(other) => panic!("{other:?}"),
        }
    }
    let urgent = life.accept(vec![critical(50)]).await;
    assert_eq!(urgent[0].seq, Seq(9), "before everything that waits");

    // Those that give up let the others go on, which are let in as soon as there is room.
    drop(waiting);
    let mut patient = Box::pin(life.delivery.accept(vec![low(60)]));
    assert!(poll!(&mut patient).is_pending());
    life.connect(ONE);
    let seqs = life.drain(ONE, 9).await;
    assert_eq!(seqs[0], Seq(9));
    assert_eq!(patient.await.unwrap()[0].seq, Seq(10));
    assert_eq!(life.ended(first[0].id).await, OutcomeState::Complete);
    life.stop().await;
}

#[tokio::test]
async fn the_oldest_low_ones_become_dead_letters_for_what_is_urgent() {
    let mut site = Site::new(1, Bounds::default());
    site.config.buffer = narrow(WhenFull::DropOldestLow);
    let life = site.start().await;
    let lows = life.accept((0..8).map(low).collect()).await;
    for number in 20..24 {
        life.accept(vec![critical(number)]).await;
    }
    assert!(life.letters().letters.is_empty(), "there was room for these");
    let urgent = life.accept(vec![critical(24)]).await;
    assert_eq!(life.ended(lows[0].id).await, OutcomeState::Failed);
    let letters = life.letters().letters;
    assert_eq!(letters.len(), 1, "one goes for one");
    assert_eq!((letters[0].1.seq, letters[0].1.cause.as_str()), (lows[0].seq, "evicted"));
    assert!(life.metric("alys_stream_dead_letters_total{cause=\"evicted\"} 1"));

    // All the others arrive.
    life.connect(ONE);
    let mut seen = life.drain(ONE, 12).await;
    seen.sort_unstable();
    assert_eq!(seen, (2..=urgent[0].seq.0).map(Seq).collect::<Vec<_>>());
    life.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_at_once_however_much_waits_for_it() {
    let mut site = Site::new(1, Bounds::default());
    site.config.buffer.reserve_bytes = 0;
    let disk = Disk::new(1);
    site.config.ground.storage = disk.mount();
    let life = site.start().await;
    life.accept(vec![low(0)]).await;
    disk.set_space(Some(disk.used_bytes()));
    // They were accepted by the log before anybody knew: they wait for space.
    let mut early = Box::pin(life.delivery.accept(heavy(100)));
    while !life.delivery.buffer.stat().log.is_disk_full {
        assert!(poll!(&mut early).is_pending());
        tokio::task::yield_now().await;
    }
    for number in 10..20 {
        assert_eq!(refused(&life, low(number)).await, AppendCause::DiskFull);
        assert_eq!(refused(&life, critical(number)).await, AppendCause::DiskFull);
    }
    disk.set_space(None);
    assert_eq!(early.await.unwrap().len(), usize::try_from(HEAVY).unwrap());
    let mut later = life.delivery.accept(vec![low(10)]).await;
    while matches!(later, Err(SendError::Backpressure { cause: AppendCause::DiskFull, .. })) {
        later = life.delivery.accept(vec![low(10)]).await;
    }
    assert_eq!(later.unwrap()[0].seq, Seq(2 + HEAVY), "by itself");
    life.stop().await;
}

/// A disk that is slower than its senders lets them wait; one that turns out to be full does not.
#[tokio::test]
async fn whoever_waits_for_the_disk_is_told_when_it_is_full() {
    for becomes_full in [false, true] {
        let (mut site, disk, held) = site();
        site.config.buffer.reserve_bytes = 0;
        site.config.buffer.pending_bytes_max = 5 << 20;
        let life = site.start().await;
        let _release = Release(&held);
        held.set(&[Operation::Write]);
        let mut early = Box::pin(life.delivery.accept(heavy(100)));
        assert!(poll!(&mut early).is_pending());
        let mut second = Box::pin(life.delivery.accept(heavy(200)));
        let mut third = Box::pin(life.delivery.accept(heavy(300)));
        // The writer holds the first; the second waits to be written, the third for that.
        while life.delivery.buffer.stat().log.pending_bytes == 0 {
            assert!(poll!(&mut second).is_pending());
            tokio::task::yield_now().await;
        }
        assert!(poll!(&mut third).is_pending());
        if becomes_full {
            disk.set_space(Some(disk.used_bytes()));
        }
        held.set(&[]);
        if becomes_full {
            let third = third.await;
            let is_full = |it: &SendError| {
                matches!(it, SendError::Backpressure { cause: AppendCause::DiskFull, .. })
            };
            assert!(third.as_ref().is_err_and(is_full), "{third:?}");
            disk.set_space(None);
        } else {
            assert_eq!(third.await.unwrap().len(), usize::try_from(HEAVY).unwrap());
        }
        assert_eq!(early.await.unwrap().len(), usize::try_from(HEAVY).unwrap());
        assert_eq!(second.await.unwrap().len(), usize::try_from(HEAVY).unwrap());
        life.stop().await;
    }
}
