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
    EndpointDriver, EndpointHandle, EndpointParts, EndpointSettings, EndpointStatus, NodeIdentity,
};
use alys_stream_transport::tls::ClientConfig;
use tokio_util::sync::CancellationToken;

use crate::config::StreamConfig;
use crate::exchange::EndpointExchange;
use crate::observer::EndpointObserver;

/// The endpoints of one node.
#[derive(Debug)]
pub(crate) struct Links {
    endpoints: Vec<EndpointConfig>,
    identity: NodeIdentity,
    tls: Option<Arc<ClientConfig>>,
    settings: EndpointSettings,
    observer: Arc<EndpointObserver>,
    clock: Arc<dyn WallClock>,
    seed: u64,
    /// The present driver of each endpoint.
    drivers: Mutex<BTreeMap<EndpointId, EndpointHandle>>,
}

impl Links {
    pub(crate) fn new(
        config: &StreamConfig,
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn WallClock>,
    ) -> Self {
        Self {
            endpoints: config.endpoints.clone(),
            identity: config.node.clone(),
            tls: config.tls.clone(),
            settings: config.settings,
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
        let (driver, handle) = EndpointDriver::try_new(EndpointParts {
            config,
            identity: self.identity.clone(),
            tls: self.tls.clone(),
            exchange,
            observer: Arc::clone(&self.observer) as _,
            clock: Arc::clone(&self.clock),
            // Endpoints must not dial in step, also when a seed is given.
            seed: self.seed.wrapping_add(u64::from(endpoint.0)),
            settings: self.settings,
            shutdown,
        })?;
        self.lock().insert(endpoint, handle);
        Ok(driver)
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
