//! A configuration with what it refers to.

use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::federation::Federation;
use alys_stream_transport::tls::{self, Authorities, Identity, Pem, TlsConfigError};
use rustls::ClientConfig;

use crate::error::unreadable;
use crate::{ConfigError, NodeConfig, TlsSection, files};

/// A checked configuration, with the files it names read and checked.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration itself, its paths resolved.
    pub config: NodeConfig,
    /// What connections to governance are made with; `None` when every enabled endpoint is
    /// plaintext on loopback.
    pub tls: Option<Arc<ClientConfig>>,
    /// The federation in force at the first start.
    pub federation: Option<Federation>,
}

/// One file of the `tls` section.
struct PemFile {
    key: &'static str,
    path: String,
    bytes: Vec<u8>,
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
        let tls = self.tls.client_config()?;
        let needed = self.endpoints.iter().any(|at| at.enabled && at.url.is_tls());
        Ok(Loaded { tls: needed.then_some(tls), federation, config: self })
    }
}

impl TlsSection {
    fn client_config(&self) -> Result<Arc<ClientConfig>, ConfigError> {
        let ca = PemFile::read("tls.ca", self.ca.as_deref())?;
        let certificate = PemFile::read("tls.certificate", self.certificate.as_deref())?;
        let key = PemFile::read("tls.key", self.key.as_deref())?;
        if let Some(key) = &key {
            key.check_not_encrypted()?;
        }
        let private = ca.as_ref().map(|ca| [ca.pem()]);
        let authorities =
            private.as_ref().map_or(Authorities::Public, |ca| Authorities::Private(ca));
        let identity = certificate
            .as_ref()
            .zip(key.as_ref())
            .map(|(certificate, key)| Identity { certificates: certificate.pem(), key: key.pem() });
        let files = [&certificate, &key, &ca];
        tls::client_config(authorities, identity).map_err(|error| tls_error(&error, &files))
    }
}

impl PemFile {
    fn read(key: &'static str, path: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        let Some(path) = path else {
            return Ok(None);
        };
        let bytes = files::read(path).map_err(|error| unreadable(key, path, &error))?;
        Ok(Some(Self { key, path: path.display().to_string(), bytes }))
    }

    fn pem(&self) -> Pem<'_> {
        Pem { label: &self.path, bytes: &self.bytes }
    }

    /// PKCS#8 says so in its title, the older forms in a header.
    fn check_not_encrypted(&self) -> Result<(), ConfigError> {
        let has = |mark: &[u8]| self.bytes.windows(mark.len()).any(|window| window == mark);
        if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
            let what = format!("the key in {} is encrypted", self.path);
            let cure = "decrypt it (openssl pkey -in OLD -out NEW), and let only the node read it";
            return Err(ConfigError::invalid(self.key, what, cure));
        }
        Ok(())
    }
}

fn tls_error(error: &TlsConfigError, files: &[&Option<PemFile>]) -> ConfigError {
    let text = error.to_string();
    let key_of = |label: &str| {
        let named = files.iter().copied().flatten().find(|file| file.path == label);
        named.map_or("tls", |file| file.key)
    };
    let (key, cure) = match error {
        TlsConfigError::Pem { label, .. } => (key_of(label), "export it again in PEM form"),
        TlsConfigError::NoCertificate { label } => (key_of(label), "name a file with certificates"),
        TlsConfigError::NoKey { .. } => ("tls.key", "name the file with the key"),
        TlsConfigError::Authority { .. } | TlsConfigError::NoAuthorities => {
            ("tls.ca", "name the file with the certificate of the authority")
        }
        TlsConfigError::Identity { .. } => {
            ("tls.key", "use the key that the certificate was made for")
        }
        TlsConfigError::Parameters(_) => ("tls", "use another certificate and key"),
    };
    // The cure may be a part of the text already.
    let what = text.strip_suffix(&format!("; {cure}")).unwrap_or(&text);
    ConfigError::invalid(key, what, cure)
}
