//! The lifecycle of the StreamActor: what outlives a life of it, and how the next one begins.
//!
//! A life is one [`Delivery`], opened from the disk. The first is opened by whoever starts the tree,
//! so that its errors reach the caller; each later one by the supervisor, once the one before has
//! let go of the files.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell};
use tokio::sync::watch;

use super::{StreamActor, StreamArguments};
use crate::balance::BalanceSetting;
use crate::config::StreamConfig;
use crate::delivery::{Delivery, StartError};
use crate::links::Links;
use crate::neighbours::Asks;
use crate::submit::Submitter;
use crate::supervision::{Child, Surrounds, TreePath, words};
use crate::system::Surroundings;

/// Where the StreamActor is in its life.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Messages are accepted.
    Running(Arc<Delivery>),
    /// The StreamActor died and is being started again.
    Restarting,
    /// The root gave up.
    Failed(String),
    /// Stopped as asked.
    Stopped,
}

/// Opens a [`Delivery`] from the disk, at start and after every death of the StreamActor.
#[derive(Debug, Clone)]
pub(crate) struct Opener {
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) around: Surroundings,
}

impl Opener {
    /// Opens and recovers off the runtime's threads: it reads whole segments.
    pub(crate) async fn open(&self) -> Result<Arc<Delivery>, StartError> {
        let Self { config, around } = self.clone();
        let workers = config.ground.storage.workers();
        let opening = workers.run(move || Delivery::open(&config, around));
        let opened = opening.await.map_err(|error| StartError::Interrupted(error.to_string()))?;
        opened?.resume().await
    }
}

/// The StreamActor as a child of its supervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StreamChild {
    pub(crate) opener: Opener,
    pub(crate) links: Arc<Links>,
    pub(crate) submitter: Arc<Submitter>,
    pub(crate) asks: Asks,
    /// The life that is opened already.
    pub(crate) first: Arc<Mutex<Option<Arc<Delivery>>>>,
    pub(crate) balance: BalanceSetting,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) around: Surrounds,
}

impl StreamChild {
    /// Lets go of what the life before had open.
    async fn retire(&self) {
        let mut last = None;
        self.phase.send_if_modified(|phase| {
            let Phase::Running(delivery) = phase else {
                return false;
            };
            last = Some(Arc::clone(delivery));
            *phase = Phase::Restarting;
            true
        });
        if let Some(last) = last {
            last.close().await;
        }
    }

    async fn next_life(&self) -> Result<Arc<Delivery>, StartError> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(first) => Ok(first),
            None => {
                self.retire().await;
                self.opener.open().await
            }
        }
    }
}

impl Child for StreamChild {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn start(
        &mut self,
        supervisor: ActorCell,
        path: TreePath,
    ) -> BoxFuture<'_, Result<ActorCell, String>> {
        async move {
            let delivery = self.next_life().await.map_err(|error| error.to_string())?;
            let arguments = StreamArguments {
                path,
                delivery: Arc::clone(&delivery),
                links: Arc::clone(&self.links),
                submitter: Arc::clone(&self.submitter),
                asks: self.asks.clone(),
                heights: self.opener.around.heights.clone(),
                around: self.around.clone(),
            };
            let (actor, _task) =
                match Actor::spawn_linked(None, StreamActor, arguments, supervisor).await {
                    Ok(started) => started,
                    Err(error) => {
                        delivery.close().await;
                        return Err(words(error));
                    }
                };
            self.balance.run(delivery, &self.phase);
            Ok(actor.get_cell())
        }
        .boxed()
    }

    fn ended(&mut self) -> BoxFuture<'_, ()> {
        self.retire().boxed()
    }
}
