//! Reads the files that a governance configuration names, as a start would, and changes nothing.

use alys_stream_governance::GovernanceConfig;
use alys_stream_governance::config::TlsSection;
use alys_stream_governance::keys;
use alys_stream_transport::tls::ServerTls;

use crate::failure::Failure;

/// Checks keys, certificates and revocation lists.
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
    let loaded = ServerTls::load(&section.settings(), &alys_stream_config::tls_files());
    loaded.map(drop).map_err(Failure::config)
}
