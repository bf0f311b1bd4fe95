//! Shutdown while messages are under way, with a deadline, by two at once.

use std::time::Duration;

use alys_stream_actor::StopReason;
use tokio::task::JoinSet;

use crate::load::{check_once, follow, message};
use crate::rig::{PATIENCE, Rig, connected, start, until};

/// Hands messages over until the node says no; those that were accepted.
async fn until_refused(
    handle: alys_stream_actor::StreamHandle,
) -> Vec<alys_stream_protocol::message::MessageId> {
    let mut accepted = Vec::new();
    loop {
        let message = message(accepted.len());
        match handle.send(message).await {
            Ok(it) => accepted.push(it.id),
            Err(_) => return accepted,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_under_load_twice_loses_nothing() {
    let rig = Rig::start(2).await;
    let config = rig.config();
    let system = rig.node(config.clone()).await;
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        callers.spawn(until_refused(system.handle()));
    }
    let (first, second) = (system.handle(), system.handle());
    // No time at all for what is in flight, and some.
    let both = async {
        tokio::join!(first.shutdown(Duration::ZERO), second.shutdown(Duration::from_millis(50)))
    };
    tokio::time::timeout(PATIENCE, both).await.expect("both end");
    assert_eq!(system.stopped().await, StopReason::Shutdown);
    first.shutdown(Duration::from_secs(1)).await;
    let mut sent = Vec::new();
    while let Some(accepted) = callers.join_next().await {
        sent.extend(accepted.unwrap());
    }
    until("every actor has ended", || system.actors().is_empty()).await;
    drop((system, first, second));

    let system = start(config).await;
    connected(&system.handle(), 2).await;
    for id in &sent {
        follow(&system.handle(), *id).await;
    }
    assert!(system.handle().drain(PATIENCE).await.unwrap());
    system.shutdown(Duration::from_secs(5)).await;
    if !sent.is_empty() {
        check_once(&sent, &rig.applied().await);
    }
}

/// A drain that has time ends when everything is settled, well before its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_settles_what_is_in_flight() {
    let rig = Rig::start(1).await;
    let system = rig.node(rig.config()).await;
    let messages: Vec<_> = (0..500).map(message).collect();
    let accepted = system.handle().send_all(messages).await.unwrap();
    let handle = system.handle();
    system.shutdown(PATIENCE).await;
    assert!(handle.send(message(0)).await.is_err());
    let sent: Vec<_> = accepted.iter().map(|it| it.id).collect();
    check_once(&sent, &rig.applied().await);
}
