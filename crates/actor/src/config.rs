//! What the actor tree is started with.

use std::path::PathBuf;
use std::sync::Arc;

use alys_stream_config::{AgreementSection, Loaded, tls_files};
use alys_stream_messaging::buffer::BufferConfig;
use alys_stream_messaging::dead_letter::DeadLetterConfig;
use alys_stream_messaging::outbox::OutboxConfig;
use alys_stream_messaging::refusals::RefusalConfig;
use alys_stream_messaging::router::RouterConfig;
use alys_stream_transport::balance::BalanceConfig;
use alys_stream_transport::endpoint::EndpointConfig;
use alys_stream_transport::grpc::{EndpointSettings, NodeIdentity};
use alys_stream_transport::reconnect::DialsConfig;
use alys_stream_transport::tls::ClientConfig;

use crate::fault::FaultPoints;
use crate::federation::{Root, Version};
use crate::gate::{self, Gate};
use crate::ground::Ground;
use crate::neighbours::NeighbourActors;
use crate::supervision::restart::RestartLimits;
use crate::trust::TlsFiles;

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
    /// How all endpoints together are dialled.
    pub dials: DialsConfig,
    /// Certificates that nothing reloads; `None` only when every endpoint is plaintext, or when there
    /// are [`Self::tls_files`].
    pub tls: Option<Arc<ClientConfig>>,
    /// Certificates that are reloaded when their files change; they come before [`Self::tls`].
    pub tls_files: Option<TlsFiles>,
    /// The federation in force at the first start; without it signature requests are refused.
    pub federation: Option<Root>,
    /// The Bitcoin network of its addresses.
    pub network: bitcoin::Network,
    /// How many endpoints must say the same before it is acted on.
    pub agreement: AgreementSection,
    /// Who is told what governance decides, and asked how the node is.
    pub neighbours: NeighbourActors,
    /// What looks at everything that governance sends before this node does.
    pub gate: Arc<dyn Gate>,
    /// What is kept beside the buffer, and how endpoints are chosen.
    pub bounds: Bounds,
    /// Bounds of restarting.
    pub restarts: RestartLimits,
    /// Seed of every random choice: jitter of backoffs and retries.
    pub seed: u64,
    /// Where tests make actors panic; nowhere by default.
    pub faults: FaultPoints,
    /// What it stands on; the machine's own unless this is a simulation.
    pub ground: Ground,
}

impl StreamConfig {
    /// What a loaded configuration file says. `software` is the name and version that peers are
    /// told, such as `my-node/1.0`.
    #[must_use]
    pub fn from_loaded(loaded: Loaded, software: &str) -> Self {
        let bounds = Bounds::from_loaded(&loaded);
        let Loaded { config, tls, federation } = loaded;
        let transport = config.transport;
        let section = config.federation.as_ref();
        let network = section.map_or(bitcoin::Network::Bitcoin, |section| section.network);
        let version = Version(section.map_or(0, |section| section.version));
        let tls_files = tls.is_some().then(|| TlsFiles { settings: config.tls, read: tls_files() });
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
            settings: transport.settings(),
            dials: transport.dials,
            tls,
            tls_files,
            federation: federation.map(|federation| Root { version, federation }),
            network,
            agreement: config.agreement,
            neighbours: NeighbourActors::in_memory(network),
            gate: Arc::new(gate::Open),
            bounds,
            restarts: RestartLimits::default(),
            // Jitter must differ between nodes and between restarts; a test sets its own.
            seed: fastrand::u64(..),
            faults: FaultPoints::default(),
            ground: Ground::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use alys_stream_config::NodeConfig;
    use alys_stream_transport::session::Compression;

    use super::*;

    fn config(yaml: &str) -> StreamConfig {
        let text = format!("node: {{id: a}}\ndata_dir: nowhere\n{yaml}");
        let config = NodeConfig::parse(Path::new("node.yaml"), &text).unwrap();
        StreamConfig::from_loaded(config.complete().unwrap(), "test/1")
    }

    #[test]
    fn what_the_file_says_of_connections_is_what_drivers_are_told() {
        let plaintext = "endpoints: [{name: b, url: 'http://localhost:1', insecure: plaintext}]\n";
        let silent = config(plaintext);
        assert_eq!(silent.settings, EndpointSettings::default());
        assert_eq!(silent.dials, DialsConfig::default());
        assert!(silent.tls.is_none() && silent.tls_files.is_none(), "nothing to reload");
        let said = "transport: {heartbeat: {interval: 2s}, compression: always, \
                    dials: {spread: {at_once: 3}}}\n";
        let config = config(&format!("{plaintext}{said}"));
        assert_eq!(config.settings.heartbeat.interval, Duration::from_secs(2));
        assert_eq!(config.settings.compression, Compression::Always);
        assert_eq!(config.dials.spread.at_once, 3);
    }

    #[test]
    fn certificates_are_reloaded_as_the_file_says() {
        let config = config(
            "endpoints: [{name: b, url: 'https://localhost:1'}]\ntls: {reload: {poll: 7s}}\n",
        );
        let files = config.tls_files.unwrap();
        assert_eq!(files.settings.reload.poll, Duration::from_secs(7));
        assert!((files.read)(Path::new("no such file")).is_err());
    }
}
