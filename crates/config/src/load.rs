//! A configuration with what it refers to.

use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::federation::Federation;
use alys_stream_transport::tls::ClientTls;
use rustls::ClientConfig;

use crate::error::tls_error;
use crate::{ConfigError, NodeConfig, TlsSection, files, tls_files};

/// A checked configuration, with the files it names read and checked.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration itself, its paths resolved.
    pub config: NodeConfig,
    /// What connections to governance are made with when nothing reloads it; `None` when every
    /// enabled endpoint is plaintext.
    pub tls: Option<Arc<ClientConfig>>,
    /// The federation in force at the first start.
    pub federation: Option<Federation>,
}

impl NodeConfig {
    /// Reads a configuration file and every file that it names, and checks them together.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`], and when a certificate or key cannot be read or used.
    pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
        Self::read(file)?.complete().map_err(|error| error.in_file(file))
    }

    /// Reads and checks every file that a configuration names.
    ///
    /// # Errors
    ///
    /// When a certificate or key cannot be read or used, or values contradict each other.
    pub fn complete(self) -> Result<Loaded, ConfigError> {
        self.validate()?;
        if files::is_no_folder(&self.data_dir) {
            let key = format!("data_dir: {}", self.data_dir.display());
            return Err(ConfigError::not_a_folder(key));
        }
        let federation = self.federation()?;
        let tls = client_config(&self.tls)?;
        let needed = self.endpoints.iter().any(|at| at.enabled && at.url.is_tls());
        Ok(Loaded { tls: needed.then_some(tls), federation, config: self })
    }
}

/// Reads and checks what the `tls` section names, as a start does.
fn client_config(section: &TlsSection) -> Result<Arc<ClientConfig>, ConfigError> {
    let read = tls_files();
    if let Some(path) = &section.key
        && read(path).is_ok_and(|bytes| is_encrypted(&bytes))
    {
        let what = format!("the key in {} is encrypted", path.display());
        let cure = "decrypt it (openssl pkey -in OLD -out NEW), and let only the node read it";
        return Err(ConfigError::invalid("tls.key", what, cure));
    }
    let tls = ClientTls::load(section, &read).map_err(|error| tls_error(&error))?;
    Ok(Arc::clone(tls.config()))
}

/// PKCS#8 says so in its title, the older forms in a header.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |mark: &[u8]| pem.windows(mark.len()).any(|window| window == mark);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}
