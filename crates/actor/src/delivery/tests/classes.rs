//! What accepted means, by durability class (D1): over a disk whose writes and syncs wait for the test.

use std::sync::{Condvar, PoisonError};

use alys_stream_messaging::router::{Durability, KindConfig, RouterConfig};
use alys_stream_testkit::disk::{Call, Crash, Disk, Operation};

use super::*;

/// A kind of the class `os`; others are of the class `fsync`.
const OS: u32 = 1007;

/// What is held back of everything that happens below a directory.
#[derive(Debug, Default)]
pub(super) struct Held {
    operations: Mutex<Vec<Operation>>,
    changed: Condvar,
}

impl Held {
    pub(super) fn set(&self, operations: &[Operation]) {
        *self.operations.lock().unwrap() = operations.to_vec();
        self.changed.notify_all();
    }

    pub(super) fn pass(&self, operation: Operation) {
        let held = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(held, |held| held.contains(&operation)));
    }
}

/// Holds nothing back once it goes: a test that fails ends, too. To be made after what it holds.
pub(super) struct Release<'a>(pub(super) &'a Held);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.set(&[]);
    }
}

/// A node on this disk, whose buffer is held back as the other one says.
pub(super) fn site() -> (Site, Disk, Arc<Held>) {
    let mut site = Site::new(1, Bounds::default());
    let kind = KindConfig { durability: Some(Durability::Os), ..KindConfig::default() };
    let kinds = std::iter::once((OS.to_string(), kind)).collect();
    site.config.router = RouterConfig { kinds };
    let (disk, held) = (Disk::new(1), Arc::new(Held::default()));
    site.config.ground.storage = disk.mount();
    let (hold, buffer) = (Arc::clone(&held), site.dir.path().join("buffer"));
    disk.set_hook(Some(Arc::new(move |call: &Call| {
        if call.path.starts_with(&buffer) {
            hold.pass(call.operation);
        }
    })));
    (site, disk, held)
}

#[tokio::test]
async fn os_is_accepted_once_it_is_written_and_waits_for_no_sync() {
    let (site, _disk, held) = site();
    let life = site.start().await;
    let _release = Release(&held);
    held.set(&[Operation::Write, Operation::SyncData]);
    let mut single = Box::pin(life.delivery.accept(vec![message(0, OS, Priority::Normal)]));
    assert!(futures::poll!(&mut single).is_pending(), "nothing is written yet");
    let again = vec![message(0, OS, Priority::Normal)];
    let mut again = Box::pin(life.delivery.accept(again));
    assert!(futures::poll!(&mut again).is_pending(), "nor is it the second time");
    held.set(&[Operation::SyncData]);
    assert_eq!(single.await.unwrap()[0].seq, Seq(1));
    assert!(again.await.unwrap()[0].duplicate);
    // One that has to be synced has all of them wait.
    let both = [(1, OS), (2, 1000)].map(|(number, kind)| message(number, kind, Priority::Normal));
    let mut both = Box::pin(life.delivery.accept(both.into()));
    assert!(futures::poll!(&mut both).is_pending());
    held.set(&[]);
    assert_eq!(both.await.unwrap().len(), 2);
    life.stop().await;
}

#[tokio::test]
async fn what_was_accepted_as_os_outlives_its_process() {
    let (site, disk, held) = site();
    let mut life = site.start().await;
    let _release = Release(&held);
    held.set(&[Operation::SyncData]);
    let accepted = life.delivery.accept(vec![message(0, OS, Priority::Normal)]).await.unwrap();
    disk.crash(Crash::Kill);
    held.set(&[]);
    life.drivers.shutdown().await;
    drop(life);
    let buffer = site.dir.path().join("buffer");
    let (buffer, _) = Buffer::open(&buffer, site.config.buffer, disk.mount()).unwrap();
    let kept = buffer.read(accepted[0].seq).unwrap();
    assert_eq!(kept.map(|kept| kept.id), Some(id(0)));
}

/// Only the newest report of a kind waits for an endpoint, and each endpoint gets it once.
#[tokio::test]
async fn of_the_memory_class_the_newest_replaces_older_ones() {
    let site = Site::new(2, Bounds::default());
    let life = site.start().await;
    let (status, budget) = (MessageKind::STATUS_UPDATE.0, || Budget::new(64, 1 << 20));
    for number in 0..5 {
        let reports = vec![message(number, status, Priority::Low)];
        let accepted = life.delivery.accept(reports).await.unwrap();
        assert!(accepted[0].seq.is_volatile() && !accepted[0].duplicate);
    }
    assert_eq!(life.delivery.volatile_waiting(), 1);
    let taken = |endpoint| {
        let taken = life.delivery.take_volatile(endpoint, &mut budget());
        taken.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    assert_eq!(taken(ONE), [id(4)]);
    assert_eq!(taken(ONE), [], "once");
    life.delivery.accept(vec![message(9, status, Priority::Low)]).await.unwrap();
    assert_eq!((taken(ONE), taken(EndpointId(1))), (vec![id(9)], vec![id(9)]));
    assert_eq!(life.delivery.buffer.next_seq(), Seq(1), "nothing of it is logged");
    life.stop().await;
}
