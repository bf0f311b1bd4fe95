//! A running governance node: what it opens, in which order, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::storage::Workers;
use alys_stream_protocol::limits;
use alys_stream_protocol::time::WallClock;
use alys_stream_transport::tls::{ServerSource, ServerTls, TlsReloader};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::rustls::KeyLog;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::admin::{self, Admin};
use crate::config::{Dialect, GovernanceConfig};
use crate::custody::{Custody, PlainLine};
use crate::desk::Desk;
use crate::engine::{self, Engine};
use crate::governance_server::governance_stream_server::GovernanceStreamServer;
use crate::member::SigningMember;
use crate::metrics::Metrics;
use crate::misbehaviour::Witness;
use crate::session_server::stream_service_server::StreamServiceServer;
use crate::streams::Streams;

pub(crate) mod accept;
mod connections;
mod error;
pub(crate) mod generation;
mod ground;
pub(crate) mod io;
mod rpc;
mod stores;

pub use error::{StartError, StartErrorKind};
pub use ground::{Entrance, Ground};

use accept::Door;
use generation::Generations;
use rpc::Rpc;
use stores::{Stores, load_member};

/// All protocols of this node, for reflection.
const DESCRIPTOR: &[u8] = include_bytes!("generated/descriptor.bin");

/// How long connections may take to close once their streams have ended.
const CONNECTIONS_WAIT: Duration = Duration::from_secs(2);

/// A governance node that is not running yet.
#[derive(Debug)]
pub struct GovernanceNode;

/// A running governance node. Dropping it stops everything at once; what is on disk stays.
#[derive(Debug)]
pub struct Running {
    local: SocketAddr,
    admin: SocketAddr,
    operator: Admin,
    custody: Arc<Custody>,
    door: Arc<Door>,
    health: HealthReporter,
    /// Stops the accept loop.
    closing: CancellationToken,
    /// Stops the engine and the admin server, last.
    stop: CancellationToken,
    /// Engine and servers: any of them ending by itself ends the node.
    tasks: JoinSet<Result<(), String>>,
}

impl GovernanceNode {
    /// Opens everything and starts to serve.
    ///
    /// # Errors
    ///
    /// When the configuration contradicts itself, keys or certificates cannot be used, a port is
    /// taken, or the data directory cannot be opened. One line each: what, where, the cure.
    pub async fn start(config: GovernanceConfig) -> Result<Running, StartError> {
        Self::start_on(Ground::default(), config).await
    }

    /// The same on another ground than this machine.
    ///
    /// # Errors
    ///
    /// As [`GovernanceNode::start`].
    pub async fn start_on(ground: Ground, config: GovernanceConfig) -> Result<Running, StartError> {
        config.validate()?;
        let workers = ground.storage.workers();
        let member = Arc::new(load_member(&config)?);
        let tls = load_tls(&config, &workers, &ground).await?;
        let (entrance, admin) = match ground.entrance {
            Some(entrance) => (entrance, None),
            None => {
                let entrance: Arc<dyn Entrance> = Arc::new(listen("listen", config.listen).await?);
                (entrance, Some(listen("admin.listen", config.admin.listen).await?))
            }
        };
        let (data_dir, ids_max) = (config.data_dir.clone(), config.ledger_ids_max);
        let storage = Arc::clone(&ground.storage);
        let stores = workers
            .run(move || Stores::open(&data_dir, ids_max, storage))
            .await
            .map_err(|error| StartError::Broken(error.to_string()))??;
        let closing = CancellationToken::new();
        let custody = custody(&config, stores, &closing, (ground.clock, workers, ground.witness));
        Running::start(&config, custody, member, tls, (entrance, admin), closing).await
    }
}

impl Running {
    async fn start(
        config: &GovernanceConfig,
        custody: Arc<Custody>,
        member: Arc<SigningMember>,
        tls: Option<LoadedTls>,
        (entrance, admin_listener): (Arc<dyn Entrance>, Option<TcpListener>),
        closing: CancellationToken,
    ) -> Result<Self, StartError> {
        let unknown =
            |key| move |source| StartError::Listen { key, address: config.listen, source };
        let local = entrance.local_addr().map_err(unknown("listen"))?;
        let admin = match &admin_listener {
            Some(listener) => listener.local_addr().map_err(unknown("admin.listen"))?,
            None => config.admin.listen,
        };
        let (routes, health) = routes(config, &custody).await?;
        let generations = Arc::new(Generations::start(routes, config.limits.clone()));
        let stop = CancellationToken::new();
        let (reloader, source, key_log) = tls
            .map_or((None, None, None), |tls| (Some(tls.reloader), Some(tls.source), tls.key_log));
        let require_node_name = config.tls.as_ref().is_some_and(|tls| tls.require_node_name);
        let door = Arc::new(Door::new(
            source.map(|source| (source, require_node_name)),
            key_log,
            config.limits.clone(),
            Arc::clone(&generations),
            Arc::clone(&custody.clock),
            Arc::clone(&custody.metrics),
        ));
        let operator = Admin {
            custody: Arc::clone(&custody),
            fixed: Arc::new(describe(config, &member, local)),
            member: Arc::clone(&member),
            door: Arc::clone(&door),
            shutdown: closing.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(Engine::new(Arc::clone(&custody), member).run(stop.clone()));
        spawn(&mut tasks, engine::dispatch(Arc::clone(&custody), stop.clone()));
        if let (Some(reloader), Some(source)) = (reloader, door.tls.clone()) {
            let offload = custody.workers.offload();
            spawn(&mut tasks, reloader.run(Arc::clone(&offload), stop.clone()));
            let connections = Arc::clone(&door.connections);
            spawn(&mut tasks, connections::guard(connections, source, offload, stop.clone()));
        }
        let accepting = accept::accept(entrance, Arc::clone(&door), closing.clone());
        let until = stop.clone();
        spawn(&mut tasks, async move {
            accepting.await;
            // The end of the accept loop alone is part of a polite stop.
            until.cancelled().await;
        });
        if let Some(listener) = admin_listener {
            spawn(&mut tasks, admin::serve(listener, operator.clone(), stop.clone()));
        }
        tracing::info!(id = config.id, %local, %admin, "governance node started");
        Ok(Self { local, admin, operator, custody, door, health, closing, stop, tasks })
    }

    /// Address of the gRPC server.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Address of the admin server.
    #[must_use]
    pub const fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Asks what the admin server is asked, without a socket: a `GET` without a body, a `POST` with
    /// one. The status code and the body of the answer.
    pub async fn ask(&self, path: &str, body: Option<&serde_json::Value>) -> (u16, String) {
        admin::ask(&self.operator, path, body).await
    }

    /// Resolves when the node cannot go on by itself, with the reason.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn stopped(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(Err(reason))) => reason,
            Some(Ok(Ok(()))) | None => "a part of the node ended".to_owned(),
            Some(Err(error)) => format!("a part of the node broke: {error}"),
        }
    }

    /// Stops politely: no new connections, streams are told and may finish within `drain`, what is
    /// received is applied, logs are closed. Takes at most `drain` and a few seconds, whatever the
    /// peers do.
    pub async fn shutdown(mut self, drain: Duration) {
        tracing::info!(?drain, "governance node stops");
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        self.health.set_not_serving::<GovernanceStreamServer<Rpc>>().await;
        self.health.set_not_serving::<StreamServiceServer<Rpc>>().await;
        self.closing.cancel();
        let streams = self.custody.streams.finish(drain).await;
        let are_closed = self.door.generations.finish(CONNECTIONS_WAIT).await;
        let connections = if are_closed { 0 } else { self.door.connections.count() };
        self.custody.metrics.drain_cut(streams, connections);
        if streams + connections > 0 {
            tracing::warn!(streams, connections, "peers did not leave in time and were cut");
        }
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(reason)) = ended {
                tracing::error!(reason, "a part of the node ended badly");
            }
        }
        self.custody.outbox.close().await;
        self.custody.inbox.close().await;
        tracing::info!("governance node stopped");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Streams hold what they need to go on, so they have to be told.
        self.closing.cancel();
        self.stop.cancel();
        self.custody.streams.abort();
        self.door.generations.abort();
    }
}

/// Runs a part of the node that has nothing to say when it ends.
fn spawn(tasks: &mut JoinSet<Result<(), String>>, part: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        part.await;
        Ok(())
    });
}

/// What reloads TLS, and where it is found.
struct LoadedTls {
    reloader: TlsReloader<ServerTls>,
    source: ServerSource,
    key_log: Option<Arc<dyn KeyLog>>,
}

async fn load_tls(
    config: &GovernanceConfig,
    workers: &Workers,
    ground: &Ground,
) -> Result<Option<LoadedTls>, StartError> {
    let Some(section) = &config.tls else {
        return Ok(None);
    };
    let settings = section.settings();
    let (read, clock) = (Arc::clone(&ground.certificates), Arc::clone(&ground.clock));
    let load = move || TlsReloader::try_new(settings, read, clock);
    let loaded = workers.run(load).await;
    let (reloader, source) = loaded.map_err(|error| StartError::Broken(error.to_string()))??;
    Ok(Some(LoadedTls { reloader, source, key_log: ground.key_log.clone() }))
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { key, address, source })
}

fn custody(
    config: &GovernanceConfig,
    stores: Stores,
    closing: &CancellationToken,
    (clock, workers, witness): (Arc<dyn WallClock>, Workers, Witness),
) -> Arc<Custody> {
    let Stores { inbox, unhandled, outbox, outbound, ledger, peers } = stores;
    let custody = Arc::new(Custody {
        own_id: config.id.clone(),
        clock,
        workers,
        plain: PlainLine::new(&config.id, &inbox),
        taking: std::sync::Mutex::default(),
        inbox,
        outbox,
        ledger: Arc::new(ledger),
        peers: Arc::new(peers),
        desk: Desk::default(),
        outbound: outbound.into(),
        wakes: std::sync::Mutex::default(),
        streams: Arc::new(Streams::new(config.misbehave.clone(), witness, closing.clone())),
        metrics: Arc::new(Metrics::new()),
    });
    custody.inbox.observe(Arc::<Metrics>::clone(&custody.metrics) as Arc<_>);
    custody.recover(unhandled);
    custody
}

async fn routes(
    config: &GovernanceConfig,
    custody: &Arc<Custody>,
) -> Result<(Routes, HealthReporter), StartError> {
    let rpc = Arc::new(Rpc {
        custody: Arc::clone(custody),
        dialects: config.dialects.clone().into(),
        heartbeat: config.heartbeat,
        drain: config.drain,
        started: custody.now(),
    });
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<GovernanceStreamServer<Rpc>>().await;
    let broken = |error: tonic_reflection::server::Error| StartError::Broken(error.to_string());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let governance = GovernanceStreamServer::from_arc(Arc::clone(&rpc))
        .max_decoding_message_size(limits::FRAME_BYTES_MAX)
        .max_encoding_message_size(limits::FRAME_BYTES_MAX);
    let mut routes = Routes::new(health_service)
        .add_service(reflection().build_v1().map_err(broken)?)
        .add_service(reflection().build_v1alpha().map_err(broken)?)
        .add_service(governance);
    if config.dialects.contains(&Dialect::Session) {
        health.set_serving::<StreamServiceServer<Rpc>>().await;
        let session = StreamServiceServer::from_arc(rpc)
            .max_decoding_message_size(limits::FRAME_BYTES_MAX)
            .max_encoding_message_size(limits::FRAME_BYTES_MAX);
        routes = routes.add_service(session);
    }
    Ok((routes.prepare(), health))
}

/// What `/status` says of the node itself.
fn describe(
    config: &GovernanceConfig,
    member: &SigningMember,
    local: SocketAddr,
) -> serde_json::Value {
    let federation = member.federation();
    json!({
        "id": config.id,
        "version": env!("CARGO_PKG_VERSION"),
        "listen": local.to_string(),
        "tls": config.tls.is_some(),
        "dialects": config.dialects,
        "signs_for": member.keys().iter().map(|key| &key.member_id).collect::<Vec<_>>(),
        "federation": {
            "threshold": federation.threshold(),
            "members": federation.members().iter().map(|member| &member.id).collect::<Vec<_>>(),
            "address": federation.address(config.network()).to_string(),
        },
    })
}
