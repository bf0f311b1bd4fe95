//! Why a governance node does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use alys_stream_messaging::log::OpenError;
use alys_stream_transport::tls::TlsLoadError;

use crate::config::ConfigError;
use crate::keys::KeysError;

/// A governance node that does not start. One line: what, where, the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The key file cannot be used.
    #[error("keys: {0}")]
    Keys(#[from] KeysError),
    /// Certificates, keys or revocation lists do not make a TLS configuration.
    #[error("{0}")]
    Tls(#[from] TlsLoadError),
    /// The address cannot be listened on.
    #[error(
        "{key}: cannot listen on {address} ({source}); free the port, or configure another one (0 takes any)"
    )]
    Listen {
        /// Its key in the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A log in the data directory cannot be opened.
    #[error("data_dir: {0}")]
    Log(#[from] OpenError),
    /// A file in the data directory cannot be opened.
    #[error("data_dir: {} cannot be opened ({source}); make it readable and writable, or configure another", path.display())]
    DataDir {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A broken invariant of ours.
    #[error("broken: {0}; please report this")]
    Broken(String),
}

/// What kind of failure it is: a program exits with a code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartErrorKind {
    /// The configuration is wrong: 78.
    Config,
    /// Something that is needed is not available now: 69.
    Unavailable,
    /// The disk says no: 74.
    Io,
}

impl StartError {
    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> StartErrorKind {
        match self {
            Self::Config(_) | Self::Keys(_) | Self::Tls(_) => StartErrorKind::Config,
            Self::Listen { .. } | Self::Broken(_) => StartErrorKind::Unavailable,
            Self::Log(_) | Self::DataDir { .. } => StartErrorKind::Io,
        }
    }
}
