//! What a supervisor starts, and starts again.

use std::fmt;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use ractor::{Actor, ActorCell, ActorRef, Message, SpawnErr};

use super::{Escalation, Supervisor, SupervisorArguments, Surrounds, TreePath};
use crate::neighbours::{Asks, Plug, Port};

/// How one child of a supervisor begins.
pub(crate) trait Child: fmt::Debug + Send + Sync + 'static {
    /// Its name, which is unique among its siblings.
    fn name(&self) -> &'static str;

    /// Begins a life, linked to its supervisor. Whatever is left of the one before goes first.
    fn start(
        &mut self,
        supervisor: ActorCell,
        path: TreePath,
    ) -> BoxFuture<'_, Result<ActorCell, String>>;

    /// A life is over. Not called when the supervisor itself dies.
    fn ended(&mut self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// A supervisor as the child of another.
pub(crate) struct Branch {
    name: &'static str,
    /// Its children, made anew for each life.
    children: Box<dyn Fn() -> Vec<Box<dyn Child>> + Send + Sync>,
    around: Surrounds,
}

impl Branch {
    pub(crate) fn new(
        name: &'static str,
        around: Surrounds,
        children: impl Fn() -> Vec<Box<dyn Child>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, children: Box::new(children), around }
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Child for Branch {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(
        &mut self,
        supervisor: ActorCell,
        path: TreePath,
    ) -> BoxFuture<'_, Result<ActorCell, String>> {
        let arguments = SupervisorArguments {
            path,
            children: (self.children)(),
            escalation: Escalation::Parent,
            around: self.around.clone(),
        };
        async move {
            // No global name: a respawn under the same name can fail.
            let (actor, _task) = Actor::spawn_linked(None, Supervisor, arguments, supervisor)
                .await
                .map_err(words)?;
            Ok(actor.get_cell())
        }
        .boxed()
    }
}

/// An actor of the node, behind its port.
pub(crate) struct Neighbour<M> {
    port: Port<M>,
    plug: Plug<M>,
    asks: Asks,
}

impl<M: Message> Neighbour<M> {
    /// `None` when the node keeps that actor running by itself.
    pub(crate) fn child(port: &Port<M>, plug: &Plug<M>, asks: &Asks) -> Option<Box<dyn Child>> {
        plug.is_supervised().then(|| {
            let (port, plug, asks) = (port.clone(), plug.clone(), asks.clone());
            let child: Box<dyn Child> = Box::new(Self { port, plug, asks });
            child
        })
    }
}

impl<M> fmt::Debug for Neighbour<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbour").field("port", &self.port).finish_non_exhaustive()
    }
}

impl<M: Message> Child for Neighbour<M> {
    fn name(&self) -> &'static str {
        self.port.target().as_str()
    }

    fn start(
        &mut self,
        supervisor: ActorCell,
        _path: TreePath,
    ) -> BoxFuture<'_, Result<ActorCell, String>> {
        async move {
            let actor: ActorRef<M> =
                self.plug.spawn(supervisor, self.asks.clone()).await.map_err(words)?;
            self.port.attach(actor.clone());
            Ok(actor.get_cell())
        }
        .boxed()
    }

    fn ended(&mut self) -> BoxFuture<'_, ()> {
        self.port.detach();
        ready(()).boxed()
    }
}

/// Why an actor could not begin.
pub(crate) fn words(error: SpawnErr) -> String {
    format!("it could not begin: {error}")
}
