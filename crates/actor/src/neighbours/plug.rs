//! Which actor is behind a port: one that the tree starts, and starts again, or one that the node
//! keeps running by itself.

use std::fmt;
use std::sync::Arc;

use bitcoin::Network;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorRef, Message, SpawnErr};

use super::{
    Asks, BridgeMessage, ChainMessage, MemoryBridge, MemoryChain, MemoryNetwork, MemoryStorage,
    MemorySync, NetworkMessage, StorageMessage, SyncMessage,
};

/// Starts an actor as the child of a supervisor.
type Spawn<M> =
    dyn Fn(ActorCell, Asks) -> BoxFuture<'static, Result<ActorRef<M>, SpawnErr>> + Send + Sync;

/// Who takes the messages of one neighbour. Cheap to clone.
pub struct Plug<M>(Option<Arc<Spawn<M>>>);

impl<M> Clone for Plug<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for Plug<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plug").field(&self.0.is_some()).finish()
    }
}

impl<M: Message> Plug<M> {
    /// The tree starts this actor, and starts it again when it ends. `make` is called for each life
    /// with the way to ask the StreamActor.
    #[must_use]
    pub fn actor<A: Actor<Msg = M>>(
        make: impl Fn(Asks) -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(move |supervisor, asks| {
            let (actor, arguments) = make(asks);
            async move {
                let (actor, _task) =
                    Actor::spawn_linked(None, actor, arguments, supervisor).await?;
                Ok(actor)
            }
            .boxed()
        })))
    }

    /// The node keeps its actor running by itself, and attaches it to the port: see
    /// [`crate::StreamSystem::neighbours`]. Until then it is absent.
    #[must_use]
    pub const fn external() -> Self {
        Self(None)
    }

    pub(crate) const fn is_supervised(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn spawn(
        &self,
        supervisor: ActorCell,
        asks: Asks,
    ) -> BoxFuture<'static, Result<ActorRef<M>, SpawnErr>> {
        match &self.0 {
            Some(spawn) => spawn(supervisor, asks),
            None => async { Err(SpawnErr::StartupFailed("it is external".into())) }.boxed(),
        }
    }
}

/// The actors of a node that the StreamActor talks to.
#[derive(Debug, Clone)]
pub struct NeighbourActors {
    /// Signs and broadcasts Bitcoin transactions.
    pub bridge: Plug<BridgeMessage>,
    /// Produces blocks.
    pub chain: Plug<ChainMessage>,
    /// Talks to other nodes.
    pub network: Plug<NetworkMessage>,
    /// Keeps history.
    pub storage: Plug<StorageMessage>,
    /// Follows the chain.
    pub sync: Plug<SyncMessage>,
}

impl NeighbourActors {
    /// The defaults: each keeps in bounded memory what it is told, and shows it. Addresses are
    /// those of this Bitcoin network.
    #[must_use]
    pub fn in_memory(network: Network) -> Self {
        Self {
            bridge: Plug::actor(move |_| (MemoryBridge { network }, ())),
            chain: Plug::actor(|_| (MemoryChain { block_height: 0 }, ())),
            network: Plug::actor(|_| (MemoryNetwork { peers: 0 }, ())),
            storage: Plug::actor(|_| (MemoryStorage, ())),
            sync: Plug::actor(|_| (MemorySync, ())),
        }
    }
}
