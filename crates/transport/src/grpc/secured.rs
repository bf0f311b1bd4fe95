//! Where the TLS configuration of an attempt comes from: fixed, or reloaded while we run.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use crate::tls::{ClientSource, ClientTls, PeerTrust, TlsFault, peer_identity};

/// How endpoints speak TLS.
#[derive(Debug, Clone)]
pub enum EndpointTls {
    /// Always the same.
    Fixed(Arc<ClientConfig>),
    /// Whatever is in force when an attempt begins; a connection whose peer loses its trust by a
    /// reload is dropped at once.
    Live(ClientSource),
}

/// The configuration of one attempt.
#[derive(Debug, Clone)]
pub(super) enum Secured {
    Fixed(Arc<ClientConfig>),
    Live(ClientSource, Arc<ClientTls>),
}

impl EndpointTls {
    /// As it is now.
    pub(super) fn current(&self) -> Secured {
        match self {
            Self::Fixed(config) => Secured::Fixed(Arc::clone(config)),
            Self::Live(source) => Secured::Live(source.clone(), source.current()),
        }
    }
}

impl Secured {
    pub(super) fn config(&self) -> &Arc<ClientConfig> {
        match self {
            Self::Fixed(config) => config,
            Self::Live(_, tls) => tls.config(),
        }
    }

    /// Looks after the peer of one connection; `None` when nothing can change about it.
    pub(super) fn watch(
        &self,
        name: &str,
        chain: &[CertificateDer<'static>],
    ) -> Result<Option<PeerTrust>, TlsFault> {
        match self {
            Self::Fixed(_) => Ok(None),
            Self::Live(source, tls) => source.watch_peer(tls, name, chain).map(Some),
        }
    }
}

/// When the certificate of the peer expires, in Unix seconds.
pub(super) fn expires_at(chain: &[CertificateDer<'static>]) -> Option<i64> {
    peer_identity(chain.first()?).ok().map(|identity| identity.expires_at)
}
