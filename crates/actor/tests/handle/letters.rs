//! `dead_letters`, `replay_dead_letters`, `purge_dead_letters`.

use std::cell::Cell;
use std::time::Duration;

use alys_stream_actor::StreamHandle;
use alys_stream_actor::letters::{LetterFilter, PageBounds, Replayed};
use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_protocol::message::{Message, MessageId};
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::{SystemClock, WallClock as _};

use crate::polled::{at_each_poll, polled};
use crate::rig::{Rig, letters, message, next_seq};

/// A message whose deadline passes, since nobody is at the other end; its dead letter.
async fn dead(handle: &StreamHandle) -> (MessageId, DeadLetterId) {
    let deadline = Some(SystemClock.now().saturating_add(Duration::from_millis(1)));
    let accepted = handle.send(Message { deadline, ..message(10) }).await.unwrap();
    let mut follow = handle.follow(accepted.id).await.unwrap().unwrap();
    assert_eq!(follow.finished_outcome().await.unwrap().state(), OutcomeState::TimedOut);
    let page = letters(handle).await;
    let (letter, _) = page.letters.iter().find(|(_, it)| it.message.id == accepted.id).unwrap();
    (accepted.id, *letter)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_dropped_at_each_poll_changes_nothing() {
    let rig = Rig::alone();
    let system = rig.node().await;
    let handle = system.handle();
    dead(&handle).await;
    let bounds = PageBounds { after: None, count_max: 10, bytes_max: 1 << 20 };
    at_each_poll(
        "dead_letters",
        async |times| polled(times, handle.dead_letters(LetterFilter::default(), bounds)).await,
        async |_, _| assert_eq!(letters(&handle).await.letters.len(), 1),
    )
    .await;
    system.shutdown(Duration::ZERO).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_dropped_at_each_poll_accepts_once_when_it_is_replayed_again() {
    let rig = Rig::alone();
    let system = rig.node().await;
    let handle = system.handle();
    let last = Cell::new(None);
    at_each_poll(
        "replay_dead_letters",
        async |times| {
            let (id, letter) = dead(&handle).await;
            last.set(Some((id, letter, next_seq(&handle).await)));
            polled(times, handle.replay_dead_letters(&[letter])).await
        },
        async |_, _| {
            let (id, letter, before) = last.get().unwrap();
            let replayed = handle.replay_dead_letters(&[letter]).await.unwrap();
            let is_alive = matches!(
                replayed[..],
                [(_, Replayed::Accepted(_) | Replayed::AlreadyAccepted(_) | Replayed::Missing)]
            );
            assert!(is_alive, "{replayed:?}");
            assert_eq!(next_seq(&handle).await, before + 1, "accepted once");
            let page = letters(&handle).await;
            assert!(page.letters.iter().all(|(_, it)| it.message.id != id), "no dead letter");
            let mut follow = handle.follow(id).await.unwrap().unwrap();
            let state = follow.next().await.unwrap().state();
            assert!(!matches!(state, OutcomeState::TimedOut | OutcomeState::Failed), "it lives");
        },
    )
    .await;
    system.shutdown(Duration::ZERO).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purge_dropped_at_each_poll_removes_or_does_nothing() {
    let rig = Rig::alone();
    let system = rig.node().await;
    let handle = system.handle();
    let last = Cell::new(None);
    at_each_poll(
        "purge_dead_letters",
        async |times| {
            let (_, letter) = dead(&handle).await;
            last.set(Some(letter));
            polled(times, handle.purge_dead_letters(&[letter])).await
        },
        async |times, _| {
            let letter = last.get().unwrap();
            let is_there = letters(&handle).await.letters.iter().any(|(id, _)| *id == letter);
            // It may have waited for the message, which is told how it ended before that is over.
            assert!(is_there || times > 0, "nobody asked yet");
            let purged = handle.purge_dead_letters(&[letter]).await.unwrap();
            assert_eq!(purged, usize::from(is_there));
        },
    )
    .await;
    assert!(letters(&handle).await.letters.is_empty());
    system.shutdown(Duration::ZERO).await;
    rig.stop().await;
}
