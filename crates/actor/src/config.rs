//! What the actor tree is started with.

use std::path::PathBuf;
use std::sync::Arc;

use alys_stream_config::Loaded;
use alys_stream_messaging::buffer::BufferConfig;
use alys_stream_messaging::dead_letter::DeadLetterConfig;
use alys_stream_messaging::outbox::OutboxConfig;
use alys_stream_messaging::refusals::RefusalConfig;
use alys_stream_messaging::router::RouterConfig;
use alys_stream_protocol::federation::Federation;
use alys_stream_transport::balance::BalanceConfig;
use alys_stream_transport::endpoint::EndpointConfig;
use alys_stream_transport::grpc::{EndpointSettings, NodeIdentity};
use alys_stream_transport::tls::ClientConfig;

use crate::restart::RestartLimits;

/// What is kept beside the buffer and how much of it, and how endpoints are chosen: see
/// `docs/configuration.md`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bounds {
    /// Bounds of the dead letters.
    pub dead_letters: DeadLetterConfig,
    /// Bounds of what is remembered of refusals; not configurable.
    pub refusals: RefusalConfig,
    /// Bounds of the outbox; not configurable. Its seed is [`StreamConfig::seed`].
    pub outbox: OutboxConfig,
    /// How endpoints are chosen for messages that any of them may have.
    pub balance: BalanceConfig,
}

impl Bounds {
    /// What a loaded configuration file says.
    #[must_use]
    pub fn from_loaded(loaded: &Loaded) -> Self {
        let config = &loaded.config;
        Self {
            dead_letters: config.dead_letters,
            balance: config.balance.clone(),
            ..Self::default()
        }
    }
}

/// Everything a [`crate::StreamSystem`] needs to know.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Who this node is, as it tells its peers.
    pub node: NodeIdentity,
    /// Where the buffer, the inbox, dead letters and outcomes live.
    pub data_dir: PathBuf,
    /// Bounds of the buffer.
    pub buffer: BufferConfig,
    /// What each message kind is promised.
    pub router: RouterConfig,
    /// The governance nodes; names are unique.
    pub endpoints: Vec<EndpointConfig>,
    /// How connections behave: backoff, heartbeats, timeouts.
    pub settings: EndpointSettings,
    /// Certificates; `None` only when every endpoint is plaintext on loopback.
    pub tls: Option<Arc<ClientConfig>>,
    /// The federation in force at start; without it signature requests are refused.
    pub federation: Option<Federation>,
    /// What is kept beside the buffer, and how endpoints are chosen.
    pub bounds: Bounds,
    /// Bounds of restarting.
    pub restarts: RestartLimits,
    /// Seed of every random choice: jitter of backoffs and retries.
    pub seed: u64,
}

impl StreamConfig {
    /// What a loaded configuration file says. `software` is the name and version that peers are
    /// told, such as `my-node/1.0`.
    #[must_use]
    pub fn from_loaded(loaded: Loaded, software: &str) -> Self {
        let bounds = Bounds::from_loaded(&loaded);
        let Loaded { config, tls, federation } = loaded;
        Self {
            node: NodeIdentity {
                node_id: config.node.id,
                software: software.to_owned(),
                public_key: config.node.public_key.unwrap_or_default(),
                node_type: config.node.node_type.into(),
                region: config.node.region,
                auth: None,
            },
            data_dir: config.data_dir,
            buffer: config.buffer,
            router: config.router,
            endpoints: config.endpoints,
            settings: EndpointSettings::default(),
            tls,
            federation,
            bounds,
            restarts: RestartLimits::default(),
            // Jitter must differ between nodes and between restarts; a test sets its own.
            seed: fastrand::u64(..),
        }
    }
}
