//! The sections of a node's configuration, and their defaults.
//!
//! Each key says what it bounds, its unit, its default and what higher or lower costs; the same is
//! in `docs/configuration.md`, where a test looks for every key.

mod layers;
mod shown;
mod transport;
mod validate;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_stream_messaging::buffer::BufferConfig;
use alys_stream_messaging::dead_letter::DeadLetterConfig;
use alys_stream_messaging::router::RouterConfig;
use alys_stream_protocol::federation::ScriptKind;
use alys_stream_protocol::governance::NodeType;
use alys_stream_telemetry::logs::LogConfig;
use alys_stream_transport::balance::BalanceConfig;
use alys_stream_transport::endpoint::EndpointConfig;
use alys_stream_transport::tls::ClientSettings;
use serde::{Deserialize, Serialize};

use crate::SocketSpec;
use crate::error::{ConfigError, not_text, unreadable};
use crate::files;

pub use self::layers::{
    BALANCE_PERIOD_MAX, DEAD_LETTER_AGE_MIN, DEAD_LETTER_BYTES_MIN, INDEX_CACHE_BYTES_MAX,
    INDEX_CACHE_BYTES_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
pub use self::transport::TransportSection;

/// Certificates, authorities, pins and revocation lists toward governance, and when changed files
/// are noticed.
pub type TlsSection = ClientSettings;

/// Default of [`ShutdownSection::drain`].
pub const DRAIN: Duration = Duration::from_secs(30);

/// Longest [`ShutdownSection::drain`]: what is not delivered by then is in the buffer anyway.
pub const DRAIN_MAX: Duration = Duration::from_secs(60 * 60);

/// Most [`NodeConfig::endpoints`]: each one holds a connection, a queue and about a hundred time
/// series.
pub const ENDPOINTS_MAX: usize = 64;

/// Default port of the admin interface.
const ADMIN_PORT: u16 = 9600;

/// Default file name of the submission socket, in [`NodeConfig::data_dir`].
const SUBMISSION_SOCKET: &str = "node.sock";

/// Everything there is to say about a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Who this node is.
    pub node: NodeSection,
    /// Folder of the buffer, the inbox, dead letters and outcomes. One process may use it at a
    /// time. Relative paths, here and below, start at the folder of the configuration file.
    pub data_dir: PathBuf,
    /// The governance nodes, at least one and at most [`ENDPOINTS_MAX`].
    pub endpoints: Vec<EndpointConfig>,
    /// Certificates toward governance; reloaded while the node runs.
    #[serde(default)]
    pub tls: TlsSection,
    /// How connections to governance are made, kept, judged and given up.
    #[serde(default)]
    pub transport: TransportSection,
    /// The federation in force at the first start. Without it signature requests are refused.
    #[serde(default)]
    pub federation: Option<FederationSection>,
    /// How many endpoints must say the same before it is acted on.
    #[serde(default)]
    pub agreement: AgreementSection,
    /// Bounds of the buffer.
    #[serde(default, serialize_with = "shown::buffer")]
    pub buffer: BufferConfig,
    /// Bounds of the dead letters.
    #[serde(default, serialize_with = "shown::dead_letters")]
    pub dead_letters: DeadLetterConfig,
    /// How endpoints are chosen for messages that any of them may have.
    #[serde(default)]
    pub balance: BalanceConfig,
    /// What each message kind is promised.
    // YAML has tags for enums; `quorum: 2` is what people write.
    #[serde(
        default,
        deserialize_with = "serde_yaml::with::singleton_map_recursive::deserialize",
        serialize_with = "shown::router"
    )]
    pub router: RouterConfig,
    /// Where other processes of this machine hand over messages.
    #[serde(default)]
    pub submission: SubmissionSection,
    /// Metrics, health and status.
    #[serde(default)]
    pub admin: AdminSection,
    /// Log lines.
    #[serde(default)]
    pub log: LogConfig,
    /// How the node stops.
    #[serde(default)]
    pub shutdown: ShutdownSection,
}

/// Who this node is, as governance sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// Its name, unique among the nodes of a federation, 1 to 128 bytes. Governance keeps what it
    /// received by it: changing it makes another node.
    pub id: String,
    /// Its public key, told to governance when it registers: 66 hexadecimal digits. Default none.
    #[serde(default)]
    pub public_key: Option<String>,
    /// Where it is, in the operator's words, told to governance. Default none.
    #[serde(default)]
    pub region: Option<String>,
    /// What it does in the network, told to governance. Default `bridge`.
    #[serde(default)]
    pub node_type: NodeRole,
}

/// What a node does in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Makes blocks.
    Validator,
    /// Only follows.
    Observer,
    /// Moves coins between the chains.
    #[default]
    Bridge,
    /// Signs for the federation.
    Signer,
}

impl From<NodeRole> for NodeType {
    fn from(role: NodeRole) -> Self {
        match role {
            NodeRole::Validator => Self::Validator,
            NodeRole::Observer => Self::Observer,
            NodeRole::Bridge => Self::Bridge,
            NodeRole::Signer => Self::Signer,
        }
    }
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederationSection {
    /// The Bitcoin network: `bitcoin`, `testnet`, `testnet4`, `signet` or `regtest`.
    pub network: bitcoin::Network,
    /// Its place among its successors: a version above all in the durable history takes over from
    /// them, a lower one only begins a history. Default 0.
    #[serde(default)]
    pub version: u64,
    /// How many members it takes to sign, 1 to the number of members.
    pub threshold: u32,
    /// How coins are locked: `p2wsh` or `p2tr`. Default `p2wsh`.
    #[serde(default = "default_script")]
    pub script: ScriptKind,
    /// The members, 1 to 20, in any order.
    pub members: Vec<MemberSection>,
}

/// One signer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSection {
    /// Its name, unique in the federation.
    pub id: String,
    /// Its compressed secp256k1 key: 66 hexadecimal digits.
    pub public_key: String,
    /// What its signature under a federation update counts, at least 1. Default 1.
    #[serde(default = "default_weight")]
    pub weight: u32,
}

/// How many endpoints must say the same before it is acted on. An emergency halt acts at once, on
/// its signatures alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgreementSection {
    /// Of federation updates, which the federation signs. Default `any`.
    pub federation: AgreementPolicy,
    /// Of proposals, which nobody signs. Default `any`.
    pub proposals: AgreementPolicy,
}

/// How many endpoints must say something before it is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgreementPolicy {
    /// One. What is signed by the federation needs no second witness.
    #[default]
    Any,
    /// More than half of the enabled ones: one that lies, or was taken over, gets nothing through.
    Majority,
}

impl AgreementPolicy {
    /// How many of so many enabled endpoints it takes, at least 1.
    #[must_use]
    pub const fn needed(self, enabled: usize) -> usize {
        match self {
            Self::Any => 1,
            Self::Majority => enabled / 2 + 1,
        }
    }
}

/// Where other processes of this machine hand over messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubmissionSection {
    /// `unix:PATH`, or a loopback `HOST:PORT`: the interface has no authentication of its own.
    /// Default: `node.sock` in [`NodeConfig::data_dir`].
    pub listen: Option<SocketSpec>,
}

/// Metrics, health and status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSection {
    /// An address and a port. Default `127.0.0.1:9600`. The port has no authentication and shows
    /// names and addresses of peers: expose it to others only behind something that authenticates.
    pub listen: SocketAddr,
}

/// How the node stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownSection {
    /// How long a first SIGTERM waits for what is in flight, 0 s to 1 h. Default 30 s. Longer
    /// leaves less to send again after the start; shorter restarts sooner. Nothing accepted is
    /// lost either way.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT)) }
    }
}

impl Default for ShutdownSection {
    fn default() -> Self {
        Self { drain: DRAIN }
    }
}

const fn default_script() -> ScriptKind {
    ScriptKind::P2wsh
}

const fn default_weight() -> u32 {
    1
}

impl NodeConfig {
    /// Reads a configuration from text and checks it, without touching any file. Relative paths
    /// are resolved against the folder of `file`, which also names the text in errors.
    ///
    /// # Errors
    ///
    /// When the text is not YAML, a key is unknown, missing or given twice, a value has the wrong
    /// type, or values contradict each other.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        check_syntax(text).map_err(|error| error.in_file(file))?;
        let yaml = serde_yaml::Deserializer::from_str(text);
        let mut config: Self = serde_path_to_error::deserialize(yaml)
            .map_err(|error| ConfigError::from_yaml(&error).in_file(file))?;
        if config.data_dir.as_os_str().is_empty() {
            return Err(ConfigError::invalid("data_dir", "empty", "name a folder").in_file(file));
        }
        config.resolve(file.parent().unwrap_or_else(|| Path::new("")));
        config.validate().map_err(|error| error.in_file(file))?;
        Ok(config)
    }

    /// Reads and checks a configuration file, but none of the files it names.
    ///
    /// # Errors
    ///
    /// As for [`Self::parse`], and when the file cannot be read.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let bytes =
            files::read(file).map_err(|error| unreadable("", file, &error).in_file(file))?;
        let text = String::from_utf8(bytes).map_err(|_| not_text().in_file(file))?;
        Self::parse(file, &text)
    }

    /// Where other processes hand over messages.
    #[must_use]
    pub fn submission_socket(&self) -> SocketSpec {
        self.submission
            .listen
            .clone()
            .unwrap_or_else(|| SocketSpec::Unix(self.data_dir.join(SUBMISSION_SOCKET)))
    }

    /// The configuration in force as JSON, defaults included. It holds no secret (C3): URLs
    /// cannot carry credentials, and keys are named by their path.
    #[must_use]
    pub fn redacted_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self)
            .unwrap_or_else(|error| serde_json::Value::String(error.to_string()));
        let listen = serde_json::Value::String(self.submission_socket().to_string());
        if let Some(submission) = json.get_mut("submission").and_then(|value| value.as_object_mut())
        {
            submission.insert("listen".to_owned(), listen);
        }
        json
    }

    fn resolve(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
        resolve(&mut self.data_dir);
        self.tls.resolve(folder);
        if let Some(SocketSpec::Unix(path)) = &mut self.submission.listen {
            resolve(path);
        }
    }
}

/// Tells mistakes of YAML from mistakes in what it says: only the latter have a key.
fn check_syntax(text: &str) -> Result<(), ConfigError> {
    match serde_yaml::from_str::<serde_yaml::Value>(text) {
        // With its path, when the sections are read.
        Err(error) if error.to_string().contains("duplicate entry") => Ok(()),
        Err(error) => Err(ConfigError::from_syntax(&error)),
        Ok(_) => Ok(()),
    }
}
