//! One stream: the actor that a connection keeps for as long as its gRPC stream is up.
//!
//! The connection machine of the transport decides when there is a stream; this gives each of them
//! an actor, so that one that panics, or is killed, is a link that broke and nothing more: the
//! machine dials again after its backoff.

use std::sync::Arc;

use alys_stream_transport::grpc::{Host, Hosted, StreamDied};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::fault::FaultPoints;
use crate::spawn;
use crate::supervision::{Tree, TreePath};

/// Runs one stream.
#[derive(Debug)]
pub(super) struct Stream;

/// What a stream is started with.
pub(super) struct StreamArguments {
    hosted: Hosted,
    path: TreePath,
    faults: FaultPoints,
}

/// What a stream is told.
#[derive(Debug)]
pub(super) enum StreamEnd {
    /// It ended: `None` because it returned, else why.
    Ended(Option<String>),
}

/// What a stream holds.
#[derive(Debug)]
pub(super) struct StreamState {
    path: TreePath,
    faults: FaultPoints,
    _task: AbortOnDropHandle<()>,
}

impl Actor for Stream {
    type Msg = StreamEnd;
    type State = StreamState;
    type Arguments = StreamArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let StreamArguments { hosted, path, faults } = arguments;
        let task = spawn::watched(hosted, move |ended| {
            // The actor may be gone already; then nobody needs to know.
            drop(myself.cast(StreamEnd::Ended(ended)));
        });
        Ok(StreamState { path, faults, _task: task })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.faults.reach(state.path.as_str(), "ended");
        match message {
            StreamEnd::Ended(None) => {
                myself.stop(Some("the stream ended".into()));
                Ok(())
            }
            StreamEnd::Ended(Some(reason)) => Err(reason.into()),
        }
    }
}

/// Gives the streams of one connection their actors.
#[derive(Debug)]
pub(super) struct StreamHost {
    pub(super) connection: ActorCell,
    pub(super) path: TreePath,
    pub(super) tree: Arc<Tree>,
    pub(super) faults: FaultPoints,
    /// How many streams there are, those included that are being dropped.
    live: watch::Sender<usize>,
}

impl StreamHost {
    pub(super) fn new(
        connection: ActorCell,
        path: TreePath,
        tree: Arc<Tree>,
        faults: FaultPoints,
    ) -> Self {
        Self { connection, path, tree, faults, live: watch::Sender::new(0) }
    }
}

/// A stream is there until this is dropped together with it.
struct Live(watch::Sender<usize>);

impl Live {
    fn new(live: &watch::Sender<usize>) -> Self {
        live.send_modify(|count| *count += 1);
        Self(live.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Kills the actor of a stream that nobody waits for any more.
struct Kill(ActorCell);

impl Drop for Kill {
    fn drop(&mut self) {
        self.0.kill();
    }
}

impl Host for StreamHost {
    fn run(&self, hosted: Hosted) -> BoxFuture<'_, Result<(), StreamDied>> {
        let live = Live::new(&self.live);
        async move {
            let (done, ended) = tokio::sync::oneshot::channel();
            let hosted = async move {
                let _live = live;
                hosted.await;
                // Whoever waited may be gone.
                _ = done.send(());
            };
            let arguments = StreamArguments {
                hosted: hosted.boxed(),
                path: self.path.clone(),
                faults: self.faults.clone(),
            };
            let connection = self.connection.clone();
            let (actor, _task) = Actor::spawn_linked(None, Stream, arguments, connection)
                .await
                .map_err(|error| StreamDied(format!("its actor could not begin: {error}")))?;
            self.tree.handle_started(&self.path, actor.get_cell());
            let _kill = Kill(actor.get_cell());
            ended.await.map_err(|_| StreamDied("its actor died".to_owned()))
        }
        .boxed()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        let mut live = self.live.subscribe();
        async move {
            // The sender is ours: it cannot be gone.
            drop(live.wait_for(|count| *count == 0).await);
        }
        .boxed()
    }
}
