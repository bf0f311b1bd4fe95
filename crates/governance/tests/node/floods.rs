//! Frames that hold more than a frame may.

use std::sync::Arc;

use alys_stream_protocol::limits::BATCH_RECORDS_MAX;
use alys_stream_protocol::session::{Data, Record, RefuseCode, frame};
use alys_stream_transport::session::FRAME_RECORDS_MAX;
use tokio_util::sync::CancellationToken;

use crate::memory::{Node, pegins};
use crate::session::{Opening, greet, session};
use crate::world::{LONG, World, stop};

/// A node that breaks the rule a little is told so; one that floods is cut, before its frame is
/// decoded; neither harms the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_with_too_many_records_ends_the_session_and_nothing_else() {
    let world = World::new();
    let running = world.start().await;
    let node = Node::new(pegins(3));
    for (count, is_told) in [(BATCH_RECORDS_MAX + 1, true), (FRAME_RECORDS_MAX + 1, false)] {
        let (mut stream, ..) = greet(&world, &running, &node, &Opening::default()).await.unwrap();
        let records = vec![Record::default(); count];
        let flood = frame::Kind::Data(Data { records, ..Data::default() });
        stream.requests.send(flood.into()).await.unwrap();
        let mut told = None;
        while let Ok(Some(frame)) =
            tokio::time::timeout(LONG, stream.responses.message()).await.expect("it ends")
        {
            if let Some(frame::Kind::Refuse(refuse)) = frame.kind {
                told = Some(refuse.code());
            }
        }
        assert_eq!(told, is_told.then_some(RefuseCode::ProtocolViolation), "{count} records");
    }
    let shutdown = CancellationToken::new();
    let done = async {
        node.until(|p| p.settled.len() == 3).await;
        shutdown.cancel();
    };
    let (end, ()) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), done);
    end.unwrap();
    stop(running).await;
}
