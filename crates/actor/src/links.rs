//! The configured endpoints, how they are dialled, and what is seen of them.
//!
//! Outlives every StreamActor: the same endpoints are dialled again after a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::time::WallClock;
use alys_stream_telemetry::metrics::Metrics;
use alys_stream_transport::connection::StateKind;
use alys_stream_transport::endpoint::{EndpointConfig, EndpointError};
use alys_stream_transport::grpc::{
    EndpointDriver, EndpointHandle, EndpointParts, EndpointSettings, EndpointStatus, EndpointTls,
    NodeIdentity,
};
use alys_stream_transport::reconnect::Dials;
use alys_stream_transport::session::driver::Control;
use alys_stream_transport::tls::ReloadStatus;
use tokio_util::sync::CancellationToken;

use crate::config::StreamConfig;
use crate::exchange::EndpointExchange;
use crate::observer::{EndpointObserver, EndpointWatch};
use crate::trust;

/// The endpoints of one node.
#[derive(Debug)]
pub(crate) struct Links {
    endpoints: Vec<EndpointConfig>,
    identity: NodeIdentity,
    tls: Option<EndpointTls>,
    settings: EndpointSettings,
    /// One for all endpoints: they are dialled in turn.
    dials: Arc<Dials>,
    observer: Arc<EndpointObserver>,
    clock: Arc<dyn WallClock>,
    seed: u64,
    /// The present driver of each endpoint.
    drivers: Mutex<BTreeMap<EndpointId, EndpointHandle>>,
}

impl Links {
    pub(crate) fn new(
        config: &StreamConfig,
        tls: Option<EndpointTls>,
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn WallClock>,
    ) -> Self {
        Self {
            endpoints: config.endpoints.clone(),
            identity: config.node.clone(),
            tls,
            settings: config.settings,
            // Another stream of numbers than those of the endpoints.
            dials: Arc::new(Dials::new(config.dials, config.seed.rotate_left(31))),
            observer: Arc::new(EndpointObserver::new(
                Arc::clone(metrics),
                config.node.node_id.clone(),
            )),
            clock: Arc::clone(clock),
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
        let driver = driver.with_dials(Arc::clone(&self.dials));
        Ok(match &self.tls {
            Some(tls) => driver.with_tls(tls.clone()),
            None => driver,
        })
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

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<EndpointId, EndpointHandle>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
