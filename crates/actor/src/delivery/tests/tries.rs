//! What a dead letter says of what was tried: every refusal, and who did not answer.

use alys_stream_testkit::disk::{Call, Disk, Operation};

use super::classes::{Held, Release};
use super::*;

const DEADLINE: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_letter_tells_of_refusals_and_of_who_never_answered() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    life.connect(ONE);
    let deadline = Some(START.saturating_add(DEADLINE));
    life.accept(vec![Message { deadline, ..message(0, 1000, Priority::Normal) }]).await;
    assert_eq!(life.batch(ONE).await, [Seq(1)]);
    let refusal = Refusal::Retry { after: None };
    life.delivery.handle_nack(ONE, Seq(1), refusal, 9, "not now");
    site.clock.pass(Duration::from_secs(60));
    life.delivery.handle_time();
    assert_eq!(life.batch(ONE).await, [Seq(1)], "once more");
    // The stream ends, and nobody is there any more.
    life.delivery.handle_lost(ONE);
    site.clock.pass(DEADLINE);
    life.delivery.handle_time();
    assert_eq!(life.ended(id(0)).await, OutcomeState::TimedOut);

    let letter = life.letters().letters.pop().unwrap().1;
    let attempts: Vec<_> = letter.attempts.iter().map(|a| (a.at, a.code, &*a.text)).collect();
    let lost_at = START.saturating_add(Duration::from_secs(60));
    let expected = [(START, 9, "not now"), (lost_at, 0, "no answer: its stream ended")];
    assert_eq!(attempts, expected);
    assert_eq!(
        letter.error_chain,
        [
            "its deadline passed after it was sent: a peer may have acted on it",
            "gov-0: no answer: its stream ended",
            "gov-0 refused it with code 9: not now",
        ]
    );
    life.stop().await;
}

/// A deadline that passes for many at once does not cost a sync for each.
#[tokio::test]
async fn many_that_die_at_once_wait_for_the_disk_together() {
    const MANY: u64 = 500;
    let mut site = Site::new(1, Bounds::default());
    let (disk, held) = (Disk::new(1), Arc::new(Held::default()));
    site.config.ground.storage = disk.mount();
    let (hold, letters) = (Arc::clone(&held), site.dir.path().join("dead_letters"));
    disk.set_hook(Some(Arc::new(move |call: &Call| {
        if call.path.starts_with(&letters) {
            hold.pass(call.operation);
        }
    })));
    let life = site.start().await;
    let _release = Release(&held);
    let deadline = Some(START.saturating_add(DEADLINE));
    let mortal = (0..MANY).map(|n| Message { deadline, ..message(n, 1000, Priority::Normal) });
    life.accept(mortal.collect()).await;
    held.set(&[Operation::SyncData]);
    site.clock.pass(DEADLINE);
    life.delivery.handle_time();
    // All of them are written down before the first one is on the disk.
    while life.delivery.dead_letters.stat().count < MANY {
        tokio::task::yield_now().await;
    }
    assert_eq!(life.delivery.counts().dead_letters, 0, "and nobody is told before");
    held.set(&[]);
    for n in 0..MANY {
        assert_eq!(life.ended(id(n)).await, OutcomeState::TimedOut);
    }
    life.stop().await;
}
