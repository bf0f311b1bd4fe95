//! Calls that wait for a StreamActor that is being started again.

use std::time::Duration;

use alys_stream_actor::{SendError, StreamSystem};
use alys_stream_protocol::submission::OutcomeState;

use crate::polled::{at_each_poll, polled};
use crate::rig::{Rig, assert_once, delivered, letters, message, works};

/// Kills the StreamActor.
fn kill(system: &StreamSystem) {
    let actors = system.actors();
    let (_, stream) = actors.iter().find(|(path, _)| path == "root/system/stream").unwrap();
    stream.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_dropped_while_the_stream_actor_restarts_stores_once() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    for round in 0..3 {
        at_each_poll(
            "send, restarting",
            async |times| {
                kill(&system);
                let sent = message(10);
                let output = polled(times, handle.send(sent.clone())).await;
                // A life that ended under it may leave it unknown: then it is sent again.
                let sent_again = loop {
                    match handle.send(sent.clone()).await {
                        Ok(accepted) => break accepted,
                        Err(SendError::Io(_) | SendError::Unavailable) => {}
                        Err(error) => panic!("{error}"),
                    }
                };
                if let Some(Ok(accepted)) = &output {
                    assert_eq!((sent_again.seq, sent_again.duplicate), (accepted.seq, true));
                }
                assert_once(&handle, &sent).await;
                delivered(&handle, sent.id).await;
                output
            },
            async |_, _| {},
        )
        .await;
        assert!(letters(&handle).await.letters.is_empty(), "round {round}");
    }
    system.shutdown(Duration::from_secs(5)).await;
    rig.stop().await;
}

/// Whoever follows notices nothing of a StreamActor that dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_goes_on_beyond_restarts() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    for _ in 0..10 {
        let accepted = handle.send(message(10)).await.unwrap();
        let mut one = handle.follow(accepted.id).await.unwrap().unwrap();
        let mut other = handle.follow(accepted.id).await.unwrap().unwrap();
        kill(&system);
        let mut last = None;
        while let Some(outcome) = one.next().await {
            last = Some(outcome.state());
        }
        assert_eq!(last, Some(OutcomeState::Complete));
        assert_eq!(other.finished_outcome().await.unwrap().state(), OutcomeState::Complete);
        // The next one to be killed is there.
        works(&handle).await;
    }
    system.shutdown(Duration::from_secs(5)).await;
    rig.stop().await;
}
