//! A copy of the log of a node, and its log itself.

use std::sync::Arc;

use alys_stream_governance::read_ledger;
use alys_stream_protocol::message::{Epoch, LogId};
use alys_stream_protocol::session::{Frame, Heartbeat, frame};
use tokio_util::sync::CancellationToken;

use crate::memory::{Node, pegins};
use crate::session::{Opening, greet, session};
use crate::world::{World, stop};

/// A copy of a log sends what the log has said is over: it is acknowledged, and not taken. When that
/// copy goes on under a number line of its own, its messages are new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_copy_sent_that_is_over_is_applied_once_its_log_is_adopted() {
    let world = World::new();
    let running = world.start().await;
    let applied = async || {
        crate::admin::get(running.admin_addr(), "/ledger").await["applied"]["messages"].clone()
    };
    let node = Node::new(pegins(2));
    let (mut stream, ..) = greet(&world, &running, &node, &Opening::default()).await.unwrap();
    let beat = Heartbeat { sequence: 1, settled_below: 3, ..Heartbeat::default() };
    let beat = Frame { kind: Some(frame::Kind::Heartbeat(beat)) };
    stream.requests.send(beat).await.unwrap();
    let is_heard = |frame: &Frame| matches!(frame.kind, Some(frame::Kind::HeartbeatAck(_)));
    while !stream.responses.message().await.unwrap().is_some_and(|frame| is_heard(&frame)) {}

    let as_log = |log, epoch| {
        let mut copy = Node::new(node.messages.values().cloned().collect());
        let inner = Arc::get_mut(&mut copy).unwrap();
        (inner.log, inner.epoch) = (log, Epoch(epoch));
        copy
    };
    let adopted = LogId::new([8; 16]);
    for (log, epoch, expected) in [(node.log, 2, 0), (adopted, 3, 2)] {
        let (copy, shutdown) = (as_log(log, epoch), CancellationToken::new());
        let done = async {
            copy.until(|p| p.settled.len() == 2).await;
            shutdown.cancel();
        };
        let (end, ()) =
            tokio::join!(session(&world, &running, Arc::clone(&copy), shutdown.clone()), done);
        end.unwrap();
        assert_eq!(applied().await, expected, "log {log} in epoch {epoch}");
    }
    stop(running).await;
    assert_eq!(read_ledger(&world.data_dir()).unwrap().len(), 2);
}
