//! A configured governance address.
//!
//! Not a connection: [`crate::grpc`] keeps one to each endpoint.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

mod keepalive;
mod url;

pub use keepalive::{
    INTERVAL_MAX, INTERVAL_MIN, Keepalive, KeepaliveConfig, KeepaliveProfile, STRICT_INTERVAL,
};
pub use url::{EndpointUrl, InvalidUrl};

/// Longest name of an endpoint, in bytes: it labels metrics and log lines.
pub const NAME_BYTES_MAX: usize = 64;

/// The key of [`EndpointConfig::insecure_plaintext_to_other_machines_anyone_can_read_and_forge`].
pub const PLAINTEXT_ANYWHERE: &str =
    "insecure_plaintext_to_other_machines_anyone_can_read_and_forge";

/// One governance node, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Names it in logs, metrics and commands: 1 to 64 of `a-z`, `A-Z`, `0-9`, `-`, `_`, `.`.
    pub name: String,
    /// Where it listens: `https://host:port`.
    pub url: EndpointUrl,
    /// The name its certificate must carry, when that is not the host of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Higher wins; default 100.
    #[serde(default = "default_priority")]
    pub priority: u32,
    /// Its share among endpoints of one priority, at least 1; default 1.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// Where it stands, for region preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether to connect to it; default true.
    #[serde(default = "default_enabled")]
    pub enabled: bool,
    /// What to speak with it; default: ask it.
    #[serde(default)]
    pub dialect: DialectChoice,
    /// How often HTTP/2 may ask whether it is there; default `normal`, `strict_peer` for default
    /// gRPC servers, which close a connection for more than one ping in five minutes.
    #[serde(default)]
    pub keepalive: KeepaliveProfile,
    /// Gives up on TLS, for a peer on this machine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure: Option<Insecure>,
    /// Gives up on TLS for a peer anywhere, beside [`Self::insecure`]: everyone on the way can read
    /// what is sent and send what they like in either name. Default false.
    #[serde(default, skip_serializing_if = "is_not")]
    pub insecure_plaintext_to_other_machines_anyone_can_read_and_forge: bool,
}

// The signature that serde asks for.
const fn is_not(flag: &bool) -> bool {
    !*flag
}

const fn default_priority() -> u32 {
    100
}

const fn default_weight() -> u32 {
    1
}

const fn default_enabled() -> bool {
    true
}

/// What to speak with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DialectChoice {
    /// Whatever `GetCapabilities` answers.
    #[default]
    Auto,
    /// `alys.stream.v1` sessions.
    Session,
    /// `governance.v1` alone.
    Plain,
}

/// What is spoken with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `alys.stream.v1` sessions: applied exactly once.
    Session,
    /// `governance.v1` alone, with the heartbeat barrier: at least once.
    Plain,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Plain => "plain",
        })
    }
}

/// Ways to give up protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Insecure {
    /// No TLS at all; only to a loopback address, whatever its name says, unless
    /// [`EndpointConfig::insecure_plaintext_to_other_machines_anyone_can_read_and_forge`] is set.
    Plaintext,
}

impl EndpointConfig {
    /// An endpoint with every default.
    #[must_use]
    pub fn new(name: impl Into<String>, url: EndpointUrl) -> Self {
        Self {
            name: name.into(),
            url,
            server_name: None,
            priority: default_priority(),
            weight: default_weight(),
            region: None,
            enabled: true,
            dialect: DialectChoice::Auto,
            keepalive: KeepaliveProfile::Normal,
            insecure: None,
            insecure_plaintext_to_other_machines_anyone_can_read_and_forge: false,
        }
    }

    /// Checks what the types alone cannot.
    ///
    /// # Errors
    ///
    /// The first contradiction found, with its cure.
    pub fn check(&self) -> Result<(), EndpointError> {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.chars().all(named)
        {
            return Err(EndpointError::Name { name: self.name.clone() });
        }
        let name = self.name.clone();
        if self.weight == 0 {
            return Err(EndpointError::Weight { name });
        }
        if let Some(server_name) = &self.server_name
            && rustls::pki_types::ServerName::try_from(server_name.as_str()).is_err()
        {
            let server_name = server_name.clone();
            return Err(EndpointError::ServerName { name, server_name });
        }
        let url = self.url.clone();
        let anywhere = self.insecure_plaintext_to_other_machines_anyone_can_read_and_forge;
        match (self.url.is_tls(), self.insecure) {
            (true, Some(Insecure::Plaintext)) => Err(EndpointError::Contradiction { name, url }),
            (true | false, None) if anywhere => Err(EndpointError::Pointless { name }),
            (true, None) => Ok(()),
            (false, None) => Err(EndpointError::PlaintextNotAllowed { name, url }),
            (false, Some(Insecure::Plaintext)) if anywhere || self.url.is_loopback() => Ok(()),
            (false, Some(Insecure::Plaintext)) => Err(EndpointError::NotLoopback { name, url }),
        }
    }

    /// Whether an address that the host of the URL resolved to may be dialled: without TLS only this
    /// machine, whatever a resolver makes of its name.
    #[must_use]
    pub const fn may_dial(&self, address: &SocketAddr) -> bool {
        self.url.is_tls()
            || self.insecure_plaintext_to_other_machines_anyone_can_read_and_forge
            || address.ip().to_canonical().is_loopback()
    }

    /// The name that the certificate must carry.
    #[must_use]
    pub fn tls_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or_else(|| self.url.host())
    }
}

/// An endpoint whose settings contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The name is empty, too long, or holds other characters.
    #[error(
        "endpoint name {name:?} is not usable: 1 to {NAME_BYTES_MAX} of letters, digits, '-', '_', '.'"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The weight is 0.
    #[error("endpoint {name}: weight 0 would never be chosen; use 1 or more, or enabled: false")]
    Weight {
        /// Which endpoint.
        name: String,
    },
    /// The server name is neither a DNS name nor an address.
    #[error("endpoint {name}: server_name {server_name:?} is neither a DNS name nor an IP address")]
    ServerName {
        /// Which endpoint.
        name: String,
        /// What it holds.
        server_name: String,
    },
    /// `https` and `insecure: plaintext`.
    #[error(
        "endpoint {name}: {url} asks for TLS and insecure: plaintext for none; remove one of them"
    )]
    Contradiction {
        /// Which endpoint.
        name: String,
        /// Its address.
        url: EndpointUrl,
    },
    /// `http` alone.
    #[error(
        "endpoint {name}: {url} has no TLS; use https://, or insecure: plaintext for a peer on this machine"
    )]
    PlaintextNotAllowed {
        /// Which endpoint.
        name: String,
        /// Its address.
        url: EndpointUrl,
    },
    /// Plaintext over a network.
    #[error(
        "endpoint {name}: insecure: plaintext is allowed to a loopback address only, and {url} is none; use https://"
    )]
    NotLoopback {
        /// Which endpoint.
        name: String,
        /// Its address.
        url: EndpointUrl,
    },
    /// The second flag without the first.
    #[error(
        "endpoint {name}: {PLAINTEXT_ANYWHERE} does nothing without insecure: plaintext; remove it"
    )]
    Pointless {
        /// Which endpoint.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn plaintext_goes_to_this_machine_whatever_its_name_says() {
        let config = EndpointConfig {
            insecure: Some(Insecure::Plaintext),
            ..EndpointConfig::new("one", "http://localhost:1".parse().unwrap())
        };
        let dialled = |config: &EndpointConfig| {
            [
                "127.0.0.1:1",
                "127.9.9.9:1",
                "[::1]:1",
                "[::ffff:127.0.0.1]:1",
                "10.0.0.1:1",
                "[fe80::1]:1",
            ]
            .map(|address| config.may_dial(&address.parse().unwrap()))
        };
        assert_eq!(dialled(&config), [true, true, true, true, false, false]);
        let insecure_plaintext_to_other_machines_anyone_can_read_and_forge = true;
        let anywhere = EndpointConfig {
            insecure_plaintext_to_other_machines_anyone_can_read_and_forge,
            ..config
        };
        assert_eq!(dialled(&anywhere), [true; 6]);
        let tls = EndpointConfig::new("one", "https://localhost:1".parse().unwrap());
        assert_eq!(dialled(&tls), [true; 6]);
    }

    #[test]
    fn contradictions_name_their_cure() {
        let endpoint = |url: &str| EndpointConfig::new("one", url.parse().unwrap());
        assert_eq!(endpoint("https://a:1").check(), Ok(()));
        let plain = |url| EndpointConfig { insecure: Some(Insecure::Plaintext), ..endpoint(url) };
        assert_eq!(plain("http://localhost:1").check(), Ok(()));
        let shown = |config: EndpointConfig| config.check().unwrap_err().to_string();
        expect!["endpoint one: http://127.0.0.1:1 has no TLS; use https://, or insecure: plaintext for a peer on this machine"]
            .assert_eq(&shown(endpoint("http://127.0.0.1:1")));
        expect!["endpoint one: insecure: plaintext is allowed to a loopback address only, and http://10.0.0.1:1 is none; use https://"]
            .assert_eq(&shown(plain("http://10.0.0.1:1")));
        expect!["endpoint one: https://a:1 asks for TLS and insecure: plaintext for none; remove one of them"]
            .assert_eq(&shown(plain("https://a:1")));
        let anywhere = |config| EndpointConfig {
            insecure_plaintext_to_other_machines_anyone_can_read_and_forge: true,
            ..config
        };
        assert_eq!(anywhere(plain("http://10.0.0.1:1")).check(), Ok(()));
        expect!["endpoint one: insecure_plaintext_to_other_machines_anyone_can_read_and_forge does nothing without insecure: plaintext; remove it"]
            .assert_eq(&shown(anywhere(endpoint("https://a:1"))));
        expect!["endpoint one: weight 0 would never be chosen; use 1 or more, or enabled: false"]
            .assert_eq(&shown(EndpointConfig { weight: 0, ..endpoint("https://a:1") }));
        expect![[r#"endpoint one: server_name "a b" is neither a DNS name nor an IP address"#]]
            .assert_eq(&shown(EndpointConfig {
                server_name: Some("a b".into()),
                ..endpoint("https://a:1")
            }));
        expect![[
            r#"endpoint name "a/b" is not usable: 1 to 64 of letters, digits, '-', '_', '.'"#
        ]]
        .assert_eq(&shown(EndpointConfig { name: "a/b".into(), ..endpoint("https://a:1") }));
    }
}
