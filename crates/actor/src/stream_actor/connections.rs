//! The connection set: one actor for each endpoint, started again within a restart budget each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::outbox::EndpointId;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};

use super::{StreamArguments, StreamMessage};
use crate::connection_actor::{ConnectionActor, ConnectionArguments};
use crate::exchange::EndpointExchange;
use crate::failure::Context;
use crate::supervision::restart::{RestartBudget, Verdict};
use crate::supervision::{ActorDied, ActorState, TreePath};

/// The connections of one life of the StreamActor.
#[derive(Debug)]
pub(super) struct Connections {
    slots: BTreeMap<EndpointId, Slot>,
}

#[derive(Debug)]
struct Slot {
    path: TreePath,
    budget: RestartBudget,
    actor: Option<ActorId>,
}

impl Connections {
    /// Starts one for each enabled endpoint.
    pub(super) async fn start(
        myself: &ActorRef<StreamMessage>,
        arguments: &StreamArguments,
    ) -> Result<Self, ActorProcessingErr> {
        arguments.links.handle_life();
        let slots = arguments.links.enabled().map(|endpoint| {
            let path = arguments.path.child(arguments.delivery.endpoint_name(endpoint));
            let budget = RestartBudget::new(arguments.around.limits);
            (endpoint, Slot { path, budget, actor: None })
        });
        let mut connections = Self { slots: slots.collect() };
        let endpoints: Vec<_> = connections.slots.keys().copied().collect();
        for endpoint in endpoints {
            connections.start_one(myself, arguments, endpoint).await?;
        }
        Ok(connections)
    }

    pub(super) async fn start_one(
        &mut self,
        myself: &ActorRef<StreamMessage>,
        arguments: &StreamArguments,
        endpoint: EndpointId,
    ) -> Result<(), ActorProcessingErr> {
        let Some(slot) = self.slots.get_mut(&endpoint) else {
            return Ok(());
        };
        let StreamArguments { delivery, links, around, .. } = arguments;
        let exchange = Arc::new(EndpointExchange::new(Arc::clone(delivery), endpoint));
        let driver = links.driver(endpoint, exchange, around.shutdown.clone())?;
        let arguments = ConnectionArguments {
            driver,
            path: slot.path.clone(),
            tree: Arc::clone(&around.tree),
            faults: around.faults.clone(),
        };
        // No global name: a respawn under the same name can fail.
        let (actor, _task) =
            Actor::spawn_linked(None, ConnectionActor, arguments, myself.get_cell()).await?;
        slot.actor = Some(actor.get_id());
        around.tree.handle_started(&slot.path, actor.get_cell());
        Ok(())
    }

    /// An actor ended. Fails when it was a connection whose budget is spent.
    pub(super) fn handle_exit(
        &mut self,
        myself: &ActorRef<StreamMessage>,
        arguments: &StreamArguments,
        who: ActorId,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let is_it = |(_, slot): &(&EndpointId, &mut Slot)| slot.actor == Some(who);
        let Some((endpoint, slot)) = self.slots.iter_mut().find(is_it) else {
            return Ok(());
        };
        slot.actor = None;
        let endpoint = *endpoint;
        let StreamArguments { delivery, around, .. } = arguments;
        if around.shutdown.is_cancelled() {
            around.tree.handle_ended(&slot.path, Some(who), ActorState::Ended, reason);
            return Ok(());
        }
        // What the dead stream carried belongs to the queue again.
        delivery.handle_lost(endpoint);
        let died = ActorDied::new(&slot.path, reason);
        delivery.failures.record(&died, Context::endpoint(slot.path.name()));
        match slot.budget.handle_exit(tokio::time::Instant::now().into_std()) {
            Verdict::RestartAfter(wait) => {
                around.tree.handle_ended(&slot.path, Some(who), ActorState::Restarting, reason);
                around.metrics.actor_restart("connection");
                start_after(myself, endpoint, wait);
                Ok(())
            }
            Verdict::Escalate => {
                around.tree.handle_ended(&slot.path, Some(who), ActorState::Ended, reason);
                Err(format!("connection to {} keeps ending: {reason}", slot.path.name()).into())
            }
        }
    }
}

fn start_after(myself: &ActorRef<StreamMessage>, endpoint: EndpointId, wait: Duration) {
    drop(myself.send_after(wait, move || StreamMessage::Start(endpoint)));
}
