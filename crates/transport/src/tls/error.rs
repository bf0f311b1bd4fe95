//! Why a TLS configuration cannot be made.

use std::io;
use std::time::Duration;

use super::pin::InvalidPinLine;

/// Certificates and keys do not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// Not PEM, or damaged.
    #[error("{label} is not readable as PEM: {problem}; export it again in PEM form")]
    Pem {
        /// Which input.
        label: String,
        /// What is wrong; never the content.
        problem: &'static str,
    },
    /// PEM without a certificate.
    #[error("{label} holds no certificate (no BEGIN CERTIFICATE section)")]
    NoCertificate {
        /// Which input.
        label: String,
    },
    /// PEM without a private key.
    #[error("{label} holds no private key (PKCS#8, PKCS#1 or SEC1; encrypted keys are not read)")]
    NoKey {
        /// Which input.
        label: String,
    },
    /// An authority that cannot vouch for anyone.
    #[error("{label} holds a certificate that cannot serve as an authority")]
    Authority {
        /// Which input.
        label: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// No authority at all.
    #[error("no certificate authority is configured; name at least one CA file")]
    NoAuthorities,
    /// Certificate and key do not go together, or are of an unusable kind.
    #[error(
        "{certificates} and {key} do not make an identity; use the key that the certificate was made for"
    )]
    Identity {
        /// The certificate input.
        certificates: String,
        /// The key input.
        key: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The library refuses the parameters.
    #[error("TLS parameters are not usable")]
    Parameters(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Settings and files do not make a generation of TLS. A label is a configuration key and, after a
/// space, the path that it names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsLoadError {
    /// Certificates and keys do not make a TLS configuration.
    #[error("{0}")]
    Config(#[from] TlsConfigError),
    /// A file that cannot be read.
    #[error("{label} cannot be read ({source}); give the path of a readable file")]
    Unreadable {
        /// Which input.
        label: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate without its key, or the other way round.
    #[error("{present} is configured without {absent}; name both, or neither")]
    HalfIdentity {
        /// The configuration key that is there.
        present: &'static str,
        /// The configuration key that is not.
        absent: &'static str,
    },
    /// Neither PEM nor DER of a revocation list.
    #[error(
        "{label} holds no usable certificate revocation list ({problem}); export it again in PEM or DER form"
    )]
    RevocationList {
        /// Which input.
        label: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of pins with a line that is none.
    #[error("{label}: {source}")]
    Pin {
        /// Which input.
        label: String,
        /// Which line; never what it holds.
        #[source]
        source: InvalidPinLine,
    },
    /// A list that is too long.
    #[error("{key} has {count} entries and may have {max}; remove some")]
    TooMany {
        /// Which configuration key.
        key: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// An interval that is out of its range.
    #[error("{key} is {value:?}; use {min:?} to {max:?}")]
    Interval {
        /// Which configuration key.
        key: &'static str,
        /// What it says.
        value: Duration,
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
}

impl TlsConfigError {
    /// What the input is labelled with; for settings the configuration key and the path.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Pem { label, .. }
            | Self::NoCertificate { label }
            | Self::NoKey { label }
            | Self::Authority { label, .. }
            | Self::Identity { key: label, .. } => Some(label),
            Self::NoAuthorities | Self::Parameters(_) => None,
        }
    }
}

impl TlsLoadError {
    /// The configuration key to look at.
    #[must_use]
    pub fn key(&self) -> &str {
        let label = match self {
            Self::Config(error) => error.label().unwrap_or("tls"),
            Self::Unreadable { label, .. }
            | Self::RevocationList { label, .. }
            | Self::Pin { label, .. } => label,
            Self::HalfIdentity { absent, .. } => absent,
            Self::TooMany { key, .. } | Self::Interval { key, .. } => key,
        };
        label.split_once(' ').map_or(label, |(key, _)| key)
    }
}
