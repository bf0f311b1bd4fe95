//! What a governance node is told in its configuration file.
//!
//! One YAML file becomes one [`GovernanceConfig`]: unknown keys, wrong types and contradictions are
//! errors that name the file, the key path and the cure in one line.
//! Relative paths are relative to the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_stream_protocol::federation::{Federation, Member, ScriptKind};
use alys_stream_protocol::limits::NODE_ID_BYTES_MAX;
use alys_stream_telemetry::logs::LogConfig;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::misbehaviour::Misbehaviour;

mod error;
mod limits;
mod tls;

pub use error::ConfigError;
pub use limits::LimitsSection;
pub use tls::TlsSection;

/// Default interval between heartbeats: below the idle limit of every proxy.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// Default time for streams to finish when the node stops.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Default number of message ids that are remembered beyond sessions.
pub const LEDGER_IDS_MAX: usize = 1_000_000;

/// Configuration of one governance node.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GovernanceConfig {
    /// Name of this node; peers see it.
    pub id: String,
    /// Address of the gRPC server. Port 0 takes a free one.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// The admin server.
    #[serde(default)]
    pub admin: AdminSection,
    /// Where logs are kept: what was received, applied and is still to be sent.
    pub data_dir: PathBuf,
    /// Certificates. Required, unless `insecure` says otherwise.
    #[serde(default)]
    pub tls: Option<TlsSection>,
    /// What strangers and peers may take.
    #[serde(default)]
    pub limits: LimitsSection,
    /// Gives up encryption and authentication; on loopback only.
    #[serde(default)]
    pub insecure: Option<Insecure>,
    /// The federation in force. Absent: the keys of this node alone, for local development.
    #[serde(default)]
    pub federation: Option<FederationSection>,
    /// File with the secret keys of the members that this node holds: one per line, hexadecimal or
    /// WIF, optionally preceded by `member id:`.
    #[serde(default)]
    pub keys: Option<PathBuf>,
    /// Whether a missing `keys` file is created with one new key.
    #[serde(default)]
    pub generate_keys: bool,
    /// What is offered to peers.
    #[serde(default = "both_dialects")]
    pub dialects: Vec<Dialect>,
    /// Interval between heartbeats on sessions.
    #[serde(default = "heartbeat", with = "humantime_serde")]
    pub heartbeat: Duration,
    /// Time for streams to finish when the node stops.
    #[serde(default = "drain", with = "humantime_serde")]
    pub drain: Duration,
    /// Message ids remembered beyond what sessions remember exactly: bounds the memory (about
    /// 100 bytes each) of dedup on plain streams and across dialects.
    #[serde(default = "ledger_ids_max")]
    pub ledger_ids_max: usize,
    /// How it logs.
    #[serde(default)]
    pub log: LogConfig,
    /// What it does wrong from the start.
    #[serde(default)]
    pub misbehave: Misbehaviour,
}

/// The admin server: health, metrics, status, ledger, misbehaviour, pushes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSection {
    /// Its address; loopback, since it has no authentication. Port 0 takes a free one.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self { listen: loopback() }
    }
}

/// Ways to be insecure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Insecure {
    /// No TLS: anyone who reaches the port is believed to be who they say.
    PlaintextWithoutAuthentication,
}

/// What peers may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `alys.stream.v1`.
    Session,
    /// `governance.v1` as published.
    Plain,
}

/// The federation in force.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FederationSection {
    /// Bitcoin network: `bitcoin`, `testnet`, `signet` or `regtest`.
    pub network: bitcoin::Network,
    /// Signatures that an input needs.
    pub threshold: u32,
    /// Kind of the federation's outputs.
    #[serde(default = "p2wsh")]
    pub script: ScriptKind,
    /// Its members.
    pub members: Vec<MemberSection>,
}

/// One member of the federation.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSection {
    /// Its name.
    pub id: String,
    /// Its compressed public key, 66 hexadecimal digits.
    pub public_key: String,
    /// Its weight in votes over federation updates.
    #[serde(default = "one")]
    pub weight: u32,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn both_dialects() -> Vec<Dialect> {
    vec![Dialect::Session, Dialect::Plain]
}

const fn heartbeat() -> Duration {
    HEARTBEAT
}

const fn drain() -> Duration {
    DRAIN
}

const fn ledger_ids_max() -> usize {
    LEDGER_IDS_MAX
}

const fn p2wsh() -> ScriptKind {
    ScriptKind::P2wsh
}

const fn one() -> u32 {
    1
}

impl GovernanceConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has an unknown key or a value of the wrong type, or contradicts
    /// itself. The error is one line that names the file, the key and the cure.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = files::read_text(path).map_err(|error| {
            ConfigError::new("", error.to_string(), "give the path of a readable YAML file")
                .in_file(&file)
        })?;
        let mut config = Self::parse(&text).map_err(|error| error.in_file(&file))?;
        config.resolve_paths(path.parent().unwrap_or_else(|| Path::new("")));
        config.validate().map_err(|error| error.in_file(&file))?;
        Ok(config)
    }

    /// Reads YAML text, without checking what the values mean together.
    ///
    /// # Errors
    ///
    /// When a key is unknown or missing, or a value has the wrong type.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let yaml = serde_yaml::Deserializer::from_str(text);
        serde_path_to_error::deserialize(yaml).map_err(|error| ConfigError::from_yaml(&error))
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
        resolve(&mut self.data_dir);
        if let Some(keys) = &mut self.keys {
            resolve(keys);
        }
        if let Some(tls) = &mut self.tls {
            tls.resolve(folder);
        }
    }

    /// Checks what the values mean together.
    ///
    /// # Errors
    ///
    /// Names the first contradiction.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.id.is_empty() || self.id.len() > NODE_ID_BYTES_MAX {
            let problem = format!("has {} bytes", self.id.len());
            return Err(ConfigError::new("id", problem, format!("use 1 to {NODE_ID_BYTES_MAX}")));
        }
        self.validate_security()?;
        self.limits.validate()?;
        if self.dialects.is_empty() {
            return Err(ConfigError::new(
                "dialects",
                "is empty",
                "list `session`, `plain` or both",
            ));
        }
        if self.heartbeat.is_zero() {
            return Err(ConfigError::new("heartbeat", "is zero", "use for example `15s`"));
        }
        if self.ledger_ids_max == 0 {
            return Err(ConfigError::new(
                "ledger_ids_max",
                "is zero",
                "leave it out, or use at least 1",
            ));
        }
        if self.federation.is_none() && self.keys.is_none() {
            let cure = "name a file with the member's secret key, and set `generate_keys: true` to create it";
            return Err(ConfigError::new("keys", "is missing, and there is no `federation`", cure));
        }
        self.try_federation().map(drop)
    }

    fn validate_security(&self) -> Result<(), ConfigError> {
        if !self.admin.listen.ip().is_loopback() {
            let problem = format!("{} is not a loopback address", self.admin.listen);
            let cure = "use for example 127.0.0.1:9200: the admin server has no authentication";
            return Err(ConfigError::new("admin.listen", problem, cure));
        }
        match (&self.tls, self.insecure) {
            (Some(tls), None) => tls.settings().check().map_err(|error| {
                ConfigError::new(error.key(), error.to_string(), "correct the value")
            }),
            (None, None) => Err(ConfigError::new(
                "tls",
                "is missing",
                "give `certificate`, `key` and `client_ca`, or, on loopback only, \
                 `insecure: plaintext_without_authentication`",
            )),
            (Some(_), Some(_)) => {
                Err(ConfigError::new("insecure", "contradicts `tls`", "remove one of the two"))
            }
            (None, Some(Insecure::PlaintextWithoutAuthentication))
                if !self.listen.ip().is_loopback() =>
            {
                let problem =
                    format!("{} is not a loopback address and there is no TLS", self.listen);
                Err(ConfigError::new("listen", problem, "use 127.0.0.1, or give `tls`"))
            }
            (None, Some(Insecure::PlaintextWithoutAuthentication)) => Ok(()),
        }
    }

    /// The configured federation, checked; `None` when none is configured.
    ///
    /// # Errors
    ///
    /// When a key is not a compressed public key, or the members contradict the threshold.
    pub fn try_federation(&self) -> Result<Option<Federation>, ConfigError> {
        let Some(section) = &self.federation else {
            return Ok(None);
        };
        let mut members = Vec::with_capacity(section.members.len());
        for (place, member) in section.members.iter().enumerate() {
            let public_key = member.public_key.parse().map_err(|_| {
                let key = format!("federation.members[{place}].public_key");
                let cure = "use the 66 hexadecimal digits of a compressed secp256k1 key";
                ConfigError::new(key, "is not a public key", cure)
            })?;
            members.push(Member { id: member.id.clone(), public_key, weight: member.weight });
        }
        Federation::try_new(section.threshold, members, section.script).map(Some).map_err(|error| {
            ConfigError::new(
                "federation",
                error.to_string(),
                "correct the members or the threshold",
            )
        })
    }

    /// The Bitcoin network of the federation; regtest when none is configured.
    #[must_use]
    pub fn network(&self) -> bitcoin::Network {
        self.federation.as_ref().map_or(bitcoin::Network::Regtest, |federation| federation.network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSECURE: &str =
        "id: gov-1\ndata_dir: data\nkeys: keys\ninsecure: plaintext_without_authentication\n";

    #[track_caller]
    fn check_error(text: &str, parts: &[&str]) {
        let error = GovernanceConfig::parse(text).and_then(|config| config.validate()).unwrap_err();
        let line = error.in_file("gov.yaml").to_string();
        assert!(!line.contains('\n'), "{line}");
        for part in ["gov.yaml"].iter().chain(parts) {
            assert!(line.contains(part), "{part} in: {line}");
        }
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = GovernanceConfig::parse(INSECURE).unwrap();
        config.validate().unwrap();
        assert_eq!(config.heartbeat, HEARTBEAT);
        assert_eq!(config.dialects, [Dialect::Session, Dialect::Plain]);
    }

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        check_error("limits: {\"a\\nb\": 1}\n", &["limits.a b: unknown key"]);
        let error = GovernanceConfig::parse("x: 1\n").unwrap_err().in_file("a\nb.yaml");
        assert!(error.to_string().starts_with("a b.yaml: x: unknown key"), "{error}");
    }

    #[test]
    fn errors_name_the_key_and_the_cure() {
        check_error(
            &format!("{INSECURE}hartbeat: 3s\n"),
            &["hartbeat", "unknown key", "`heartbeat`"],
        );
        check_error(
            &format!("{INSECURE}misbehave: {{delay_msec: 3}}\n"),
            &["misbehave.delay_msec", "`delay_ms`"],
        );
        check_error(&format!("{INSECURE}listen: nowhere\n"), &["listen"]);
        check_error("id: gov-1\n", &["data_dir", "missing"]);
        check_error("id: gov-1\ndata_dir: data\nkeys: k\n", &["tls", "client_ca"]);
        check_error(&format!("{INSECURE}listen: 0.0.0.0:1\n"), &["listen", "loopback"]);
        check_error(
            &format!("{INSECURE}admin: {{listen: 0.0.0.0:1}}\n"),
            &["admin.listen", "loopback"],
        );
        check_error(
            &format!("{INSECURE}tls: {{certificate: a, key: b, client_ca: c}}\n"),
            &["insecure", "tls"],
        );
        check_error(&format!("{INSECURE}dialects: []\n"), &["dialects"]);
        for (key, value) in [
            ("connections_max", "0"),
            ("handshakes_max", "0"),
            ("handshake_timeout", "1h"),
            ("streams_max", "70000"),
            ("header_bytes_max", "5"),
        ] {
            let text = format!("{INSECURE}limits: {{{key}: {value}}}\n");
            check_error(&text, &[&format!("limits.{key}"), value.trim_end_matches('h'), "use"]);
        }
        let tls = "id: a\ndata_dir: d\nkeys: k\ntls: {certificate: a, key: b, client_ca: c, ";
        check_error(&format!("{tls}reload: {{poll: 0s}}}}\n"), &["tls.reload.poll", "10ms"]);
        check_error(&format!("{tls}crls: {{unknown: maybe}}}}\n"), &["tls.crls.unknown"]);
        check_error(
            &format!(
                "{INSECURE}federation: {{network: regtest, threshold: 1, members: [{{id: a, public_key: zz}}]}}\n"
            ),
            &["federation.members[0].public_key", "66"],
        );
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let mut config = GovernanceConfig::parse(INSECURE).unwrap();
        config.resolve_paths(Path::new("/etc/gov"));
        assert_eq!(config.data_dir, Path::new("/etc/gov/data"));
        assert_eq!(config.keys.as_deref(), Some(Path::new("/etc/gov/keys")));
    }
}
