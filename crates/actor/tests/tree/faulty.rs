//! Actors of a node that panic at one message of a kind, and are as good as the defaults otherwise.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use alys_stream_actor::fault::FaultPoints;
use alys_stream_actor::neighbours::{
    MemoryBridge, MemoryChain, MemoryNetwork, MemoryStorage, MemorySync, NeighbourActors, Plug,
};
use bitcoin::Network;
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Who is to panic next, and at what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Armed(Arc<Mutex<Option<(String, String)>>>);

impl Armed {
    /// From now on the next message of this kind to this actor is a panic.
    pub(crate) fn arm(&self, actor: &str, message: &str) {
        *self.0.lock().unwrap() = Some((actor.to_owned(), message.to_owned()));
    }

    /// Whether it has happened.
    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }

    fn reach(&self, actor: &str, message: &str) {
        let mut armed = self.0.lock().unwrap();
        let is_it = armed.as_ref().is_some_and(|(who, what)| who == actor && what == message);
        if is_it {
            *armed = None;
            drop(armed);
            panic!("{actor} was told to panic at {message}");
        }
    }

    /// The same for the actors of the tree itself.
    pub(crate) fn points(&self) -> FaultPoints {
        let armed = self.clone();
        FaultPoints::new(move |actor, message| armed.reach(actor, message))
    }

    /// The default neighbours, each of which panics when it is told to.
    pub(crate) fn neighbours(&self) -> NeighbourActors {
        let network = Network::Regtest;
        NeighbourActors {
            bridge: self.plug("bridge", move || MemoryBridge { network }),
            chain: self.plug("chain", || MemoryChain { block_height: 7 }),
            network: self.plug("network", || MemoryNetwork { peers: 3 }),
            storage: self.plug("storage", || MemoryStorage),
            sync: self.plug("sync", || MemorySync),
        }
    }

    fn plug<A>(
        &self,
        name: &'static str,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Plug<A::Msg>
    where
        A: Actor<Arguments = ()>,
        A::Msg: Debug,
    {
        let armed = self.clone();
        Plug::actor(move |_| (Faulty { inner: make(), name, armed: armed.clone() }, ()))
    }
}

/// One of the defaults, which panics when it is told to.
struct Faulty<A> {
    inner: A,
    name: &'static str,
    armed: Armed,
}

impl<A> Actor for Faulty<A>
where
    A: Actor<Arguments = ()>,
    A::Msg: Debug,
{
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        self.inner.pre_start(myself, ()).await
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let shown = format!("{message:?}");
        let kind = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        self.armed.reach(self.name, kind);
        self.inner.handle(myself, message, state).await
    }
}
