//! Reads the files that a governance configuration names, as a start would, and changes nothing.

use std::path::Path;

use alys_stream_governance::GovernanceConfig;
use alys_stream_governance::config::TlsSection;
use alys_stream_governance::keys;
use alys_stream_transport::tls::{self, Identity, Pem};

use crate::failure::Failure;

/// Checks keys and certificates.
///
/// # Errors
///
/// When a file cannot be read or used.
pub(super) fn files(config: &GovernanceConfig) -> Result<(), Failure> {
    if let Some(path) = &config.keys {
        let federation = config.try_federation()?;
        // A key file that the start would make is not missing.
        if path.exists() || !config.generate_keys {
            keys::load(path, false, &config.id, federation)
                .map_err(|error| Failure::config(format_args!("keys: {error}")))?;
        }
    }
    config.tls.as_ref().map_or(Ok(()), certificates)
}

fn certificates(section: &TlsSection) -> Result<(), Failure> {
    let certificates = Named::read("tls.certificate", &section.certificate)?;
    let key = Named::read("tls.key", &section.key)?;
    let authority = Named::read("tls.client_ca", &section.client_ca)?;
    let identity = Identity { certificates: certificates.pem(), key: key.pem() };
    tls::server_config(identity, &[authority.pem()]).map(drop).map_err(Failure::config)
}

struct Named {
    label: String,
    bytes: Vec<u8>,
}

impl Named {
    fn read(key: &str, path: &Path) -> Result<Self, Failure> {
        let label = format!("{key}: {}", path.display());
        let bytes = std::fs::read(path).map_err(|error| {
            Failure::config(format_args!("{label}: {error} (give the path of a readable PEM file)"))
        })?;
        Ok(Self { label, bytes })
    }

    fn pem(&self) -> Pem<'_> {
        Pem { label: &self.label, bytes: &self.bytes }
    }
}
