//! The configuration of an Alys node: one YAML file becomes one checked value, or one line that
//! names the file, the key, what is wrong and the cure.
//!
//! This crate only composes the layers' own configuration structs: bounds and defaults live beside
//! what they bound. It knows nothing about what the values do.
//!
//! - [`NodeConfig`]: everything there is to say about a node. Every key is described in
//!   `docs/configuration.md`.
//! - [`Loaded`]: a configuration with what it refers to: certificates, keys, the federation.
//! - [`ConfigError`]: why there is none.
//! - [`SocketSpec`]: a Unix socket, or a host and a port.
//!
//! Invariants:
//! - C1: a [`NodeConfig`] that [`NodeConfig::parse`] returned has no contradictions.
//! - C2: no file is read but the ones that the configuration names, and none of them above
//!   [`FILE_BYTES_MAX`].
//! - C3: a configuration holds no secret, only the paths of files with secrets; errors never quote
//!   what those files hold.

mod error;
mod files;
mod load;
mod node;
mod socket;
#[cfg(test)]
mod tests;

pub use crate::error::{ConfigError, Found, Problem};
pub use crate::files::{FILE_BYTES_MAX, tls_files};
pub use crate::load::Loaded;
pub use crate::node::{
    AdminSection, AgreementPolicy, AgreementSection, BALANCE_PERIOD_MAX, DEAD_LETTER_AGE_MIN,
    DEAD_LETTER_BYTES_MIN, DRAIN, DRAIN_MAX, ENDPOINTS_MAX, FederationSection,
    INDEX_CACHE_BYTES_MAX, INDEX_CACHE_BYTES_MIN, MemberSection, NodeConfig, NodeRole, NodeSection,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, ShutdownSection, SubmissionSection, TlsSection,
    TransportSection,
};
pub use crate::socket::{InvalidSocket, SocketSpec};
