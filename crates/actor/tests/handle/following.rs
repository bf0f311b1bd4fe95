//! `follow`, `Follow::next`, `Follow::finished_outcome`.

use std::cell::RefCell;
use std::time::Duration;

use alys_stream_actor::Follow;
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;

use crate::polled::{at_each_poll, polled};
use crate::rig::{Rig, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follow_dropped_at_each_poll_leaves_nothing() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    let accepted = handle.send(message(10)).await.unwrap();
    at_each_poll(
        "follow",
        async |times| polled(times, handle.follow(accepted.id)).await,
        async |_, output| {
            if let Some(follow) = output {
                assert!(follow.as_ref().unwrap().is_some());
            }
        },
    )
    .await;
    assert!(handle.follow(MessageId::mint()).await.unwrap().is_none());
    system.shutdown(Duration::from_secs(5)).await;
    rig.stop().await;
}

/// What a follower sees, from a call that is dropped after so many polls on.
async fn seen(mut follow: Follow, times: usize) -> (bool, Vec<OutcomeState>) {
    let mut states = Vec::new();
    let first = polled(times, follow.next()).await.flatten();
    let is_over = first.as_ref().is_some_and(|outcome| outcome.state() == OutcomeState::Complete);
    states.extend(first.map(|outcome| outcome.state()));
    // Dropped before each further one as well.
    loop {
        drop(polled(0, follow.next()).await);
        match follow.next().await {
            Some(outcome) => states.push(outcome.state()),
            None => return (is_over, states),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_dropped_at_each_poll_misses_no_end() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    for times in 0..8 {
        let accepted = handle.send(message(10)).await.unwrap();
        let follow = handle.follow(accepted.id).await.unwrap().unwrap();
        let (_, states) = seen(follow, times).await;
        let ends = states.iter().filter(|state| **state == OutcomeState::Complete).count();
        assert_eq!((ends, states.last()), (1, Some(&OutcomeState::Complete)), "{states:?}");
    }
    println!("Follow::next: dropped after 0 to 7 polls, and before each change");
    system.shutdown(Duration::from_secs(5)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_outcome_dropped_at_each_poll_misses_no_end() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    let follow: RefCell<Option<Follow>> = RefCell::default();
    at_each_poll(
        "Follow::finished_outcome",
        async |times| {
            let accepted = handle.send(message(10)).await.unwrap();
            let mut one = handle.follow(accepted.id).await.unwrap().unwrap();
            let output = polled(times, one.finished_outcome()).await;
            follow.replace(Some(one));
            output
        },
        async |_, _| {
            let mut follow = follow.take().unwrap();
            let outcome = follow.finished_outcome().await.unwrap();
            assert_eq!(outcome.state(), OutcomeState::Complete);
        },
    )
    .await;
    system.shutdown(Duration::from_secs(5)).await;
    rig.stop().await;
}
