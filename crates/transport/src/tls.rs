//! TLS 1.3 configurations from PEM, for both sides, and who the peer is.
//!
//! Not a connection and not a file reader: callers read the files and label them, so that an error
//! says which one is wrong.
//!
//! Invariants:
//! - T19: TLS 1.3 only; `h2` by ALPN; the hybrid X25519MLKEM768 is preferred.
//! - T20: the crypto provider is handed over explicitly, never taken from the process.
//! - T21: the name and the chain of a server are always validated, and a server always requires a
//!   certificate of its client.
//! - T22: private keys never appear in `Debug` output or errors.

use std::fmt;
use std::sync::Arc;

pub use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};

mod fault;
mod peer;

pub use fault::TlsFault;
pub use peer::{InvalidCertificate, PeerIdentity, peer_identity};

/// The one protocol that ALPN may choose.
pub const ALPN: &[u8] = b"h2";

/// PEM text with the name of where it came from.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// A file name or a configuration key, for errors.
    pub label: &'a str,
    /// The text.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Pem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // T22: it may be a private key.
        f.debug_struct("Pem").field("label", &self.label).field("bytes", &self.bytes.len()).finish()
    }
}

/// A certificate chain, leaf first, and its private key.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The chain.
    pub certificates: Pem<'a>,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: Pem<'a>,
}

/// Who may vouch for a server.
#[derive(Debug, Clone, Copy)]
pub enum Authorities<'a> {
    /// These private authorities and nobody else.
    Private(&'a [Pem<'a>]),
    /// The public authorities of the Mozilla programme.
    Public,
}

/// A TLS configuration cannot be made.
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

/// The crypto provider of both sides (T20), with the hybrid key exchange first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    Arc::new(CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    })
}

/// The configuration of the side that dials. The name of the server is validated against the name
/// that the dialler passes with each connection.
///
/// # Errors
///
/// When an input is unusable; the error names it.
pub fn client_config(
    authorities: Authorities<'_>,
    identity: Option<Identity<'_>>,
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let roots = match authorities {
        Authorities::Private(pems) => root_store(pems)?,
        Authorities::Public => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| TlsConfigError::Parameters(error.into()))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = read_identity(identity)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| identity_error(identity, source))?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The configuration of the side that listens: clients must show a certificate that one of
/// `client_authorities` vouches for.
///
/// # Errors
///
/// When an input is unusable; the error names it.
pub fn server_config(
    identity: Identity<'_>,
    client_authorities: &[Pem<'_>],
) -> Result<Arc<ServerConfig>, TlsConfigError> {
    let roots = Arc::new(root_store(client_authorities)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| TlsConfigError::Parameters(error.into()))?;
    let (chain, key) = read_identity(identity)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| TlsConfigError::Parameters(error.into()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|source| identity_error(identity, source))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Checks what ALPN chose: a peer that offers nothing passes the handshake and is refused here.
///
/// # Errors
///
/// When it is not `h2`.
pub fn check_alpn(chosen: Option<&[u8]>) -> Result<(), TlsFault> {
    if chosen == Some(ALPN) { Ok(()) } else { Err(TlsFault::NoHttp2) }
}

fn identity_error(identity: Identity<'_>, source: rustls::Error) -> TlsConfigError {
    TlsConfigError::Identity {
        certificates: identity.certificates.label.to_owned(),
        key: identity.key.label.to_owned(),
        source,
    }
}

fn read_identity(
    identity: Identity<'_>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsConfigError> {
    let chain = certificates(identity.certificates)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.bytes).map_err(|error| {
        if matches!(error, pem::Error::NoItemsFound) {
            return TlsConfigError::NoKey { label: identity.key.label.to_owned() };
        }
        pem_error(identity.key, &error)
    })?;
    Ok((chain, key))
}

fn root_store(pems: &[Pem<'_>]) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        for certificate in certificates(*pem)? {
            roots.add(certificate).map_err(|source| TlsConfigError::Authority {
                label: pem.label.to_owned(),
                source,
            })?;
        }
    }
    if roots.is_empty() { Err(TlsConfigError::NoAuthorities) } else { Ok(roots) }
}

fn certificates(pem: Pem<'_>) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let chain = CertificateDer::pem_slice_iter(pem.bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(pem, &error))?;
    if chain.is_empty() {
        return Err(TlsConfigError::NoCertificate { label: pem.label.to_owned() });
    }
    Ok(chain)
}

/// T22: the library's own text may quote a line of the input, which may be a key.
fn pem_error(input: Pem<'_>, error: &pem::Error) -> TlsConfigError {
    use pem::Error;
    let problem = if matches!(error, Error::MissingSectionEnd { .. }) {
        "a section has no END line"
    } else if matches!(error, Error::IllegalSectionStart { .. }) {
        "a section starts wrong"
    } else if matches!(error, Error::Base64Decode(_)) {
        "a section is not base64"
    } else if matches!(error, Error::NoItemsFound) {
        "nothing is in it"
    } else {
        "it is damaged"
    };
    TlsConfigError::Pem { label: input.label.to_owned(), problem }
}

#[cfg(test)]
pub(crate) mod tests;
