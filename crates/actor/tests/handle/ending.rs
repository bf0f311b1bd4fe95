//! `drain`, `shutdown`, and `StreamSystem::shutdown`.

use std::time::Duration;

use alys_stream_actor::SendError;

use crate::polled::{at_each_poll, polled};
use crate::rig::{Rig, assert_once, delivered, message, next_seq, works};

const DRAIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_dropped_at_each_poll_stops_nothing() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    works(&handle).await;
    at_each_poll(
        "drain",
        async |times| {
            handle.send_all((0..50).map(|_| message(1000)).collect()).await.unwrap();
            polled(times, handle.drain(DRAIN)).await
        },
        async |_, output| {
            assert!(output.is_none_or(|drained| *drained.as_ref().unwrap()));
            assert_eq!(handle.ready(), Ok(()));
        },
    )
    .await;
    works(&handle).await;
    system.shutdown(DRAIN).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_dropped_at_each_poll_accepts_nothing_and_is_called_again() {
    let rig = Rig::start().await;
    let mut last = None;
    at_each_poll(
        "StreamHandle::shutdown",
        async |times| {
            let system = rig.node().await;
            let handle = system.handle();
            let accepted = message(10);
            handle.send(accepted.clone()).await.unwrap();
            let output = polled(times, handle.shutdown(DRAIN)).await;
            let refused = handle.send(message(10)).await;
            if times > 0 {
                assert!(matches!(refused, Err(SendError::Unavailable)), "{refused:?}");
            }
            // Twice at once: the second one waits for the first.
            tokio::join!(handle.shutdown(DRAIN), handle.shutdown(DRAIN));
            assert!(system.stopped().await == alys_stream_actor::StopReason::Shutdown);
            assert!(handle.ready().is_err());
            // Everything is on the disk, and nobody else has it open.
            let next = rig.node().await;
            let handle = next.handle();
            let first = handle.send(accepted.clone()).await.unwrap();
            assert!(first.duplicate, "it was accepted");
            delivered(&handle, accepted.id).await;
            next.shutdown(DRAIN).await;
            output
        },
        async |times, _| last = Some(times),
    )
    .await;
    assert!(last.is_some_and(|polls| polls > 2), "there is something to cancel");
    rig.stop().await;
}

/// The system that is dropped halfway ends as after a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_whose_shutdown_is_dropped_loses_nothing() {
    let rig = Rig::start().await;
    at_each_poll(
        "StreamSystem::shutdown",
        async |times| {
            let system = rig.node().await;
            let handle = system.handle();
            let accepted = message(10);
            handle.send(accepted.clone()).await.unwrap();
            let output = polled(times, system.shutdown(DRAIN)).await;
            // What is left of it lets go of the files.
            handle.shutdown(Duration::ZERO).await;
            drop(handle);
            let next = rig.node().await;
            let handle = next.handle();
            let before = next_seq(&handle).await;
            assert_once(&handle, &accepted).await;
            assert_eq!(next_seq(&handle).await, before, "it was accepted");
            delivered(&handle, accepted.id).await;
            next.shutdown(DRAIN).await;
            output
        },
        async |_, _| {},
    )
    .await;
    rig.stop().await;
}
