//! The `tls` section: certificates of the gRPC server.

use std::path::{Path, PathBuf};

use alys_stream_transport::tls::{ReloadConfig, Revocation, ServerSettings};
use serde::{Deserialize, Serialize};

/// Certificates of the gRPC server. Clients must present one that `client_ca` issued. All files are
/// reloaded while the node runs: new connections use the new ones, connections of clients that are
/// not trusted any more are cut at once, all others go on.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// PEM file with the certificate chain of this node.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file with the authorities that issue client certificates.
    pub client_ca: PathBuf,
    /// Whether a client may only call itself by a name of its certificate (common name or DNS
    /// name). Off: any certificate of `client_ca` will do, and a mismatch is logged.
    #[serde(default)]
    pub require_node_name: bool,
    /// Client certificates that were valid once. Default: none.
    #[serde(default)]
    pub crls: Revocation,
    /// When changed files are noticed.
    #[serde(default)]
    pub reload: ReloadConfig,
}

impl TlsSection {
    /// What the TLS of the server is told.
    #[must_use]
    pub fn settings(&self) -> ServerSettings {
        ServerSettings {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            crls: self.crls.clone(),
            reload: self.reload,
        }
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        let files = [&mut self.certificate, &mut self.key, &mut self.client_ca];
        for path in files.into_iter().chain(&mut self.crls.files) {
            *path = folder.join(&*path);
        }
    }
}
