//! The configured endpoints, how they are dialled, and what is seen of them.
//!
//! Outlives every StreamActor: the same endpoints are dialled again after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::time::WallClock;
use alys_stream_transport::connection::StateKind;
use alys_stream_transport::endpoint::{EndpointConfig, EndpointError};
use alys_stream_transport::grpc::{
    EndpointDriver, EndpointHandle, EndpointParts, EndpointSettings, EndpointStatus, EndpointTls,
    Network, NodeIdentity,
};
use alys_stream_transport::reconnect::{Dials, DialsConfig};
use alys_stream_transport::session::driver::Control;
use alys_stream_transport::tls::ReloadStatus;
use tokio_util::sync::CancellationToken;

use crate::config::StreamConfig;
use crate::exchange::EndpointExchange;
use crate::observer::{EndpointObserver, EndpointWatch};
use crate::system::Surroundings;
use crate::trust;

/// Whose turn it is to be dialled, in one life of the StreamActor.
#[derive(Debug)]
struct Turns {
    config: DialsConfig,
    seed: u64,
    /// One for all endpoints.
    dials: Arc<Dials>,
    /// Those that had a driver already.
    begun: BTreeSet<EndpointId>,
}

impl Turns {
    fn new(config: DialsConfig, seed: u64) -> Self {
        // Another stream of numbers than those of the endpoints.
        let dials = Arc::new(Dials::new(config, seed.rotate_left(31)));
        Self { config, seed, dials, begun: BTreeSet::new() }
    }

    /// And whether that endpoint had a driver already, which died.
    fn take(&mut self, endpoint: EndpointId) -> (Arc<Dials>, bool) {
        (Arc::clone(&self.dials), !self.begun.insert(endpoint))
    }
}

/// The endpoints of one node.
#[derive(Debug)]
pub(crate) struct Links {
    endpoints: Vec<EndpointConfig>,
    identity: NodeIdentity,
    tls: Option<EndpointTls>,
    settings: EndpointSettings,
    dials: Mutex<Turns>,
    observer: Arc<EndpointObserver>,
    clock: Arc<dyn WallClock>,
    network: Arc<dyn Network>,
    seed: u64,
    /// The present driver of each endpoint.
    drivers: Mutex<BTreeMap<EndpointId, EndpointHandle>>,
}

impl Links {
    pub(crate) fn new(
        config: &StreamConfig,
        tls: Option<EndpointTls>,
        around: &Surroundings,
    ) -> Self {
        Self {
            endpoints: config.endpoints.clone(),
            identity: config.node.clone(),
            tls,
            settings: config.settings,
            dials: Mutex::new(Turns::new(config.dials, config.seed)),
            observer: Arc::new(EndpointObserver::new(
                Arc::clone(&around.metrics),
                Arc::clone(&around.failures),
                config.node.node_id.clone(),
            )),
            clock: Arc::clone(&around.clock),
            network: Arc::clone(&config.ground.network),
            seed: config.seed,
            drivers: Mutex::default(),
        }
    }

    /// The endpoints that are dialled.
    pub(crate) fn enabled(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.endpoints
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| endpoint.enabled)
            .filter_map(|(index, _)| u16::try_from(index).ok().map(EndpointId))
    }

    /// A new driver for an endpoint; its predecessor is gone.
    pub(crate) fn driver(
        &self,
        endpoint: EndpointId,
        exchange: Arc<EndpointExchange>,
        shutdown: CancellationToken,
    ) -> Result<EndpointDriver<EndpointExchange>, EndpointError> {
        let config = self.endpoints[usize::from(endpoint.0)].clone();
        self.observer.added(&config.name);
        let watch = EndpointWatch::new(Arc::clone(&self.observer), &exchange);
        let (driver, handle) = EndpointDriver::try_new(EndpointParts {
            config,
            identity: self.identity.clone(),
            tls: None,
            exchange,
            observer: Arc::new(watch),
            clock: Arc::clone(&self.clock),
            // Endpoints must not dial in step, also when a seed is given.
            seed: self.seed.wrapping_add(u64::from(endpoint.0)),
            settings: self.settings,
            shutdown,
        })?;
        self.lock().insert(endpoint, handle);
        let (dials, is_again) = self.turns().take(endpoint);
        let driver = driver.with_dials(dials).with_network(Arc::clone(&self.network));
        let driver = if is_again { driver.after_another() } else { driver };
        Ok(match &self.tls {
            Some(tls) => driver.with_tls(tls.clone()),
            None => driver,
        })
    }

    /// A StreamActor begins: its endpoints are dialled as at the start of a node.
    pub(crate) fn handle_life(&self) {
        let mut turns = self.turns();
        *turns = Turns::new(turns.config, turns.seed.wrapping_add(1));
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the reload of certificates goes; `None` when nothing is reloaded.
    pub(crate) fn tls_status(&self) -> Option<ReloadStatus> {
        trust::status(self.tls.as_ref())
    }

    /// Gives an order to the session of an endpoint; false when there is none now.
    pub(crate) fn order(&self, endpoint: EndpointId, control: Control) -> bool {
        self.lock().get(&endpoint).is_some_and(|handle| handle.control(control).is_ok())
    }

    /// What is seen of each endpoint that is dialled.
    pub(crate) fn statuses(&self) -> Vec<(EndpointId, EndpointStatus)> {
        let drivers = self.lock();
        drivers.iter().map(|(id, handle)| (*id, handle.status().borrow().clone())).collect()
    }

    /// How many endpoints carry data now.
    pub(crate) fn live(&self) -> usize {
        let drivers = self.lock();
        drivers.values().filter(|handle| handle.status().borrow().is_live()).count()
    }

    /// Dials at once. False when no endpoint has that name.
    pub(crate) fn reconnect(&self, name: &str) -> bool {
        let Some(index) = self.endpoints.iter().position(|endpoint| endpoint.name == name) else {
            return false;
        };
        let Ok(id) = u16::try_from(index).map(EndpointId) else {
            return false;
        };
        match self.lock().get(&id) {
            Some(handle) => {
                handle.reconnect_now();
                true
            }
            None => false,
        }
    }

    /// Resolves once every connection is closed; called after the drivers were told to stop.
    pub(crate) async fn closed(&self) {
        let statuses: Vec<_> = self.lock().values().map(EndpointHandle::status).collect();
        for mut status in statuses {
            // A sender that is gone means that the driver is too.
            drop(status.wait_for(|status| status.state == StateKind::Disconnected).await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointId, EndpointHandle>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
