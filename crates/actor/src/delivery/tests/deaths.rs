//! Messages that a crash left with a dead letter and unsettled: they are dead, whoever comes first, a
//! node or a tool that removes the letter (A20).

use std::pin::pin;
use std::sync::mpsc;

use alys_stream_messaging::outcome::OutcomeConfig;
use alys_stream_messaging::{DeadLetter, OpenError, tools};
use alys_stream_testkit::disk::{Crash, Disk, Image, Operation};
use futures::poll;

use super::*;
use crate::StartError;

/// Storage calls at the end of what is cut short; before them the logs are opened, and no more.
const LAST_CALLS: u64 = 40;

impl Site {
    /// Continues on this disk.
    fn mount(&mut self, disk: &Disk) {
        self.config.ground.storage = disk.mount();
    }

    /// What a tool opens without a node.
    fn stores(&self) -> Result<(Buffer, DeadLetters, Outcomes), OpenError> {
        let (dir, storage) = (|name| self.dir.path().join(name), &self.config.ground.storage);
        let (buffer, _) = Buffer::open(&dir("buffer"), self.config.buffer, storage.clone())?;
        let config = self.config.bounds.dead_letters;
        let (store, _) = DeadLetters::open(&dir("dead_letters"), config, storage.clone())?;
        let config = OutcomeConfig::default();
        let (outcomes, _) = Outcomes::open(&dir("outcomes"), config, storage.clone())?;
        Ok((buffer, store, outcomes))
    }

    /// Removes all dead letters as a tool does.
    async fn purge_without_a_node(&self) -> Result<usize, Box<dyn std::error::Error>> {
        let (buffer, store, outcomes) = self.stores()?;
        letters::finish_deaths(&buffer, &store, &outcomes).await?;
        let all: Vec<_> = store.list(None, 10)?.into_iter().map(|(id, _)| id).collect();
        let purged = letters::purge(&buffer, &store, &all).await?;
        outcomes.close().await;
        store.close().await;
        buffer.close().await;
        Ok(purged)
    }

    /// Nobody is sent the message, there is no letter of it, and it is known how it ended.
    async fn assert_dead(&self, case: &str) {
        let life = self.start().await;
        let stat = life.delivery.dead_letters.stat();
        assert_eq!((stat.count, life.delivery.buffer.stat().records()), (0, 0), "{case}");
        life.connect(ONE);
        let budget = Budget::new(64, 1 << 20);
        assert_eq!(life.delivery.poll_batch(ONE, budget), [], "{case}");
        let mut follow = life.delivery.follow(id(0)).unwrap();
        let outcome = follow.finished_outcome().await.unwrap();
        assert_eq!(outcome.state(), OutcomeState::Failed, "{case}");
        assert_eq!(outcome.reason, "refused with code 7: never", "{case}");
        life.stop().await;
    }
}

/// What a crash between a dead letter and the settlement of its message leaves.
async fn half_dead(site: &mut Site) -> Image {
    let disk = Disk::new(1);
    site.mount(&disk);
    let life = site.start().await;
    life.accept(messages(0..1)).await;
    let (_, position) = life.delivery.dead_letters.put(&DeadLetter {
        log: life.delivery.buffer.log_id(),
        seq: Seq(1),
        message: messages(0..1).remove(0),
        accepted_at: START,
        died_at: START,
        cause: Cause::Refused { code: 7, text: "never".into() },
        attempts: Vec::new(),
        error_chain: Vec::new(),
    });
    life.delivery.dead_letters.durable(position).await.unwrap();
    life.stop().await;
    disk.image()
}

/// Holds back what is written below a folder, until what it returns is dropped.
fn hold(disk: &Disk, folder: &'static str) -> mpsc::Sender<()> {
    let (held, free) = mpsc::channel::<()>();
    let free = Mutex::new(free);
    disk.set_hook(Some(Arc::new(move |call| {
        let is_write = matches!(call.operation, Operation::Write | Operation::SyncData);
        if is_write && call.path.iter().any(|name| name == folder) {
            free.lock().unwrap().recv().unwrap_err();
        }
    })));
    held
}

/// Does `begin` on such a disk and crashes at each of its last storage calls, in every way; then
/// removes the letter, if it is there, by a node.
async fn at_every_call(begin: impl AsyncFn(&Site) -> bool) {
    let mut site = Site::new(1, Bounds::default());
    site.config.buffer.segment_bytes = 16 * 1024;
    site.config.buffer.reserve_bytes = 0;
    site.config.bounds.dead_letters.segment_bytes = 16 * 1024;
    let image = half_dead(&mut site).await;
    let disk = Disk::from_image(1, &image);
    site.mount(&disk);
    assert!(begin(&site).await);
    let first = disk.calls() - LAST_CALLS;
    for crash in Crash::ALL {
        for call in first.. {
            let disk = Disk::from_image(call, &image);
            site.mount(&disk);
            disk.crash_at(call);
            let is_done = begin(&site).await;
            let is_over = !disk.is_down();
            assert!(is_done || !is_over, "{crash:?} at call {call}");
            disk.disarm();
            disk.crash(crash);
            site.mount(&disk);
            purge_by_the_node(&site).await;
            site.assert_dead(&format!("{crash:?} at call {call}")).await;
            if is_over {
                break;
            }
        }
    }
}

async fn start(site: &Site) -> Result<(), StartError> {
    let delivery = Delivery::open(&site.config, site.surroundings())?.resume().await?;
    delivery.close().await;
    Ok(())
}

async fn purge_by_the_node(site: &Site) {
    let life = site.start().await;
    let all: Vec<_> = life.letters().letters.into_iter().map(|(id, _)| id).collect();
    life.delivery.purge_letters(&all).await.unwrap();
    life.stop().await;
}

#[tokio::test]
async fn a_letter_that_a_tool_removes_leaves_its_message_dead() {
    let mut site = Site::new(1, Bounds::default());
    half_dead(&mut site).await;
    assert_eq!(site.purge_without_a_node().await.unwrap(), 1);
    site.assert_dead("purged").await;
}

#[tokio::test]
async fn an_end_is_settled_once_its_outcome_is_stored_and_finished_once_both_are() {
    let mut site = Site::new(1, Bounds::default());
    let disk = Disk::from_image(1, &half_dead(&mut site).await);
    site.mount(&disk);
    let (buffer, store, outcomes) = site.stores().unwrap();
    let held = hold(&disk, "outcomes");
    let mut finishing = pin!(letters::finish_deaths(&buffer, &store, &outcomes));
    assert!(poll!(finishing.as_mut()).is_pending());
    assert!(outcomes.get(&id(0)).unwrap().is_some(), "it is on its way to the disk");
    assert!(buffer.is_live(Seq(1)), "the outcome is not stored yet");
    let next = hold(&disk, "buffer");
    drop(held);
    while buffer.is_live(Seq(1)) {
        assert!(poll!(finishing.as_mut()).is_pending(), "the settlement is not stored yet");
        tokio::task::yield_now().await;
    }
    drop(next);
    assert_eq!(finishing.await.unwrap().iter().collect::<Vec<_>>(), [Seq(1)]);
}

#[tokio::test]
async fn a_start_that_is_cut_short_at_any_call_forgets_no_death() {
    at_every_call(async |site| start(site).await.is_ok()).await;
}

#[tokio::test]
async fn a_tool_that_is_cut_short_at_any_call_forgets_no_death() {
    at_every_call(async |site| site.purge_without_a_node().await.is_ok()).await;
}

/// On a full disk a node starts, and can be seen into; its dead letters wait.
#[tokio::test]
async fn a_start_does_not_wait_for_the_settlement_and_letters_do() {
    let mut site = Site::new(1, Bounds::default());
    let disk = Disk::from_image(1, &half_dead(&mut site).await);
    site.mount(&disk);
    let opened = Delivery::open(&site.config, site.surroundings()).unwrap();
    let held = hold(&disk, "buffer");
    let delivery = opened.resume().await.unwrap();
    let mut drivers = delivery.drivers();
    assert!(!delivery.buffer.is_live(Seq(1)), "it is not sent");
    let letters = [delivery.dead_letters.letter_of(delivery.buffer.log_id(), Seq(1)).unwrap()];
    let mut purging = Box::pin(delivery.purge_letters(&letters));
    for _ in 0..100 {
        assert!(poll!(purging.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(held);
    assert_eq!(purging.await.unwrap(), 1);
    drivers.shutdown().await;
    delivery.close().await;
    site.assert_dead("purged").await;
}

/// A log that is adopted keeps numbers and ids, and gets another id of its own.
#[tokio::test]
async fn who_is_half_dead_in_a_log_that_is_adopted_stays_dead() {
    let mut site = Site::new(1, Bounds::default());
    half_dead(&mut site).await;
    let buffer = site.dir.path().join("buffer");
    let adopted = tools::adopt(&buffer, &*site.config.ground.storage).unwrap();
    assert_ne!(adopted.former, adopted.log_id);
    let life = site.start().await;
    assert_eq!(life.ended(id(0)).await, OutcomeState::Failed);
    assert_eq!((life.delivery.buffer.stat().records(), life.letters().letters.len()), (0, 1));
    life.stop().await;
}
