//! What operators do about dead letters leaves a line, however it ends.

use std::io;

use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_testkit::disk::{Crash, Operation};
use tracing::subscriber::DefaultGuard;

use super::bounds::bury;
use super::classes::{Release, site};
use super::*;
use crate::letters::{LettersError, Replayed};

/// The lines of this test.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn record() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time();
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// The audit lines since the last call.
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let audit = text.lines().filter_map(|line| line.split_once(" alys_stream::audit: "));
        audit.map(|(level, said)| format!("{} {said}", level.trim())).collect()
    }
}

#[tokio::test]
async fn an_action_that_comes_to_its_end_has_its_lines() {
    let (site, _disk, _held) = site();
    let life = site.start().await;
    for number in 0..3 {
        bury(&life, number, 10).await;
    }
    let (lines, _guard) = Lines::record();
    let replayed = life.delivery.replay_letters(&[DeadLetterId(1), DeadLetterId(9)]).await.unwrap();
    assert_eq!(replayed[1], (DeadLetterId(9), Replayed::Missing));
    let said = [
        "INFO dead letter action=\"replay\" dead_letter=1 result=Accepted(Seq(1))",
        "INFO dead letter action=\"replay\" dead_letter=9 result=Missing",
    ];
    assert_eq!(lines.take(), said);
    assert_eq!(life.delivery.purge_letters(&[2, 3, 4].map(DeadLetterId)).await.unwrap(), 2);
    assert_eq!(lines.take(), ["INFO dead letters action=\"purge\" purged=2 dead_letters=\"2-4\""]);
    life.stop().await;
}

/// The messages are accepted again, and then the disk fails, or nobody waits any more.
#[tokio::test]
async fn an_action_that_fails_half_way_says_so_and_what_was_done() {
    for is_dropped in [false, true] {
        let (site, disk, held) = site();
        let mut life = site.start().await;
        let _release = Release(&held);
        for number in 0..2 {
            bury(&life, number, 10).await;
        }
        let (lines, _guard) = Lines::record();
        let ids = [1, 2].map(DeadLetterId);
        held.set(&[Operation::SyncData]);
        let mut replay = Box::pin(life.delivery.replay_letters(&ids));
        assert!(futures::poll!(&mut replay).is_pending());
        assert!(lines.take().is_empty());
        if is_dropped {
            drop(replay);
        } else {
            disk.crash(Crash::Kill);
            held.set(&[]);
            assert!(matches!(replay.await, Err(LettersError::Io(_))));
        }
        let said = lines.take();
        assert_eq!(said.len(), 3, "{said:?}");
        for (line, seq) in said.iter().zip([1, 2]) {
            let end = format!("dead_letter={seq} result=Accepted(Seq({seq}))");
            assert!(line.ends_with(&end), "{line}");
        }
        let failed =
            "WARN dead letters: did not end well action=\"replay\" done=2 dead_letters=\"1-2\"";
        assert!(said[2].starts_with(failed), "{said:?}");
        held.set(&[]);
        life.drivers.shutdown().await;
    }
}

#[tokio::test]
async fn letters_whose_removal_did_not_reach_the_disk_are_named() {
    let (site, disk, _held) = site();
    let mut life = site.start().await;
    bury(&life, 0, 10).await;
    let (lines, _guard) = Lines::record();
    disk.crash(Crash::Kill);
    let purged = life.delivery.purge_letters(&[DeadLetterId(1)]).await;
    assert!(matches!(purged, Err(LettersError::Io(_))), "{purged:?}");
    let said = lines.take();
    let failed = "WARN dead letters: did not end well action=\"purge\" done=1 dead_letters=\"1\"";
    assert!(matches!(&said[..], [line] if line.starts_with(failed)), "{said:?}");
    *life.delivery.ending.lock().await = true;
    assert!(life.delivery.purge_letters(&[DeadLetterId(1)]).await.is_err());
    let said = lines.take();
    assert!(matches!(&said[..], [line] if line.contains("done=0")), "{said:?}");
    life.drivers.shutdown().await;
}
