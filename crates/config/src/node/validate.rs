//! Values with relations: what each section may say in the light of the others (C1).

use std::collections::BTreeMap;
use std::net::IpAddr;

use alys_stream_protocol::federation::{Federation, FederationError, Member};
use alys_stream_protocol::limits;
use alys_stream_transport::endpoint::{EndpointError, PLAINTEXT_ANYWHERE};
use bitcoin::secp256k1::PublicKey;

use super::{DRAIN_MAX, ENDPOINTS_MAX, FederationSection, NodeConfig};
use crate::SocketSpec;
use crate::error::{ConfigError, tls_error};

/// Longest path of a Unix socket, in bytes: the operating system's field has 108 with the final
/// zero on Linux, 104 elsewhere.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

impl NodeConfig {
    /// Checks what the values mean together, without touching any file.
    ///
    /// # Errors
    ///
    /// Names the first key that contradicts another one or is out of its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_node()?;
        self.validate_endpoints()?;
        self.validate_tls()?;
        self.federation()?;
        self.transport.validate()?;
        self.validate_layers()?;
        self.validate_submission()?;
        self.validate_admin()?;
        if self.shutdown.drain > DRAIN_MAX {
            let what = format!("{} s are more than one hour", self.shutdown.drain.as_secs());
            let cure = "give at most 1h: what is not delivered stays in the buffer";
            return Err(ConfigError::invalid("shutdown.drain", what, cure));
        }
        Ok(())
    }

    fn validate_node(&self) -> Result<(), ConfigError> {
        validate_name("node.id", &self.node.id)?;
        if let Some(region) = &self.node.region {
            validate_name("node.region", region)?;
        }
        if let Some(key) = &self.node.public_key {
            parse_key("node.public_key", key)?;
        }
        Ok(())
    }

    fn validate_endpoints(&self) -> Result<(), ConfigError> {
        let count = self.endpoints.len();
        if count == 0 {
            let cure = "list at least one governance node, with `name` and `url`";
            return Err(ConfigError::invalid("endpoints", "no endpoint", cure));
        }
        if count > ENDPOINTS_MAX {
            let what = format!("{count} endpoints");
            return Err(ConfigError::invalid(
                "endpoints",
                what,
                format!("list at most {ENDPOINTS_MAX}"),
            ));
        }
        let (mut places, mut peers) = (BTreeMap::new(), BTreeMap::new());
        for (place, endpoint) in self.endpoints.iter().enumerate() {
            endpoint.check().map_err(|error| endpoint_error(place, &error))?;
            if let Some(region) = &endpoint.region {
                validate_name(&format!("endpoints[{place}].region"), region)?;
            }
            if let Some(first) = places.insert(&endpoint.name, place) {
                let key = format!("endpoints[{place}].name");
                let what = format!("{:?} is the name of endpoints[{first}] too", endpoint.name);
                return Err(ConfigError::invalid(key, what, "give each one its own name"));
            }
            // Two links to one peer would share a log, and fence each other for ever.
            let peer = (endpoint.url.authority(), &endpoint.server_name);
            if let Some(first) = peers.insert(peer, place) {
                let key = format!("endpoints[{place}].url");
                let what = format!("endpoints[{first}] has the same address");
                return Err(ConfigError::invalid(key, what, "list each governance node once"));
            }
        }
        if !self.endpoints.iter().any(|endpoint| endpoint.enabled) {
            let cure = "set `enabled: true` for at least one";
            return Err(ConfigError::invalid("endpoints", "none is enabled", cure));
        }
        Ok(())
    }

    fn validate_tls(&self) -> Result<(), ConfigError> {
        self.tls.check().map_err(|error| tls_error(&error))
    }

    /// The configured federation, checked.
    ///
    /// # Errors
    ///
    /// When a key is not a compressed public key, or members and threshold contradict each other.
    pub fn federation(&self) -> Result<Option<Federation>, ConfigError> {
        self.federation.as_ref().map(FederationSection::federation).transpose()
    }

    fn validate_submission(&self) -> Result<(), ConfigError> {
        let key = "submission.listen";
        match self.submission_socket() {
            SocketSpec::Unix(path) => {
                let bytes = path.as_os_str().len();
                if bytes > SOCKET_PATH_BYTES_MAX {
                    let what = format!(
                        "the socket {} has a path of {bytes} bytes, more than the \
                         {SOCKET_PATH_BYTES_MAX} of the operating system",
                        path.display()
                    );
                    let cure = "name a shorter path, or use 127.0.0.1:PORT";
                    return Err(ConfigError::invalid(key, what, cure));
                }
                Ok(())
            }
            socket @ SocketSpec::Tcp { .. } if !socket.is_local() => {
                let what = format!("{socket} can be reached from other machines");
                let cure = "use unix:PATH or 127.0.0.1:PORT: the interface has no authentication";
                Err(ConfigError::invalid(key, what, cure))
            }
            SocketSpec::Tcp { .. } => Ok(()),
        }
    }

    fn validate_admin(&self) -> Result<(), ConfigError> {
        let admin = self.admin.listen;
        let Some(SocketSpec::Tcp { host, port }) = &self.submission.listen else {
            return Ok(());
        };
        let same_host = host
            .parse::<IpAddr>()
            .map_or(host == "localhost", |ip| ip == admin.ip() || admin.ip().is_unspecified());
        if same_host && *port == admin.port() && *port != 0 {
            let what = format!("{admin} is the address of `submission.listen` too");
            return Err(ConfigError::invalid("admin.listen", what, "choose another port"));
        }
        Ok(())
    }
}

impl FederationSection {
    fn federation(&self) -> Result<Federation, ConfigError> {
        let mut members = Vec::with_capacity(self.members.len());
        for (place, member) in self.members.iter().enumerate() {
            let key = format!("federation.members[{place}].public_key");
            let public_key = parse_key(&key, &member.public_key)?;
            members.push(Member { id: member.id.clone(), public_key, weight: member.weight });
        }
        Federation::try_new(self.threshold, members, self.script).map_err(|error| {
            let is_threshold = matches!(error, FederationError::Threshold { .. });
            let (key, cure) = if is_threshold {
                ("federation.threshold", "correct it, or add the missing members")
            } else {
                ("federation.members", "correct the members")
            };
            ConfigError::invalid(key, error.to_string(), cure)
        })
    }
}

/// The transport names the endpoint and ends with the cure; here the key says which one it is.
fn endpoint_error(place: usize, error: &EndpointError) -> ConfigError {
    let (key, name) = match error {
        EndpointError::Name { .. } => ("name", None),
        EndpointError::Weight { name } => ("weight", Some(name)),
        EndpointError::ServerName { name, .. } => ("server_name", Some(name)),
        EndpointError::Contradiction { name, .. } | EndpointError::NotLoopback { name, .. } => {
            ("insecure", Some(name))
        }
        EndpointError::Pointless { name, .. } => (PLAINTEXT_ANYWHERE, Some(name)),
        EndpointError::PlaintextNotAllowed { name, .. } => ("url", Some(name)),
    };
    let text = error.to_string();
    let prefix = name.map(|name| format!("endpoint {name}: ")).unwrap_or_default();
    let text = text.strip_prefix(&prefix).unwrap_or(&text);
    let text = text.strip_prefix(&format!("{PLAINTEXT_ANYWHERE} ")).unwrap_or(text);
    let (what, cure) = text.rsplit_once("; ").unwrap_or((text, "correct it"));
    ConfigError::invalid(format!("endpoints[{place}].{key}"), what, cure)
}

/// Names end up in metrics, logs and on the wire.
pub(super) fn validate_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let bytes = name.len();
    if bytes == 0 || bytes > limits::NODE_ID_BYTES_MAX {
        let cure = format!("give 1 to {}", limits::NODE_ID_BYTES_MAX);
        return Err(ConfigError::invalid(key, format!("{bytes} bytes"), cure));
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let what = format!("{name:?} has white space or control characters");
        return Err(ConfigError::invalid(key, what, "use letters, digits, dots and hyphens"));
    }
    Ok(())
}

fn parse_key(key: &str, digits: &str) -> Result<PublicKey, ConfigError> {
    let parsed = digits.parse().ok().filter(|_| digits.len() == 66);
    parsed.ok_or_else(|| {
        let what = "not a compressed secp256k1 public key";
        ConfigError::invalid(key, what, "give its 66 hexadecimal digits, which begin with 02 or 03")
    })
}
