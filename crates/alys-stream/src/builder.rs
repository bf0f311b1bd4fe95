//! From a configuration to a running tree, in one expression.

use std::path::PathBuf;
use std::sync::Arc;

use alys_stream_actor::gate::Gate;
use alys_stream_actor::neighbours::{
    BridgeMessage, ChainMessage, NetworkMessage, Plug, StorageMessage, SyncMessage,
};
use alys_stream_actor::{StartError, StreamConfig, StreamSystem};
use alys_stream_config::{ConfigError, NodeConfig};
use alys_stream_protocol::time::{SystemClock, WallClock};
use alys_stream_telemetry::metrics::Metrics;

/// What this crate calls itself toward governance, unless the application says otherwise.
const SOFTWARE: &str = concat!("alys-stream/", env!("CARGO_PKG_VERSION"));

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration is wrong, or names a file that is.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A store, an endpoint or a certificate cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Yaml { text: String, folder: PathBuf },
    Config(Box<StreamConfig>),
}

/// Starts a [`StreamSystem`]. Only where the configuration comes from has to be said.
///
/// ```no_run
/// # async fn example() -> Result<(), alys_stream::BuildError> {
/// let system = alys_stream::StreamBuilder::from_file("node.yaml").software("my-node/1.0").start().await?;
/// # drop(system);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct StreamBuilder {
    source: Source,
    software: String,
    metrics: Option<Arc<Metrics>>,
    clock: Arc<dyn WallClock>,
    plugged: Plugged,
}

/// What takes the place of a default.
#[derive(Debug, Default)]
struct Plugged {
    bridge: Option<Plug<BridgeMessage>>,
    chain: Option<Plug<ChainMessage>>,
    network: Option<Plug<NetworkMessage>>,
    storage: Option<Plug<StorageMessage>>,
    sync: Option<Plug<SyncMessage>>,
    gate: Option<Arc<dyn Gate>>,
}

impl Plugged {
    fn put_in(self, config: &mut StreamConfig) {
        let Self { bridge, chain, network, storage, sync, gate } = self;
        let actors = &mut config.neighbours;
        put(&mut actors.bridge, bridge);
        put(&mut actors.chain, chain);
        put(&mut actors.network, network);
        put(&mut actors.storage, storage);
        put(&mut actors.sync, sync);
        put(&mut config.gate, gate);
    }
}

fn put<T>(place: &mut T, other: Option<T>) {
    if let Some(other) = other {
        *place = other;
    }
}

impl StreamBuilder {
    /// Takes the configuration from a YAML file: the one that `alys-stream node` reads.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self::new(Source::File(path.into()))
    }

    /// Takes the configuration from YAML in memory. Relative paths in it are below `folder`.
    pub fn from_yaml(text: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self::new(Source::Yaml { text: text.into(), folder: folder.into() })
    }

    /// Takes a configuration that was put together in code.
    pub fn from_config(config: StreamConfig) -> Self {
        Self::new(Source::Config(Box::new(config)))
    }

    fn new(source: Source) -> Self {
        let software = SOFTWARE.to_owned();
        let (clock, plugged) = (Arc::new(SystemClock), Plugged::default());
        Self { source, software, metrics: None, clock, plugged }
    }

    /// What peers are told that they talk to: a name and a version, such as `my-node/1.0`. Of no
    /// effect with [`StreamBuilder::from_config`], which says it already.
    pub fn software(mut self, software: impl Into<String>) -> Self {
        self.software = software.into();
        self
    }

    /// Where metrics are counted, for an application that serves them. Default: a registry of its
    /// own.
    pub fn metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// What tells the time of day: deadlines depend on it. Default: the clock of the system.
    pub fn clock(mut self, clock: Arc<dyn WallClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Your Bridge, instead of one that only notes what it is told: see
    /// [`crate::actor::neighbours::bridge`] for what it gets, and `examples/own_bridge.rs`.
    pub fn bridge(mut self, bridge: Plug<BridgeMessage>) -> Self {
        self.plugged.bridge = Some(bridge);
        self
    }

    /// Your Chain: see [`crate::actor::neighbours::chain`].
    pub fn chain(mut self, chain: Plug<ChainMessage>) -> Self {
        self.plugged.chain = Some(chain);
        self
    }

    /// Your Network: see [`crate::actor::neighbours::network`].
    pub fn network(mut self, network: Plug<NetworkMessage>) -> Self {
        self.plugged.network = Some(network);
        self
    }

    /// Your Storage: see [`crate::actor::neighbours::storage`].
    pub fn storage(mut self, storage: Plug<StorageMessage>) -> Self {
        self.plugged.storage = Some(storage);
        self
    }

    /// Your Sync: see [`crate::actor::neighbours::sync`].
    pub fn sync(mut self, sync: Plug<SyncMessage>) -> Self {
        self.plugged.sync = Some(sync);
        self
    }

    /// What looks at everything that governance sends before the node does: see
    /// [`crate::actor::gate`]. Default: everything is let in.
    pub fn gate(mut self, gate: Arc<dyn Gate>) -> Self {
        self.plugged.gate = Some(gate);
        self
    }

    /// Reads the configuration and what it names, opens the stores, starts the tree and dials every
    /// endpoint. Needs a tokio runtime of several threads with timers and I/O.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong, or a store, an endpoint or a certificate cannot be used. One
    /// line each: what, where, and the cure.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, whatever was started stops again.
    pub async fn start(self) -> Result<StreamSystem, BuildError> {
        let mut config = match self.source {
            Source::File(path) => {
                StreamConfig::from_loaded(NodeConfig::load(&path)?, &self.software)
            }
            Source::Yaml { text, folder } => {
                let parsed = NodeConfig::parse(&folder.join("(in memory)"), &text)?;
                StreamConfig::from_loaded(parsed.complete()?, &self.software)
            }
            Source::Config(config) => *config,
        };
        self.plugged.put_in(&mut config);
        let metrics = self.metrics.unwrap_or_else(|| Arc::new(Metrics::new()));
        Ok(StreamSystem::start(config, metrics, self.clock).await?)
    }
}
